"""Weights of tiny models that are the same on every machine: by their names and a frozen stream of numbers.

What a library initialises a new model with depends on its version and on torch's random numbers, and leaves
zeros and ones in many layers, whose mistakes nobody would see.
"""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

_MATRIX = 2
# Deep networks of convolutions halve what tells pictures apart in every block: gates and SiLU do.
_OF_CONVOLUTIONS = 1.7


def seeded(folder: Path) -> Path:
    """The folder of a model, all of whose numbers are seeded by the names of its weights."""
    for file in sorted(folder.rglob("*.safetensors")):
        weights = {name: _numbers(name, value) for name, value in load_file(file).items()}
        save_file(weights, file, metadata={"format": "pt"})
    return folder


def digest(folder: Path) -> str:
    """Of all weights of a model: their names, shapes and numbers."""
    total = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        for name, value in sorted(load_file(file).items()):
            total.update(f"{name} {value.dtype} {value.shape} ".encode() + value.tobytes())
    return total.hexdigest()[:16]


def _numbers(name: str, value: np.ndarray) -> np.ndarray:
    """Of about the size that keeps a network's states at 1: by the number of inputs of a layer, and near 1
    if states are scaled."""
    if value.dtype != np.float32:
        return value
    # Numpy keeps this generator's numbers as they are for good.
    uniform = np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, value.shape)
    if value.ndim > 1:
        gain = _OF_CONVOLUTIONS if value.ndim > _MATRIX else 1.0
        uniform *= gain * np.sqrt(3 / np.prod(value.shape[1:]))
    elif name.endswith(("running_var", "weight", "gamma", "lambda1", "lambda2")):
        uniform = 1 + 0.2 * uniform
    else:
        uniform *= 0.2
    return uniform.astype(np.float32)

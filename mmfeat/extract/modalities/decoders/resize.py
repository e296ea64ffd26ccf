"""Resizing by torch's antialiased uint8 kernel, and of few pictures without torch, bilinear and bicubic.

Importing torch takes as long as resizing a hundred pictures without it, to the same pixels: the kernel
multiplies by weights that are rounded to whole numbers of 16 bits, and sums exactly, so whoever has the same
weights has the same pixels (ATen/native/cpu/UpSampleKernel.cpp, ``_compute_index_ranges_int16_weights``, and
UpSampleKernelAVXAntialias.h). Where a weight lies so near to the middle of two whole numbers that the
compiler's order of operations may have decided, torch is asked.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mmfeat.schemas.inputs import Interpolation

#: Passes without torch, two for a picture, from which on importing it saves time.
TORCH_PAYS_FROM = 128

# Of a weight from the middle of two whole numbers. Float64 errs by 1e-10 of it at most.
_DOUBT = 1e-7
_MOST_WEIGHT, _MOST_BITS = 1 << 15, 22
# Of one matrix product: outputs that read nearly the same inputs, and lines that stay in the cache.
_OUTPUTS, _LINES = 32, 64

_passes = 0


class TorchNeeded(BaseException):
    """Pixels are to be resized by torch, which is not imported. That takes seconds and memory that are none
    of an item's, so it is left to who bounds these: import torch and ask again. No error of an item."""


def torch_pays() -> bool:
    """Whether this process has resized so much without torch that importing it saves time."""
    return _passes >= TORCH_PAYS_FROM and "torch" not in sys.modules


def resized(pixels: np.ndarray, size: tuple[int, int], interpolation: Interpolation) -> np.ndarray:
    """Pixels in another size, rows resized before columns.

    Args:
        pixels: uint8 ``[height, width, 3]``.
        size: ``(height, width)``.
        interpolation: ``bilinear``, ``bicubic``, or ``lanczos``, torch's own and another than Pillow's.

    Returns:
        uint8 ``[*size, 3]``.

    Raises:
        TorchNeeded: see there.
    """
    global _passes
    if pixels.shape[:2] == size:
        return pixels
    if "torch" in sys.modules:
        return _by_torch(pixels, size, interpolation)
    if interpolation not in _FILTERS:
        raise TorchNeeded
    for axis in (1, 0):
        if pixels.shape[axis] != size[axis]:
            _passes += 1
            pixels = _by_numpy(pixels, axis, size[axis], interpolation)
    return pixels


def _by_torch(pixels: np.ndarray, size: tuple[int, int], interpolation: Interpolation) -> np.ndarray:
    import torch

    planes = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    found = torch.nn.functional.interpolate(planes, size, mode=interpolation, antialias=True)
    return np.asarray(found[0].permute(1, 2, 0).numpy())


def _by_numpy(pixels: np.ndarray, axis: int, length: int, interpolation: Interpolation) -> np.ndarray:
    """One pass. Float64 holds every sum of the whole numbers exactly, in whatever order it is made."""
    weights = _Weights.of(pixels.shape[axis], length, interpolation)
    found = np.empty((*pixels.shape[:axis], length, *pixels.shape[axis + 1 :]), np.uint8)
    source, target = np.moveaxis(pixels, axis, -1), np.moveaxis(found, axis, -1)
    matrices = list(weights.matrices())
    for first in range(0, len(source), _LINES):
        some = target[first : first + _LINES]
        lines = source[first : first + _LINES].reshape(-1, source.shape[-1]).astype(np.float64)
        for read, written, matrix in matrices:
            sums = lines[:, read] @ matrix
            rounded = np.floor((sums + (1 << weights.bits >> 1)) * 0.5**weights.bits)
            some[..., written] = np.clip(rounded, 0, 255).reshape(*some.shape[:-1], -1)
    return found


@dataclass(frozen=True)
class _Weights:
    """The kernel's weights along one axis.

    Attributes:
        inputs: how many there are.
        first: the first input of each output, ``[outputs]``.
        whole: weights of the inputs from there on, whole numbers, ``[outputs, taps]``.
        bits: how often a weight was doubled before it was rounded.
    """

    inputs: int
    first: np.ndarray
    whole: np.ndarray
    bits: int

    @classmethod
    def of(cls, inputs: int, outputs: int, interpolation: Interpolation) -> _Weights:
        """TorchNeeded where rounding is in doubt."""
        scale = inputs / outputs
        reach = max(scale, 1.0)
        support = reach * (2 if interpolation == "bicubic" else 1)
        centres = scale * (np.arange(outputs) + 0.5)
        first = np.maximum((centres - support + 0.5).astype(np.int64), 0)
        ends = np.minimum((centres + support + 0.5).astype(np.int64), inputs)
        taps = first[:, None] + np.arange((ends - first).max())
        exact = _FILTERS[interpolation](np.abs(taps - centres[:, None] + 0.5) / reach)
        exact = np.where(taps < ends[:, None], exact, 0.0)
        exact /= exact.sum(axis=1, keepdims=True)
        bits = _bits(float(exact.max()))
        doubled = np.ldexp(np.abs(exact), bits)
        if np.abs(doubled % 1 - 0.5).min() < _DOUBT:
            raise TorchNeeded
        return cls(inputs, first, np.copysign(np.floor(doubled + 0.5), exact), bits)

    def matrices(self) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """Some inputs, the outputs that are made of them alone, and their weights ``[inputs, outputs]``."""
        outputs, taps = self.whole.shape
        for start in range(0, outputs, _OUTPUTS):
            own = slice(start, min(start + _OUTPUTS, outputs))
            places = self.first[own, None] - self.first[start] + np.arange(taps)
            matrix = np.zeros((int(places.max()) + 1, own.stop - start))
            matrix[places, np.arange(own.stop - start)[:, None]] = self.whole[own]
            # Taps behind the last input weigh nothing.
            read = slice(int(self.first[start]), min(int(self.first[start]) + len(matrix), self.inputs))
            yield read, own, matrix[: read.stop - read.start]


def _bits(most: float) -> int:
    """How often weights of up to ``most`` can be doubled within 16 bits."""
    for bits in range(_MOST_BITS):
        doubled = math.ldexp(most, bits + 1) + 0.5
        if abs(doubled - _MOST_WEIGHT) < _DOUBT:
            raise TorchNeeded
        if doubled >= _MOST_WEIGHT:
            return bits
    return _MOST_BITS


def _triangle(distance: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(1 - distance, 0))


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic with a = -0.5."""
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))


_FILTERS = {"bilinear": _triangle, "bicubic": _cubic}

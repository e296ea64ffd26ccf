"""Vectors as whole numbers of a byte, each with a scale of its own: a quarter of float32, or half of float16.

A vector's largest number becomes 127 or -127 and the others the nearest whole number of that scale, zero
among them: symmetric quantization with a scale per vector. A stored vector is its numbers and behind them the
four bytes of its scale, a little-endian float32. Cosines need no scale.
"""

from __future__ import annotations

import numpy as np

#: Beside the numbers of each vector.
SCALE_BYTES = 4

_SCALE = np.dtype("<f4")
_LARGEST = 127


def packed(vectors: np.ndarray) -> np.ndarray:
    """Finite ``[n, dims]`` as int8 ``[n, dims + 4]``."""
    exact = vectors.astype(np.float64)
    scales = (np.abs(exact).max(axis=1, initial=0) / _LARGEST).astype(_SCALE)
    # float32 holds no exact scale of vectors so small: they are zero.
    scales[scales < np.finfo(_SCALE).tiny] = 0
    divisors = np.where(scales > 0, scales, np.inf).astype(np.float64)
    numbers = np.clip(np.rint(exact / divisors[:, None]), -_LARGEST, _LARGEST).astype(np.int8)
    return np.hstack([numbers, scales[:, None].view(np.int8)])


def numbers_of(stored: np.ndarray) -> np.ndarray:
    """The whole numbers of stored vectors, without a copy: int8 ``[n, dims]``."""
    return stored[:, :-SCALE_BYTES]


def unpacked(stored: np.ndarray) -> np.ndarray:
    """float32 ``[n, dims]`` of stored vectors."""
    scales = np.ascontiguousarray(stored[:, -SCALE_BYTES:]).view(_SCALE)
    return np.asarray(numbers_of(stored).astype(np.float32) * scales.astype(np.float32))

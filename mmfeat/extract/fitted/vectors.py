"""Arithmetic on vectors that exports and transforms share: join, project, whiten, int8.

An item's result depends on its own vector and on nothing else: not on the batch, the number of threads or
the library that multiplies matrices. So an item whose vector is the same has the same result, bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# Rows handled at a time: bounds what is needed beside the vectors.
_BLOCK_ROWS = 4096
# Whole numbers up to 2 ** 53 are exact in float64.
_EXACT_BITS = 53

#: float ``[m, dims]`` blocks of vectors, as often as it is called.
Blocks = Callable[[], Iterator[np.ndarray]]


@dataclass(frozen=True)
class Principal:
    """The directions in which vectors differ most.

    Attributes:
        mean: float32 ``[d]``.
        components: float32 ``[dims, d]``, unit vectors; the largest entry of each is positive, as in
            scikit-learn, so that the result does not depend on the solver.
        variances: float32 ``[dims]`` along the components, of ``n - 1`` degrees of freedom.
        kept: float32 ``[dims]`` shares of the whole variance.
        average: of the variances of all ``d`` directions.
    """

    mean: np.ndarray
    components: np.ndarray
    variances: np.ndarray
    kept: np.ndarray
    average: float


def principal(blocks: Blocks, dims: int) -> Principal:
    """The first ``dims`` principal components, from the covariance, which is summed block by block."""
    mean, n = _mean(blocks)
    products = np.zeros((len(mean), len(mean)))
    for block in blocks():
        centred = block.astype(np.float64) - mean
        products += centred.T @ centred
    variances, vectors = np.linalg.eigh(products)
    variances, components = np.maximum(variances[::-1], 0), vectors.T[::-1][:dims]
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(dims), largest])[:, None]
    total = variances.sum()
    return Principal(
        mean=mean.astype(np.float32),
        components=components.astype(np.float32),
        variances=(variances[:dims] / max(n - 1, 1)).astype(np.float32),
        kept=(variances[:dims] / (total if total > 0 else 1)).astype(np.float32),
        average=float(total / max(n - 1, 1) / len(mean)),
    )


def projected(matrix: np.ndarray, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """float64 ``[n, dims]``: ``(matrix - mean) @ components.T``, each row by itself.

    Sums of floating-point numbers depend on their order, which a library chooses by the batch. So each factor
    is written as two whole numbers of as many bits (20 to 26) as keep every sum exact in float64: in whatever
    order, the sum is the same. The product of the two lower parts, some 1e-12 of the whole, is left out.
    """
    bits = (_EXACT_BITS - int(np.ceil(np.log2(max(matrix.shape[1], 2))))) // 2
    high, low, scale = _whole(components.astype(np.float64), bits)
    result = np.empty((len(matrix), len(components)))
    for start in range(0, len(matrix), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        own_high, own_low, own_scale = _whole(matrix[rows].astype(np.float64) - mean.astype(np.float64), bits)
        lower = own_high @ low.T + own_low @ high.T
        result[rows] = (own_high @ high.T + np.ldexp(lower, -bits)) * own_scale * scale.T
    return result


def _whole(matrix: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each row as whole numbers of at most ``bits`` bits, the next ``bits`` bits, and the powers of two
    ``[n, 1]`` that scale the first back."""
    exponents = np.frexp(np.abs(matrix).max(axis=1, keepdims=True))[1]
    shifted = np.ldexp(matrix, bits - exponents)
    high = np.rint(shifted)
    return high, np.rint(np.ldexp(shifted - high, bits)), np.ldexp(1.0, exponents - bits)


def normalized(matrix: np.ndarray) -> np.ndarray:
    """Each row with length 1, in its own dtype. A zero vector has no direction and stays zero."""
    norms = np.linalg.norm(matrix.astype(np.float32), axis=1, keepdims=True)
    return np.asarray((matrix / np.where(norms == 0, 1, norms)).astype(matrix.dtype))


def joined(parts: Sequence[np.ndarray], scales: Sequence[float] | None = None) -> np.ndarray:
    """float32 ``[n, sum of dims]``: the parts side by side, each normalised and times its scale."""
    return np.concatenate(_scaled(parts, scales), axis=1)


def summed(parts: Sequence[np.ndarray], scales: Sequence[float] | None = None) -> np.ndarray:
    """float32 ``[n, dims]``: the sum of the parts, each normalised and times its scale."""
    first, *others = _scaled(parts, scales)
    for other in others:
        first = first + other
    return first


def cut(matrix: np.ndarray, dims: int) -> np.ndarray:
    """The first ``dims`` numbers of each row, normalised again, in the matrix's dtype."""
    return normalized(matrix[:, :dims].astype(matrix.dtype))


def spread(blocks: Blocks) -> float:
    """Root of the mean squared distance of vectors, each normalised, from their mean."""

    def unit() -> Iterator[np.ndarray]:
        return (normalized(block.astype(np.float32)) for block in blocks())

    mean, n = _mean(unit)
    squares = sum(float(np.square(block - mean).sum()) for block in unit())
    return float(np.sqrt(squares / n))


def truncated(matrix: np.ndarray) -> np.ndarray:
    """int8: each row normalised, times 127, cut at the point, as in TAOBAO-MM's files."""
    return np.asarray(np.trunc(np.clip(_unit(matrix), -1, 1) * 127).astype(np.int8))


def rounded(matrix: np.ndarray) -> np.ndarray:
    """int8: each row normalised, times 127, rounded to the nearest."""
    return np.asarray(np.rint(np.clip(_unit(matrix), -1, 1) * 127).astype(np.int8))


def scaled_to_maximum(matrix: np.ndarray) -> np.ndarray:
    """int8: each row so that its largest magnitude is 127, rounded to the nearest."""
    return by_scales(matrix, scales_of(np.abs(matrix).max(axis=1)))


def scales_of(magnitudes: np.ndarray) -> np.ndarray:
    """float32: what a step of int8 stands for where 127 steps are the magnitude; 1 of a magnitude of 0."""
    return np.where(magnitudes > 0, magnitudes.astype(np.float32) / 127, 1).astype(np.float32)


def by_scales(matrix: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """int8: each row divided by its scale, ``[n]``, and rounded to the nearest."""
    return np.asarray(np.rint(matrix.astype(np.float32) / scales[:, None]).astype(np.int8))


def nearest_kept(before: np.ndarray, after: np.ndarray, k: int = 10) -> float | None:
    """Share of the ``k`` nearest rows by cosine that stay among the ``k`` nearest; None of too few rows."""
    if len(before) <= k:
        return None
    shared = 0
    for start in range(0, len(before), _BLOCK_ROWS):
        rows = np.arange(start, min(start + _BLOCK_ROWS, len(before)))
        for one, other in zip(_nearest(before, rows, k), _nearest(after, rows, k), strict=True):
            shared += len(np.intersect1d(one, other))
    return shared / (k * len(before))


def _nearest(matrix: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    unit = _unit(matrix)
    cosines = unit[rows] @ unit.T
    cosines[np.arange(len(rows)), rows] = -np.inf
    return np.argpartition(-cosines, k - 1, axis=1)[:, :k]


def _unit(matrix: np.ndarray) -> np.ndarray:
    return normalized(matrix.astype(np.float32))


def _scaled(parts: Sequence[np.ndarray], scales: Sequence[float] | None) -> list[np.ndarray]:
    unit = [_unit(part) for part in parts]
    if scales is None:
        return unit
    return [part * np.float32(scale) for part, scale in zip(unit, scales, strict=True)]


def _mean(blocks: Blocks) -> tuple[np.ndarray, int]:
    """float64 ``[d]``, and of how many vectors it is."""
    total: np.ndarray | float = 0.0
    n = 0
    for block in blocks():
        total, n = total + block.sum(axis=0, dtype=np.float64), n + len(block)
    return np.asarray(total / n), n

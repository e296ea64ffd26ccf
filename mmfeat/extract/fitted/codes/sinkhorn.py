"""Items that share all codes, told apart by their last one."""

from __future__ import annotations

import numpy as np

# LC-Rec's numbers (RUCAIBox/LC-Rec, index/main.py and index/generate_indices.py).
_ITERATIONS = 50
_ROUNDS = 20
# Keeps the widest distance from being divided by nothing if all are the same.
_LEAST_AMPLITUDE = 1e-5


def assign(distances: np.ndarray, epsilon: float, iterations: int = _ITERATIONS) -> np.ndarray:
    """``[n]`` codes by LC-Rec's rule: a share of every code for every item by Sinkhorn, and the largest.

    Distances are scaled to -1 to 1 around their middle first. In turn, every item's shares then add up to
    ``1 / n`` and every code's to ``1 / k`` (RUCAIBox/LC-Rec, index/models/vq.py and layers.py).

    Args:
        distances: squared ones, ``[n, k]``.
    """
    least, most = distances.min(), distances.max()
    middle = (most + least) / 2
    scaled = ((distances - middle) / (most - middle + _LEAST_AMPLITUDE)).astype(np.float64)
    n, k = scaled.shape
    # Logarithms of shares, times epsilon: shares themselves are beyond float64 where epsilon is small.
    shares = -scaled
    for _ in range(iterations):
        shares -= _log_of_sum(shares, epsilon, axis=1) + epsilon * np.log(n)
        shares -= _log_of_sum(shares, epsilon, axis=0) + epsilon * np.log(k)
    found: np.ndarray = shares.argmax(axis=1)
    return found


def _log_of_sum(shares: np.ndarray, epsilon: float, axis: int) -> np.ndarray:
    """The logarithm of a sum of shares, where both are logarithms times epsilon."""
    most = shares.max(axis=axis, keepdims=True)
    # What is too far for float64 adds nothing.
    with np.errstate(over="ignore", under="ignore"):
        sums = np.exp((shares - most) / epsilon).sum(axis=axis, keepdims=True)
    return np.asarray(most + epsilon * np.log(sums))


def spread(codes: np.ndarray, residuals: np.ndarray, codebook: np.ndarray, epsilon: float) -> np.ndarray:
    """``[n, levels]`` codes of which fewer are shared: LC-Rec's rule, on every group that shares all, until
    none does or 20 times.

    Args:
        codes: int32 ``[n, levels]``.
        residuals: ``[n, d]``: what the levels before the last left over.
        codebook: ``[k, d]`` of the last level.
    """
    codes = codes.copy()
    for _ in range(_ROUNDS):
        groups = _sharing(codes)
        if not groups:
            break
        for group in groups:
            codes[group, -1] = assign(_distances(residuals[group], codebook), epsilon)
    return codes


def nearest_free(
    codes: np.ndarray, residuals: np.ndarray, codebook: np.ndarray, taken: set[tuple[int, ...]]
) -> np.ndarray:
    """``[n, levels]`` codes in which an item whose codes are taken has the nearest last one that is not.

    For items that come later than the fit: nothing moves of those that are there. One after the other, so
    that they tell each other apart too; where every last code is taken, an item keeps its own.

    Args:
        taken: codes of others.
    """
    codes, taken = codes.copy(), set(taken)
    for row, code in enumerate(map(tuple, codes.tolist())):
        if code in taken:
            order = _distances(residuals[row : row + 1], codebook)[0].argsort(kind="stable")
            free = (last for last in order.tolist() if (*code[:-1], last) not in taken)
            codes[row, -1] = next(free, code[-1])
        taken.add(tuple(codes[row].tolist()))
    return codes


def _sharing(codes: np.ndarray) -> list[np.ndarray]:
    """The rows of every group whose codes are all the same, in their order."""
    _, group, sizes = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(group.reshape(-1), kind="stable")
    parts = np.split(order, np.cumsum(sizes)[:-1])
    return [part for part in parts if len(part) > 1]


def _distances(vectors: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Squared Euclidean ``[n, k]``."""
    own, others = (vectors**2).sum(axis=1)[:, None], (codebook**2).sum(axis=1)[None]
    found: np.ndarray = own + others - 2 * vectors @ codebook.T
    return found

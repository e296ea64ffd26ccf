"""Where k-means starts: k-means++ that draws many centroids for each pass over the vectors."""

from __future__ import annotations

import numpy as np

# Candidates whose distances to all vectors are one matrix product. With more, fewer of them are accepted.
_CANDIDATES = 64


def starts(vectors: np.ndarray, k: int, seed: int) -> np.ndarray:
    """``[k]`` rows of ``vectors`` as k-means++ draws them (Arthur and Vassilvitskii, SODA 2007): each with
    the probability of its squared distance to the nearest of those before it.

    Drawn one by one, each costs a pass over all vectors, which waits for memory and, on a busy machine, for
    the slowest thread. Here candidates are drawn together, by the distances as they were before the first of
    them, and are accepted in turn with the probability ``distance now / distance then``: rejection sampling,
    so what is drawn has the same distribution. The first of each batch is always accepted.

    Args:
        vectors: float32 ``[n, dims]``, at least ``k``; as much memory is taken again.
    """
    rng = np.random.default_rng(seed)
    # Lengths and products of vectors far from the origin would drown the distances between them.
    centred = vectors - vectors.mean(axis=0)
    lengths = np.einsum("nd,nd->n", centred, centred)
    rows = [int(rng.integers(len(vectors)))]
    nearest = _distances(centred, lengths, rows)[0]
    nearest[rows] = 0
    while len(rows) < k and nearest.any():
        _accept(rng, centred, lengths, nearest, rows, k)
    # Where fewer vectors differ than are asked for, some of the others are as good as any.
    others = np.setdiff1d(np.arange(len(vectors)), rows)[: k - len(rows)]
    return np.concatenate([np.array(rows), others])


def _accept(
    rng: np.random.Generator,
    centred: np.ndarray,
    lengths: np.ndarray,
    nearest: np.ndarray,
    rows: list[int],
    k: int,
) -> None:
    """Draw a batch of candidates, and add those that are accepted to ``rows``, up to ``k``.

    Args:
        nearest: ``[n]`` squared distances to the nearest of ``rows``; kept up to date.
    """
    candidates = _drawn(rng, nearest)
    bars = rng.random(len(candidates)) * nearest[candidates]
    bars[0] = -1
    for row, bar, distances in zip(
        candidates.tolist(), bars, _distances(centred, lengths, candidates), strict=True
    ):
        if len(rows) < k and nearest[row] > bar:
            rows.append(row)
            np.minimum(nearest, distances, out=nearest)
            # It is not drawn again, whatever rounding left.
            nearest[row] = 0


def _drawn(rng: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    """Rows, each drawn with the probability of its weight, with replacement."""
    ends = np.cumsum(weights, dtype=np.float64)
    found = np.searchsorted(ends, rng.random(_CANDIDATES) * ends[-1], side="right")
    return np.asarray(np.minimum(found, len(weights) - 1))


def _distances(vectors: np.ndarray, lengths: np.ndarray, rows: list[int] | np.ndarray) -> np.ndarray:
    """``[len(rows), n]`` squared distances of these rows to all, from the squares of their lengths."""
    found = (-2 * vectors[rows]) @ vectors.T
    found += lengths
    found += lengths[rows][:, None]
    return np.asarray(np.maximum(found, 0, out=found))

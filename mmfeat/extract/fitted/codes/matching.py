"""Which new code takes the place of which former one, so that as many items as can keep theirs."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmfeat.schemas.errors import MissingExtra


def places(before: np.ndarray, after: np.ndarray, codebook_size: int) -> np.ndarray:
    """``[levels, codebook_size]``: for each code of a level, the code that it is called from now on.

    A matching of the greatest weight between the codes of before and after, level by level, where a pair
    weighs the items that have both. Items tell more than distances of centroids would: they are there after
    the former codebooks went with a forgotten item, and where a level's residuals are others. Codes that no
    pair asks for keep their place where it is free.

    Args:
        before: ``[n, levels]``, the former codes of items.
        after: ``[n, levels]``, the new codes of the same items.
    """
    levels = after.shape[1]
    return np.array([_places(before[:, k], after[:, k], codebook_size) for k in range(levels)])


def kept(before: np.ndarray, after: np.ndarray) -> tuple[float, list[float]]:
    """The share of items that keep all their codes, and the share that keeps each level's."""
    same = before == after
    return float(same.all(axis=1).mean()), [float(share) for share in same.mean(axis=0)]


def _places(before: np.ndarray, after: np.ndarray, size: int) -> np.ndarray:
    pairs, shared = np.unique(after.astype(np.int64) * size + before, return_counts=True)
    new, old = np.divmod(pairs, size)
    place = np.full(size, -1)
    for one, other in zip(*_heaviest(new, old, shared, size), strict=True):
        place[one] = other
    free = np.setdiff1d(np.arange(size), place)
    stays = np.intersect1d(np.flatnonzero(place < 0), free)
    place[stays] = stays
    place[place < 0] = np.setdiff1d(free, stays)
    return place


def _heaviest(
    new: np.ndarray, old: np.ndarray, weight: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of a matching of the greatest weight, in which a code may stay without a partner."""
    scipy = _scipy()
    # Each code may take a stand-in of its own instead, which weighs nothing; the stand-ins of two codes
    # that pair take each other. So a full matching exists, and is found among few edges. Of matchings that
    # weigh the same, the one in which codes keep their place is wanted: it is worth less than an item.
    gain = 2 * size * weight + (new == old)
    alone, none = np.arange(size), np.zeros(size, gain.dtype)
    rows = np.concatenate([new, alone, size + alone, size + old])
    columns = np.concatenate([old, size + alone, alone, size + new])
    gains = np.concatenate([gain, none, none, np.zeros_like(gain)])
    # The solver takes an edge of cost 0 for none.
    costs = (gains.max(initial=0) + 1 - gains).astype(np.float64)
    graph = scipy.sparse.csr_array((costs, (rows, columns)), shape=(2 * size, 2 * size))
    one, other = scipy.sparse.csgraph.min_weight_full_bipartite_matching(graph)
    real = (one < size) & (other < size)
    return one[real], other[real]


def _scipy() -> Any:
    try:
        import scipy.sparse.csgraph
    except ImportError:
        raise MissingExtra("Fitting codes anew", "quantize", "scipy") from None
    return scipy

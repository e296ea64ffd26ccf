"""Metrics by the places of what was sought, a value per case; of full rankings, as torchmetrics defines them.

Where scores are equal, a metric is what it comes to on average over all orders of the equal ones: McSherry
and Najork, "Computing information retrieval performance measures efficiently in the presence of tied scores"
(2008). So vectors that are all alike score as a random order does, and never as one that happens to suit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmfeat.evaluate.cases import Places, Ragged


def hit_rate(places: Places, sought: Ragged, k: int) -> np.ndarray:
    """How likely any is among the first ``k``."""
    found: np.ndarray = _first_is(places, sought, k).sum(axis=1)
    return found


def recall(places: Places, sought: Ragged, k: int) -> np.ndarray:
    """Share of what is sought that is among the first ``k``."""
    within = np.clip((k - places.above) / places.equal, 0, 1)
    found: np.ndarray = _sums(within, sought) / sought.counts
    return found


def mrr(places: Places, sought: Ragged, k: int) -> np.ndarray:
    """One over the first one's rank; 0 if it is not among the first ``k``."""
    found: np.ndarray = _first_is(places, sought, k) @ (1 / np.arange(1, k + 1))
    return found


def ndcg(places: Places, sought: Ragged, k: int) -> np.ndarray:
    """Gain of those among the first ``k``, one over the logarithm to base 2 of rank + 1, over the best there
    is.
    """
    # Of the first ranks together: what equal ones share is the difference of two of these.
    gains = np.concatenate([[0], np.cumsum(1 / np.log2(np.arange(1, k + 1) + 1))])
    first, last = (
        np.minimum(rank, k).astype(np.int64) for rank in (places.above, places.above + places.equal)
    )
    mine = (gains[last] - gains[first]) / places.equal
    found: np.ndarray = _sums(mine, sought) / gains[np.minimum(sought.counts, k)]
    return found


def auc(places: Places, sought: Ragged, candidates: np.ndarray) -> np.ndarray:
    """Share of pairs of one that is sought and one that is not in which the first ranks higher.

    Args:
        candidates: ``[cases]``, how many items were ranked; NaN if all of them are sought.
    """
    m = sought.counts
    above = _sums(places.ranks, sought) - m * (m + 1) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(candidates > m, 1 - above / (m * (candidates - m)), np.nan)


def at(places: Places, sought: Ragged, depths: Sequence[int]) -> dict[str, np.ndarray]:
    """``hr@k``, ``ndcg@k`` and ``mrr@k`` for every depth."""
    measures = {"hr": hit_rate, "ndcg": ndcg, "mrr": mrr}
    return {f"{name}@{k}": one(places, sought, k) for name, one in measures.items() for k in depths}


def _first_is(places: Places, sought: Ragged, k: int) -> np.ndarray:
    """float64 ``[cases, k]``: how likely the first of what is sought has the rank 1, 2, ... ``k``.

    It is one of those that score highest. Of ``g`` equal items of which ``m`` are sought, the first ``i - 1``
    are others and the next one is not: a hypergeometric chance.
    """
    starts = sought.starts[:-1]
    above = np.minimum.reduceat(places.above, starts)
    best = places.above == np.repeat(above, sought.counts)
    equal = np.maximum.reduceat(np.where(best, places.equal, 0), starts)
    alike = np.minimum(np.add.reduceat(best.astype(np.float64), starts), equal)
    chances = np.zeros((len(sought), k))
    missed = np.ones(len(sought))
    for step in range(k):
        # Of those that are left, the next is one that is sought.
        left = equal - step
        hit = np.clip(alike / np.maximum(left, 1), 0, 1)
        rank = above + step
        rows = np.flatnonzero((rank < k) & (missed > 0))
        if not len(rows):
            break
        chances[rows, rank[rows].astype(np.int64)] = (missed * hit)[rows]
        missed = missed * (1 - hit)
    return chances


def _sums(values: np.ndarray, sought: Ragged) -> np.ndarray:
    found: np.ndarray = np.add.reduceat(values, sought.starts[:-1])
    return found

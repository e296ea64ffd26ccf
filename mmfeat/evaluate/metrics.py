"""Metrics by the ranks of what was sought, a value per case; of full rankings, as torchmetrics defines
them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmfeat.evaluate.cases import Ragged


def hit_rate(ranks: np.ndarray, sought: Ragged, k: int) -> np.ndarray:
    """1 where any is among the first ``k``."""
    return (_first(ranks, sought) <= k).astype(np.float64)


def recall(ranks: np.ndarray, sought: Ragged, k: int) -> np.ndarray:
    """Share of what is sought that is among the first ``k``."""
    found: np.ndarray = _sums((ranks <= k).astype(np.float64), sought) / sought.counts
    return found


def mrr(ranks: np.ndarray, sought: Ragged, k: int) -> np.ndarray:
    """One over the first one's rank; 0 where it is not among the first ``k``."""
    first = _first(ranks, sought)
    return np.where(first <= k, 1 / first, 0)


def ndcg(ranks: np.ndarray, sought: Ragged, k: int) -> np.ndarray:
    """Gain of those among the first ``k``, one over the logarithm to base 2 of rank + 1, over the best there
    is.
    """
    gains = np.where(ranks <= k, 1 / np.log2(ranks + 1), 0)
    best = np.cumsum(1 / np.log2(np.arange(1, k + 1) + 1))
    found: np.ndarray = _sums(gains, sought) / best[np.minimum(sought.counts, k) - 1]
    return found


def auc(ranks: np.ndarray, sought: Ragged, candidates: np.ndarray) -> np.ndarray:
    """Share of pairs of one that is sought and one that is not in which the first ranks higher.

    Args:
        candidates: ``[cases]``, how many items were ranked; NaN where all of them are sought.
    """
    m = sought.counts
    above = _sums(ranks, sought) - m * (m + 1) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(candidates > m, 1 - above / (m * (candidates - m)), np.nan)


def at(ranks: np.ndarray, sought: Ragged, depths: Sequence[int]) -> dict[str, np.ndarray]:
    """``hr@k``, ``ndcg@k`` and ``mrr@k`` for every depth."""
    measures = {"hr": hit_rate, "ndcg": ndcg, "mrr": mrr}
    return {f"{name}@{k}": one(ranks, sought, k) for name, one in measures.items() for k in depths}


def _first(ranks: np.ndarray, sought: Ragged) -> np.ndarray:
    found: np.ndarray = np.minimum.reduceat(ranks, sought.starts[:-1])
    return found


def _sums(values: np.ndarray, sought: Ragged) -> np.ndarray:
    found: np.ndarray = np.add.reduceat(values, sought.starts[:-1])
    return found

"""``item_item``: are the items near an item those that are taken together with it?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from mmfeat.evaluate import metrics
from mmfeat.evaluate.base import Values
from mmfeat.evaluate.cases import Cases, Places, Ragged
from mmfeat.evaluate.protocols.ranking import Ranking

# Of a user's history, so many of the last items are taken together with what was held out.
_TOGETHER = 5
# Of one query item: a popular one is taken together with thousands.
_MOST_SOUGHT = 5
DEPTHS = (10, 50, 100)


class ItemItem(Ranking):
    """Recall of held-out co-interactions among an item's nearest."""

    title: ClassVar[str] = "held-out co-interactions among an item's neighbours"
    main: ClassVar[str] = "recall@50"
    cases: ClassVar[str] = "query items"
    cost: ClassVar[int] = 2

    def make_cases(self) -> Cases:
        """See :meth:`Ranking.make_cases`: an item each that users had when they took what was held out."""
        split, n = self.task.split, self.task.log.n_items
        users = split.judged
        history = Ragged(split.train.items, split.train.starts).take(users).last(_TOGETHER)
        held = Ragged(split.test.items, split.test.starts).take(users)
        pairs = _pairs(history, held, n)
        # Drawn first, so that an item with many keeps any of them.
        pairs = self.task.rng(10).permutation(pairs)
        queries, owners = np.unique(pairs // n, return_inverse=True)
        sought = Ragged.grouped(owners, pairs % n, len(queries)).last(_MOST_SOUGHT)
        chosen = self.task.drawn(np.arange(len(queries)))
        itself = Ragged(queries, np.arange(len(queries) + 1))
        return Cases(itself, sought, itself).take(chosen)

    def measure(self, found: Places, sought: Ragged) -> Values:
        """See :meth:`Ranking.measure`."""
        return {f"recall@{k}": metrics.recall(found, sought, k) for k in DEPTHS}


def _pairs(history: Ragged, held: Ragged, n: int) -> np.ndarray:
    """Every pair of an item that a user had and one that was held out, ``first * n + second``, each once."""
    counts = history.counts[held.owners]
    mine = history.take(held.owners)
    pairs = mine.values * n + np.repeat(held.values, counts)
    return np.unique(pairs[pairs // n != pairs % n])

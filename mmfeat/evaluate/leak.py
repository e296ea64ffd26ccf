"""Does a feature know what was held out? Then it was made from it, and no figure of it counts."""

from __future__ import annotations

import numpy as np

from mmfeat.evaluate import metrics
from mmfeat.evaluate.base import Task
from mmfeat.evaluate.cases import Cases, Ragged
from mmfeat.evaluate.features import Feature
from mmfeat.evaluate.protocols.profile import LAST
from mmfeat.evaluate.spaces import places
from mmfeat.evaluate.statistics import difference

_USERS, _DEPTH, _DRAW = 2_000, 50, 30
# The last item is not much easier to foretell than the one before it: content does not change with time.
_TIMES, _P = 1.5, 1e-3
_LEAST = 10
# Of shorter histories all may be items that everybody is offered first, and tell nothing of taste.
_HISTORY = 3


class LeakCheck:
    """Foretells what was held out, and the last item before it, for the same users by the same items: those
    that came before both.

    Content tells both alike. Vectors that were made with the held-out interactions tell those much better.
    What was made from all interactions, earlier ones too, is not caught: it tells both well. Nor is what was
    made of pairs alone that follow each other directly, as the item just before is not asked by.

    Where whole items are held out, many users have the same one to find, and hang together. So items are
    counted there, each with the mean of its users.

    Attributes:
        unmade: why there is no check; empty if there is one.
    """

    def __init__(self, task: Task) -> None:
        self._seed = task.seed
        split = task.split
        users = split.judged[np.diff(split.train.starts)[split.judged] >= _HISTORY]
        users = np.sort(task.rng(_DRAW).permutation(users)[:_USERS])
        history = Ragged(split.train.items, split.train.starts).take(users)
        held = Ragged(split.test.items, split.test.starts).take(users)
        first = Ragged(held.values[held.starts[:-1]], np.arange(len(users) + 1))
        ends = history.starts[1:] - 1
        before = Ragged(history.values[ends], first.starts)
        earlier = Ragged(np.delete(history.values, ends), history.starts - np.arange(len(history.starts)))
        profile = earlier.last(LAST)
        # One item more that may be answered cannot make half as well again of the same content.
        self._held = Cases(profile, first, history)
        self._before = Cases(profile, before, earlier)
        each = first.values if split.rule == "cold" else np.arange(len(users))
        self._groups = np.unique(each, return_inverse=True)[1]
        self._unit, of = ("held-out items", " of users") if split.rule == "cold" else ("users", "")
        count = int(self._groups.max(initial=-1)) + 1
        self.unmade = (
            f"it takes {_LEAST} {self._unit}{of} with {_HISTORY} items before, and there are {count}"
            if count < _LEAST
            else ""
        )

    def __call__(self, feature: Feature) -> str:
        """Why a feature seems to know what was held out; empty if it does not."""
        if self.unmade:
            return ""
        space = feature.space()
        gains = [metrics.ndcg(places(space, one), one.sought, _DEPTH) for one in (self._before, self._held)]
        counts = np.bincount(self._groups)
        means = [np.bincount(self._groups, one) / counts for one in gains]
        found = difference(means[0], means[1], self._seed)
        before, held = (float(one.mean()) for one in means)
        if found.p >= _P or held < _TIMES * before:
            return ""
        return (
            f"It foretells what was held out (ndcg@{_DEPTH} {held:.4f}) much better than what the same "
            f"users took just before (ndcg@{_DEPTH} {before:.4f}; {found.cases:,} {self._unit}): it seems "
            "to be made from the held-out interactions."
        )

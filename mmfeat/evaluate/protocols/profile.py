"""``profile``: what a user takes next, by the mean of what they took last."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from mmfeat.evaluate import metrics
from mmfeat.evaluate.base import Values
from mmfeat.evaluate.cases import Cases, Places, Ragged
from mmfeat.evaluate.protocols.ranking import Ranking

#: Items at the end of a user's history that make the profile.
LAST = 10
DEPTHS = (10, 20, 50)


class Profile(Ranking):
    """HR, nDCG and MRR of what was held out, by cosine to the mean of a user's last item vectors."""

    title: ClassVar[str] = f"next items by the mean of a user's last {LAST}"
    main: ClassVar[str] = "ndcg@50"
    cost: ClassVar[int] = 3

    def make_cases(self) -> Cases:
        """See :meth:`Ranking.make_cases`: a user each; nobody is offered what they have."""
        split = self.task.split
        users = self.task.drawn(split.judged)
        history = Ragged(split.train.items, split.train.starts).take(users)
        sought = Ragged(split.test.items, split.test.starts).take(users)
        return Cases(history.last(LAST), sought, history)

    def measure(self, found: Places, sought: Ragged) -> Values:
        """See :meth:`Ranking.measure`."""
        return metrics.at(found, sought, DEPTHS)

    def measure_main(self, found: Places, sought: Ragged) -> np.ndarray:
        """See :meth:`Ranking.measure_main`."""
        return metrics.ndcg(found, sought, max(DEPTHS))

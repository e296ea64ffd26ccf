"""What protocols that rank all items by nearness share: controls, baselines and slices."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from mmfeat.evaluate.base import Measured, Protocol, Task, Values
from mmfeat.evaluate.cases import Cases, Places, Ragged
from mmfeat.evaluate.features import Feature
from mmfeat.evaluate.matrices import taken_by
from mmfeat.evaluate.shuffles import Trial, chance
from mmfeat.evaluate.spaces import Ordered, Space, Sparse, places

SHUFFLED, RANDOM, SAMPLE, TRIAL, TESTED = range(5)


class Ranking(Protocol):
    """Ranks all items for every case by the feature's own nearness."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.asked = self.make_cases()
        size = min(task.control, len(self.asked))
        self.sample = np.sort(task.rng(SAMPLE).permutation(len(self.asked))[:size])
        self.trial = Trial(
            self.asked,
            task.log.n_items,
            task.rng(TRIAL),
            self.measure_main,
        )

    @abstractmethod
    def make_cases(self) -> Cases:
        """What is asked."""

    @abstractmethod
    def measure(self, found: Places, sought: Ragged) -> Values:
        """The metrics by the places of what was sought."""

    def measure_main(self, found: Places, sought: Ragged) -> np.ndarray:
        """The main metric alone, which is asked a thousand times."""
        return self.measure(found, sought)[self.main]

    def judge(self, feature: Feature) -> Measured:
        """See :meth:`Protocol.judge`.

        Where rows are shuffled, every item lies where another lay: the places are the same, and only the
        questions are about others. So all shuffles are asked in one pass over the places.
        """
        space, few = feature.space(), self.asked.take(self.sample)
        found = places(space, self.asked)
        shuffled = self._shuffled(space, few)
        random = feature.random(self.task.rng(RANDOM)).space()
        return Measured(
            self.measure(found, self.asked.sought),
            self.sample,
            shuffled,
            self.measure(places(random, few), few.sought),
            self.sliced(found),
            chance(self.trial.values(space), self.trial.shuffled(space, self.task.rng(TESTED)), self.cases),
        )

    def baselines(self) -> dict[str, Values]:
        """See :meth:`Protocol.baselines`."""
        train = self.task.split.train
        spaces: dict[str, Space] = {
            "popularity": Ordered(train.popularity),
            "item-kNN": Sparse(taken_by(train)),
        }
        return {
            name: self.measure(places(space, self.asked), self.asked.sought) for name, space in spaces.items()
        }

    def sliced(self, found: Places) -> dict[str, np.ndarray]:
        """The main metric by what lies in a slice of what is sought."""
        sought = self.asked.sought
        values: dict[str, np.ndarray] = {}
        for name, within in self.task.slices.items():
            mine = within[sought.values]
            if mine.any():
                owners = np.unique(sought.owners[mine], return_inverse=True)[1]
                part = Ragged.grouped(owners, sought.values[mine], int(owners.max()) + 1)
                values[name] = self.measure(found.where(mine), part)[self.main]
        return values

    def _shuffled(self, space: Space, few: Cases) -> list[Values]:
        rng, n = self.task.rng(SHUFFLED), self.task.log.n_items
        orders = [rng.permutation(n) for _ in range(self.task.shuffles)]
        found = places(
            space, Cases(*(_moved(part, orders) for part in (few.known, few.sought, few.excluded)))
        )
        return [self.measure(one, few.sought) for one in found.split(len(orders))]


def _moved(part: Ragged, orders: Sequence[np.ndarray]) -> Ragged:
    """The same rows once for every order, with the items that lie there then."""
    values = np.concatenate([order[part.values] for order in orders])
    starts = [part.starts[1:] + k * part.starts[-1] for k in range(len(orders))]
    return Ragged(values, np.concatenate([[0], *starts]))

"""How often chance gives as much: the rank of a value among those of shuffled rows.

Where a vector has nothing to do with its item, every assignment of the vectors to the items is as likely as
the one that is there. So the share of shuffles that give as much is the p-value, whatever the metric's
distribution is; counted with the real one among them it is never 0 (Phipson and Smyth, "Permutation p-values
should never be zero", 2010).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from mmfeat.evaluate.cases import Cases, Places, Ragged
from mmfeat.evaluate.spaces import SLACK, Space

#: Shuffles of a test at most, so that p is 1 / 1,001 at least.
SHUFFLES = 1_000
#: With fewer cases, or with fewer of them in which anything is found, nothing is tested.
LEAST_CASES, LEAST_HITS = 20, 5
#: Cases of a test, items that each of them is ranked among, and items sought of a case, at most.
CASES, CANDIDATES, SOUGHT = 500, 256, 5
# After so many shuffles that give as much, p is known well enough: Besag and Clifford, "Sequential Monte
# Carlo p-values" (1991).
_ENOUGH = 20
# Two ways to add up the same values differ by less.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Chance:
    """What a test of a feature against its shuffled rows found.

    Attributes:
        p: how often shuffled rows give as much; None if that was not tested.
        shuffles: of the test.
        why: it was not tested; empty if it was.
    """

    p: float | None
    shuffles: int = 0
    why: str = ""


#: Of a protocol that makes no test.
UNTESTED = Chance(None, 0, "the protocol makes no test")


def chance(own: np.ndarray, shuffled: Iterable[float], cases: str) -> Chance:
    """The rank of the mean of a metric among those of shuffles.

    Args:
        own: by case; NaN are left out. More than 0 is a hit.
        shuffled: means of the same cases, a shuffle each; as many as are needed are taken.
        cases: what a case is, such as ``users``.
    """
    known = own[~np.isnan(own)]
    if len(known) < LEAST_CASES:
        return Chance(None, 0, f"a test takes {LEAST_CASES} {cases}, and there are {len(known)}")
    if (hits := np.count_nonzero(known > 0)) < LEAST_HITS:
        why = f"a test takes {LEAST_HITS} {cases} for whom something is found, and there are {hits}"
        return Chance(None, 0, why)
    least, reached = known.mean() - _ROUNDING, 0
    for count, value in enumerate(islice(shuffled, SHUFFLES), 1):
        reached += bool(value >= least)
        if reached == _ENOUGH:
            return Chance(reached / count, count)
    return Chance((reached + 1) / (SHUFFLES + 1), SHUFFLES)


class Trial:
    """Cases that are ranked again and again, so among few items: up to 256 that are drawn, the same ones for
    all. Where there are no more items than these, the ranking is the full one.

    Args:
        cases: all of them; at most 500 are drawn.
        measure: the metric, a value per case.
    """

    def __init__(
        self,
        cases: Cases,
        n_items: int,
        rng: np.random.Generator,
        measure: Callable[[Places, Ragged], np.ndarray],
    ) -> None:
        few = cases.take(np.sort(rng.permutation(len(cases))[:CASES]))
        self._cases = Cases(few.known, few.sought.last(SOUGHT), few.excluded)
        self._candidates = np.sort(rng.permutation(n_items)[:CANDIDATES])
        self._n_items, self._measure = n_items, measure
        place = np.full(n_items, -1)
        place[self._candidates] = np.arange(len(self._candidates))
        # What is sought is held against all candidates, and not twice against itself.
        self._barred = np.zeros((len(few), len(self._candidates)), bool)
        for part in (few.sought, few.excluded):
            among = place[part.values] >= 0
            self._barred[part.owners[among], place[part.values[among]]] = True

    def values(self, space: Space) -> np.ndarray:
        """The metric by case, of the items where they are."""
        return self._values(space, np.arange(self._n_items))

    def shuffled(self, space: Space, rng: np.random.Generator) -> Iterator[float]:
        """Its mean, with every item where another lay; without end."""
        while True:
            yield float(self._values(space, rng.permutation(self._n_items)).mean())

    def _values(self, space: Space, order: np.ndarray) -> np.ndarray:
        known, sought = (
            Ragged(order[part.values], part.starts) for part in (self._cases.known, self._cases.sought)
        )
        rows, owners = space.questions(known), sought.owners
        block = space.block(rows, order[self._candidates])
        block[self._barred] = -np.inf
        slots = np.arange(len(owners)) - np.repeat(sought.starts[:-1], sought.counts)
        bounds = np.full((len(sought), int(sought.counts.max(initial=0))), np.nan, np.float32)
        bounds[owners, slots] = space.scores(rows, owners, sought.values)
        found = np.zeros((2, *bounds.shape))
        for k in range(bounds.shape[1]):
            bound = bounds[:, k, None]
            for scores in (block, bounds):
                found[0, :, k] += np.count_nonzero(scores > bound + SLACK, axis=1)
                found[1, :, k] += np.count_nonzero(scores >= bound - SLACK, axis=1)
        above, not_below = found[:, owners, slots]
        return self._measure(Places(above, np.maximum(not_below - above, 1)), sought)

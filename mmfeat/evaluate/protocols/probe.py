"""``probe``: can what users take together be read off a feature, for items that nobody has taken yet?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import ClassVar

import numpy as np

from mmfeat.evaluate import metrics
from mmfeat.evaluate.base import Measured, Protocol, Task, Values
from mmfeat.evaluate.cases import Places, Ragged
from mmfeat.evaluate.features import Feature
from mmfeat.evaluate.matrices import balanced, user_factors
from mmfeat.evaluate.shuffles import CASES, Chance, chance
from mmfeat.evaluate.spaces import Dense, places_of
from mmfeat.evaluate.splits import draw_items

#: Share of the items that the probe learns nothing from, and is judged by.
HELD_OUT = 0.2
FACTORS = 32
# More items make a line through some hundred dimensions no better.
_MOST_LEARNED = 100_000
_PENALTIES = 10.0 ** np.arange(-4, 4)
_CORRELATED_USERS, _CORRELATED_ITEMS = 500, 1_000
_HIDE, _FACTOR, _LEARN, _CONTROL, _RANDOM, _TESTED = range(20, 26)
# Scores that are ranked at a time.
_BLOCK = 1 << 22


class Probe(Protocol):
    """A ridge regression from vectors to factors of who takes what, judged on items that it has not seen.

    The factors are a truncated SVD of the interactions that are learned from, without the held-out items. A
    user's score of a held-out item is the product of the user's factors and those that the regression gives
    the item. ``auc``: how often an item that the user took (learned from or held out by the split: the probe
    saw neither) is scored above one that they did not. ``rank_correlation``: Spearman's, between these scores
    and those of the factors that the held-out item has by who took it.
    """

    title: ClassVar[str] = "a linear probe to co-consumption, on items that it has not seen"
    main: ClassVar[str] = "auc"
    chance: ClassVar[float] = 0.5
    cost: ClassVar[int] = 1
    takes_codes: ClassVar[bool] = False

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        hidden = draw_items(task.log.n_items, HELD_OUT, int(task.rng(_HIDE).integers(1 << 32)))
        self.held, seen = np.flatnonzero(hidden), np.flatnonzero(~hidden)
        train = task.split.train
        matrix = balanced(train.where(~hidden[train.items]))
        factors = user_factors(matrix, FACTORS, task.rng(_FACTOR))
        learned = seen[train.popularity[seen] > 0]
        if len(learned) > _MOST_LEARNED:
            learned = np.sort(task.rng(_LEARN).choice(learned, _MOST_LEARNED, replace=False))
        self.learned = learned
        self.targets = (matrix.T.tocsr()[learned] @ factors).astype(np.float32)
        self._ask(task, hidden, factors)

    def _ask(self, task: Task, hidden: np.ndarray, factors: np.ndarray) -> None:
        """Who is judged, by which of the held-out items, and what is true of these."""
        log = task.log
        asked = log.where(hidden[log.items])
        known = np.linalg.norm(factors, axis=1) > 1e-8
        users = task.drawn(np.flatnonzero(known & (np.diff(asked.starts) > 0)))
        place = np.cumsum(hidden) - 1
        self.sought = Ragged(place[asked.items], asked.starts).take(users)
        self.rows = _scaled(factors[users], np.linalg.norm(factors[users], axis=1, keepdims=True))
        self.sample = np.sort(task.rng(_CONTROL).permutation(len(users))[: task.control])
        popular = np.bincount(place[asked.items], minlength=len(self.held))
        self.correlated = np.flatnonzero(popular)[:_CORRELATED_ITEMS]
        self.truth = (balanced(asked).T.tocsr()[self.held[self.correlated]] @ factors).astype(np.float32)

    def judge(self, feature: Feature) -> Measured:
        """See :meth:`Protocol.judge`. Rows are shuffled among the items that are learned from, and among
        those that are held out, so that one decomposition serves all shuffles."""
        assert feature.vectors is not None, "codes are not asked for"
        own = _Ridge.of(feature.vectors[self.learned])
        held = feature.vectors[self.held]
        everybody = np.arange(len(self.rows))
        rng = self.task.rng(_CONTROL)
        shuffled = []
        for _ in range(self.task.shuffles):
            given = own.predict(self.targets[rng.permutation(len(self.targets))], held)
            shuffled.append(self._measure(given[rng.permutation(len(held))], self.sample))
        random = feature.random(self.task.rng(_RANDOM)).vectors
        assert random is not None
        drawn = _Ridge.of(random[self.learned]).predict(self.targets, random[self.held])
        given = own.predict(self.targets, held)
        return Measured(
            self._measure(given, everybody),
            self.sample,
            shuffled,
            self._measure(drawn, self.sample),
            chance=self._chance(given),
        )

    def baselines(self) -> dict[str, Values]:
        """See :meth:`Protocol.baselines`: none, as nothing but a feature tells of items that nobody has
        taken.
        """
        return {}

    def _chance(self, given: np.ndarray) -> Chance:
        """The test of the AUC. Rows are shuffled among the held-out items alone, so that what was learned and
        every user's ranking of the rows stay as they are."""
        few = self.sample[:CASES]
        sought, n = self.sought.take(few), len(self.held)
        ranks = np.empty((len(few), n), np.float32)
        step = max(1, _BLOCK // max(n, 1))
        for at in range(0, len(few), step):
            ranks[at : at + step] = _mean_ranks(-(self.rows[few[at : at + step]] @ given.T))

        def values(order: np.ndarray) -> np.ndarray:
            above = ranks[sought.owners, order[sought.values]].astype(np.float64)
            places = Places(above, np.ones(len(above)))
            return metrics.auc(places, sought, np.full(len(few), n))

        rng = self.task.rng(_TESTED)
        shuffled = (float(np.nanmean(values(rng.permutation(n)))) for _ in count())
        return chance(values(np.arange(n)), shuffled, self.cases)

    def _measure(self, given: np.ndarray, cases: np.ndarray) -> Values:
        """Metrics of some users with these factors of the held-out items."""
        rows, sought = self.rows[cases], self.sought.take(cases)
        nobody = Ragged(np.empty(0, np.int64), np.zeros(len(cases) + 1, np.int64))
        found = places_of(
            Dense(_scaled(given, np.linalg.norm(given, axis=1).max(initial=0))), rows, sought, nobody
        )
        correlation = np.full(len(cases), np.nan)
        few = rows[:_CORRELATED_USERS]
        correlation[: len(few)] = _rank_correlation(few @ given[self.correlated].T, few @ self.truth.T)
        return {
            "auc": metrics.auc(found, sought, np.full(len(cases), len(self.held))),
            "rank_correlation": correlation,
        }


@dataclass(frozen=True)
class _Ridge:
    """The decomposition of what is learned from: any number of targets is solved with it.

    Attributes:
        mean: of the features.
        turned: ``[items, dims]``, centred and along the eigenvectors.
        values: the eigenvalues; vectors: the eigenvectors, one a column.
        penalties: what is added to the eigenvalues, one of these is chosen.
        freedom: ``[items, penalties]``, one less the leverage: how little an item decides of its own value.
    """

    mean: np.ndarray
    turned: np.ndarray
    values: np.ndarray
    vectors: np.ndarray
    penalties: np.ndarray
    freedom: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> _Ridge:
        mean = features.mean(axis=0)
        centred = features - mean
        values, vectors = np.linalg.eigh(centred.T @ centred)
        values, turned = np.maximum(values, 0), centred @ vectors
        penalties = (_PENALTIES * max(float(values.mean()), 1e-12)).astype(np.float32)
        leverages = np.square(turned) @ (1 / (values[:, None] + penalties))
        return cls(mean, turned, values, vectors, penalties, np.maximum(1 - leverages, 1e-6))

    def predict(self, targets: np.ndarray, features: np.ndarray) -> np.ndarray:
        """What is expected of ``features``, less the targets' mean: it is the same for all."""
        targets = targets - targets.mean(axis=0)
        along = self.turned.T @ targets
        errors = [self._left_out_error(k, along, targets) for k in range(len(self.penalties))]
        penalty = self.penalties[int(np.argmin(errors))]
        weights = self.vectors @ (along / (self.values + penalty)[:, None])
        expected: np.ndarray = ((features - self.mean) @ weights).astype(np.float32)
        return expected

    def _left_out_error(self, k: int, along: np.ndarray, targets: np.ndarray) -> float:
        """Squared error of each item by a regression without it, which the leverages give at once."""
        given = self.turned @ (along / (self.values + self.penalties[k])[:, None])
        apart = (targets - given) / self.freedom[:, k, None]
        return float(np.einsum("ij,ij->", apart, apart))


def _scaled(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Over a length, if there is one: equal scores are told by a fixed slack."""
    scaled: np.ndarray = (values / np.where(by > 0, by, 1)).astype(np.float32)
    return scaled


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's, of each row, on average over all orders of values that are equal: 0 if all are. NaN
    if there are fewer than 3."""
    n = a.shape[1]
    if n < 3:
        return np.full(len(a), np.nan)
    x, y = (_mean_ranks(one) - (n - 1) / 2 for one in (a, b))
    found: np.ndarray = (x * y).sum(axis=1) / (n * (n * n - 1) / 12)
    return found


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    """float64, of each row from 0 on; equal ones have the mean of theirs."""
    order = np.argsort(values, axis=1)
    ascending = np.take_along_axis(values, order, axis=1)
    slack = 2e-6 * np.abs(values).max(axis=1, keepdims=True)
    starts = np.ones(values.shape, bool)
    starts[:, 1:] = np.diff(ascending, axis=1) > slack
    group = np.cumsum(starts) - 1
    mean = np.bincount(group, np.tile(np.arange(values.shape[1]), len(values))) / np.bincount(group)
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, mean[group].reshape(values.shape), axis=1)
    return ranks

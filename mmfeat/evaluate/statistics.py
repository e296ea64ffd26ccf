"""How sure a figure is: intervals over users, paired differences, and what shuffled rows give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmfeat.evaluate.shuffles import Chance

#: An interval holds the true value in so many of a hundred cases; a test is wrong in the rest of them.
LEVEL = 0.95
ALPHA = 1 - LEVEL
_DRAWS = 1_000
_BLOCK = 50


@dataclass(frozen=True)
class Estimate:
    """A mean with its bootstrap interval over users (or query items).

    Attributes:
        low, high: between them the true mean lies in 95 of 100 cases.
        cases: how many users or query items it is the mean of.
    """

    mean: float
    low: float
    high: float
    cases: int


@dataclass(frozen=True)
class Difference:
    """Of two figures of the same users.

    Attributes:
        p: of a paired t-test, two-sided: how often chance alone gives as much; and no less than as many
            differences that are not 0 allow, each of which chance could have turned round.
        effect: the mean over the standard deviation of a user's difference (Cohen's d of pairs); 0 if all
            users differ by the same.
    """

    mean: float
    low: float
    high: float
    p: float
    effect: float
    cases: int


@dataclass(frozen=True)
class Lift:
    """What vectors give more than the same ones in shuffled rows.

    Attributes:
        p: how often shuffled rows give as much, of one protocol; None if that was not tested.
        tested: shuffles of the test; untested: why there was none, empty if there was.
        effect: how many standard deviations of the shuffles the value lies above them; None of a single one.
        ratio: the value over the shuffles' mean; low, high: its interval over users. None if they gave
            nothing.
    """

    p: float | None
    tested: int
    untested: str
    effect: float | None
    ratio: float | None
    low: float | None
    high: float | None


def estimates(values: Sequence[np.ndarray], seed: int) -> list[Estimate]:
    """Means of values of the same cases; NaN are left out.

    Args:
        values: ``[cases]`` each.
    """
    drawn = _resampled(values, seed)
    return [
        Estimate(float(np.nanmean(one)), *_interval(means), int(np.count_nonzero(~np.isnan(one))))
        if not np.isnan(one).all()
        else Estimate(np.nan, np.nan, np.nan, 0)
        for one, means in zip(values, drawn, strict=True)
    ]


def difference(a: np.ndarray, b: np.ndarray, seed: int) -> Difference:
    """``b - a``, of the cases in which both have a value."""
    apart = (b - a)[~np.isnan(b - a)]
    if len(apart) < 2:
        return Difference(0.0, 0.0, 0.0, 1.0, 0.0, len(apart))
    mean, spread = float(apart.mean()), float(apart.std(ddof=1))
    low, high = _interval(_resampled([apart], seed)[0])
    # Of all ways to turn round the differences, this one and its opposite.
    least = min(1.0, 2.0 ** (1 - int(np.count_nonzero(apart))))
    if spread == 0:
        return Difference(mean, low, high, least, 0.0, len(apart))
    p = 2 * _beyond(abs(mean) / spread * np.sqrt(len(apart)), len(apart) - 1)
    return Difference(mean, low, high, max(p, least), mean / spread, len(apart))


def relative_drop(current: np.ndarray, new: np.ndarray, seed: int) -> float:
    """The largest share of the current mean that may have been lost: at the upper end of the interval."""
    both = ~np.isnan(current) & ~np.isnan(new)
    before, after = _resampled([current[both], new[both]], seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = np.where(before > 0, 1 - after / before, 0)
    return float(np.quantile(lost, 1 - ALPHA / 2))


def lift(real: np.ndarray, shuffled: Sequence[np.ndarray], seed: int, chance: Chance) -> Lift:
    """``real`` against the same cases with shuffled rows.

    Rows that have nothing to do with the interactions are one more shuffle. So the value is held against the
    spread of whole shuffles, and not against that of users: what one shuffle gives different users hangs
    together.
    """
    tested = (chance.p, chance.shuffles, chance.why)
    if np.isnan(real).all():
        return Lift(*tested, None, None, None, None)
    means = np.array([np.nanmean(one) for one in shuffled])
    mine = float(np.nanmean(real))
    over = mean_of(shuffled)
    ratio = low = high = None
    if means.mean() > 0:
        a, b = _resampled([real, over], seed)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = np.where(b > 0, a / b, np.nan)
        ratio = mine / float(means.mean())
        low, high = (float(x) for x in np.nanquantile(ratios, (ALPHA / 2, 1 - ALPHA / 2)))
    if len(means) < 2:
        return Lift(*tested, None, ratio, low, high)
    spread = float(means.std(ddof=1))
    if spread == 0:
        return Lift(*tested, 0.0 if mine <= means.mean() else None, ratio, low, high)
    return Lift(*tested, (mine - float(means.mean())) / spread, ratio, low, high)


def mean_of(values: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of each case over several measurements; NaN if none has a value."""
    table = np.stack(values)
    known = ~np.isnan(table)
    with np.errstate(invalid="ignore"):
        means: np.ndarray = np.where(known, table, 0).sum(axis=0) / known.sum(axis=0)
    return means


def holm(ps: Sequence[float]) -> list[float]:
    """The same p-values where as many tests were made, by Holm's rule: none is too small by chance."""
    order = np.argsort(ps)
    found = np.empty(len(ps))
    worst = 0.0
    for place, k in enumerate(order):
        worst = max(worst, min(1.0, ps[k] * (len(ps) - place)))
        found[k] = worst
    return [float(p) for p in found]


def _resampled(values: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """Means of the same cases drawn with replacement, ``[values, draws]``."""
    table = np.stack(values)
    known = ~np.isnan(table)
    filled = np.where(known, table, 0).T
    rng = np.random.default_rng(seed)
    n = table.shape[1]
    found = np.empty((len(values), _DRAWS))
    for at in range(0, _DRAWS, _BLOCK):
        # How often each case is drawn: close to a Poisson number, and much cheaper than the draws themselves.
        times = rng.poisson(1.0, (_BLOCK, n))
        with np.errstate(divide="ignore", invalid="ignore"):
            found[:, at : at + _BLOCK] = ((times @ filled) / (times @ known.T.astype(float))).T
    return found


def _interval(means: np.ndarray) -> tuple[float, float]:
    low, high = np.nanquantile(means, (ALPHA / 2, 1 - ALPHA / 2))
    return float(low), float(high)


def _beyond(t: float, freedom: int) -> float:
    """How often Student's t is above ``t``."""
    from scipy.special import stdtr

    return float(stdtr(freedom, -t))

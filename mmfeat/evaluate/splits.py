"""What of the interactions is learned from, and what is held out to be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mmfeat.evaluate.log import Log
from mmfeat.schemas.errors import UsageError

#: Of the interactions in time, and of the items: the share that is held out.
TIME_SHARE, COLD_SHARE = 0.1, 0.1


@dataclass(frozen=True)
class Split:
    """Interactions to learn from, and those that are held out. No pair of user and item is in both.

    Attributes:
        rule: the split's name.
        said: how it was made, in words.
    """

    rule: str
    said: str
    train: Log
    test: Log

    @cached_property
    def judged(self) -> np.ndarray:
        """Users of both parts: what was held out of a user without a history cannot be foretold."""
        return np.intersect1d(self.train.users, self.test.users)


def _last(log: Log, seed: int) -> tuple[np.ndarray, str]:
    ends = log.starts[log.users + 1]
    held = (ends - 1 == np.arange(len(log))) & (ends - log.starts[log.users] > 1)
    return held, "the last item of every user"


def _time(log: Log, seed: int) -> tuple[np.ndarray, str]:
    if log.times is None:
        raise UsageError(
            "A split in time needs the time of every interaction, and some have none.",
            hint="Use --split last, which takes the dataset's order, or --split cold.",
        )
    cut = np.quantile(log.times, 1 - TIME_SHARE, method="higher") if len(log) else 0
    moment = np.datetime_as_string(np.datetime64(int(cut), "ms"), unit="m")
    return log.times >= cut, f"all that was taken from {moment} UTC on"


def _cold(log: Log, seed: int) -> tuple[np.ndarray, str]:
    cold = draw_items(log.n_items, COLD_SHARE, seed)
    return cold[log.items], f"{int(cold.sum()):,} items altogether, drawn by seed {seed}"


_RULES: dict[str, Callable[[Log, int], tuple[np.ndarray, str]]] = {
    "last": _last,
    "time": _time,
    "cold": _cold,
}
SPLITS = tuple(_RULES)


def split(log: Log, rule: str, seed: int) -> Split:
    """Hold out a part of the interactions.

    Args:
        rule: ``last``: every user's last item. ``time``: the latest tenth of all interactions, at one moment
            for all users. ``cold``: all interactions with a tenth of the items, drawn by the seed.

    Raises:
        UsageError: a split in time where a time is not known, or nobody is left to be judged.
    """
    held, said = _RULES[rule](log, seed)
    made = Split(rule, said, log.where(~held), log.where(held))
    if not len(made.judged):
        raise UsageError(
            f"The split {rule!r} leaves no user with both a history and something to foretell.",
            hint="Evaluation needs users with two items or more; another --split may leave some.",
        )
    return made


def draw_items(n_items: int, share: float, seed: int) -> np.ndarray:
    """bool ``[n_items]``: a share of the items, at least one, drawn by a seed."""
    drawn = np.zeros(n_items, bool)
    drawn[np.random.default_rng(seed).permutation(n_items)[: max(1, round(n_items * share))]] = True
    return drawn

"""What a protocol is: one way to ask whether a feature helps to recommend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from mmfeat.evaluate.features import Feature
from mmfeat.evaluate.log import Log
from mmfeat.evaluate.shuffles import UNTESTED, Chance
from mmfeat.evaluate.splits import Split

#: Values by metric, one per case; NaN if a case has none.
Values = Mapping[str, np.ndarray]

#: Told what is done, in words, before it is.
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Task:
    """What is judged by, the same for all features.

    Attributes:
        log: all interactions with the items.
        split: what of them is learned from, and what is to be found.
        slices: items by the name of the slice that they are in: bool ``[items]``.
        most: users and query items are drawn by the seed where there are more.
        control: as many of these are judged with shuffled and random rows.
        shuffles: how often rows are shuffled by a protocol that trains nothing.
        ids: whether trained models have a vector of their own for every item, beside the feature's.
    """

    log: Log
    split: Split
    slices: Mapping[str, np.ndarray]
    seed: int = 0
    most: int = 10_000
    control: int = 1_000
    shuffles: int = 20
    ids: bool = False

    def drawn(self, cases: np.ndarray) -> np.ndarray:
        """At most :attr:`most` of them, by the seed, in their order."""
        if len(cases) <= self.most:
            return cases
        return np.sort(np.random.default_rng(self.seed).choice(cases, self.most, replace=False))

    def rng(self, part: int) -> np.random.Generator:
        """Random numbers for one part of the work, which do not hang on the others."""
        return np.random.default_rng([self.seed, part])


@dataclass(frozen=True)
class Measured:
    """What a protocol measured of one feature.

    Attributes:
        own: of all cases.
        sample: positions of the cases that the controls were made for.
        shuffled: of these with rows of the feature at other items, one per shuffle.
        random: of these with rows that were drawn.
        slices: of the cases of each slice, the main metric.
        chance: how often shuffled rows give as much of the main metric.
    """

    own: Values
    sample: np.ndarray
    shuffled: list[Values]
    random: Values
    slices: Mapping[str, np.ndarray] = field(default_factory=dict)
    chance: Chance = UNTESTED


class Protocol(ABC):
    """One protocol. It is registered in ``evaluate/registry.py`` by its name.

    What it learns from interactions without a feature is made once, when it is made.

    Args:
        task: what is judged by.
    """

    #: What it asks, in words.
    title: ClassVar[str]
    #: The metric that tests and comparisons are about.
    main: ClassVar[str]
    #: What of the main metric no more than chance gives.
    chance: ClassVar[float] = 0.0
    #: What a case is: ``users`` or ``query items``.
    cases: ClassVar[str] = "users"
    #: Its place in the order of cost.
    cost: ClassVar[int]
    #: Whether it takes codes.
    takes_codes: ClassVar[bool] = True
    #: The packages that it needs beside those of every protocol, and what ``pip install`` calls them.
    packages: ClassVar[tuple[str, ...]] = ()

    def __init__(self, task: Task) -> None:
        self.task = task

    @abstractmethod
    def judge(self, feature: Feature) -> Measured:
        """Measure one feature beside its controls."""

    @abstractmethod
    def baselines(self) -> dict[str, Values]:
        """What is had without any feature: ``popularity``, ``item-kNN``; those that the protocol can ask."""

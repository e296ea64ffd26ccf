"""What a transform is: one vector or several of an item to one vector."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import model_validator

from mmfeat.extract.base import Ask
from mmfeat.extract.fitted.base import Fitted
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.outputs import StoreDtype, VectorOut
from mmfeat.schemas.spec import FeatureSpec, Weights

# Vectors read at a time hold so many numbers: 128 MB of float32.
_BLOCK_NUMBERS = 1 << 25
# What is measured on a sample is measured on so many items.
_SAMPLE = 2_000


class FitOptions(Frozen):
    """Which items a transform learns from.

    Attributes:
        fit_on: ``all`` items with vectors, or ``train``: those with an interaction for training. So an
            evaluation on cold items sees nothing of these in what was fitted.
        split: which interactions are for training, as exports write it: ``time:2023-01-01,2023-02-01``,
            ``leave-one-out`` or ``ratio:0.8,0.1,0.1``; given for ``train`` and only there.
    """

    fit_on: Literal["all", "train"] = "all"
    split: str | None = None

    @model_validator(mode="after")
    def _split_goes_with_train(self) -> Self:
        if (self.fit_on == "train") != (self.split is not None):
            raise ValueError(
                'split is given for fit_on = "train" and only there: "time:2023-01-01,2023-02-01"'
            )
        return self


@dataclass(frozen=True)
class Vectors:
    """The vectors that a transform is fitted to, read as often as they are wanted.

    Attributes:
        n: items.
        dims: numbers of an item's vectors together.
        read: gives, of items by position, one float ``[m, dims]`` per input; NaN if an item lacks an
            optional one.
    """

    n: int
    dims: int
    read: Callable[[np.ndarray], tuple[np.ndarray, ...]]

    def blocks(self) -> Iterator[tuple[np.ndarray, ...]]:
        """All items, some at a time."""
        return (self.read(at) for at in in_blocks(np.arange(self.n), self.dims))

    def of(self, number: int) -> Callable[[], Iterator[np.ndarray]]:
        """The blocks of one input, of the items that have it."""

        def blocks() -> Iterator[np.ndarray]:
            found = (parts[number] for parts in self.blocks())
            return (kept for part in found if len(kept := part[has_vector(part)]))

        return blocks

    def sample(self) -> tuple[np.ndarray, ...]:
        """Some of the items, evenly among all."""
        return self.read(np.unique(np.linspace(0, self.n - 1, min(self.n, _SAMPLE)).astype(np.int64)))


def in_blocks(positions: np.ndarray, dims: int) -> Iterator[np.ndarray]:
    """Positions of items, as many at a time as their vectors of ``dims`` numbers allow."""
    rows = max(1, _BLOCK_NUMBERS // dims)
    return (positions[start : start + rows] for start in range(0, len(positions), rows))


def has_vector(part: np.ndarray) -> np.ndarray:
    """``[n]`` whether a row is there: of what an item lacks all numbers are NaN."""
    return np.asarray(~np.isnan(part).all(axis=1))


class Transform(Fitted):
    """A fitted transform. What it gives an item depends on the item's own vectors alone.

    Attributes:
        facts: what was measured when it was fitted, by name: plain JSON types.
    """

    #: What specs and the command line call it.
    method: ClassVar[str]

    def __init__(self, spec: FeatureSpec, state: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        self.spec = spec
        self.state = state
        self.facts = facts

    @classmethod
    @abstractmethod
    def fit(cls, spec: FeatureSpec, vectors: Vectors) -> Self:
        """Fit to vectors; UsageError where they are too few or have no spread."""

    @abstractmethod
    def apply(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """``[n, dims]`` of one float ``[n, dims]`` per input; NaN if an item lacks an optional one."""

    @classmethod
    def resolved(
        cls, ask: Ask[Any], dims: int, *, dtype: StoreDtype = "float32", options: dict[str, Any] | None = None
    ) -> FeatureSpec:
        """The recipe of a transform that gives ``dims`` numbers.

        Args:
            options: the resolved ones; the table's own when None.
        """
        return ask.spec(
            inputs=tuple(one.prepared() for one in ask.inputs),
            output=VectorOut(dims=dims, dtype=dtype),
            method_version=cls.method_version,
            model=f"{cls.method}:{dims}",
            weights=Weights(origin="fitted", ref="the vectors that are read"),
            options=ask.options.model_dump(mode="json") if options is None else options,
        )

    @classmethod
    def need_dims(cls, ask: Ask[Any], dims: int) -> int:
        """``dims``, which the vectors that are read have; ConfigError where these are shorter."""
        there = cls.need_vectors(ask).dims or 0
        if dims > there:
            raise ask.error(f"{ask.only.source} has {there} dims, so {dims} cannot be kept")
        return dims

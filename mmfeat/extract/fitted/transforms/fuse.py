"""Several vectors of an item as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from mmfeat.extract.base import Ask, Reads
from mmfeat.extract.fitted.transforms.base import FitOptions, Transform, Vectors, has_vector
from mmfeat.extract.fitted.vectors import joined, spread, summed
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.inputs import VECTOR
from mmfeat.schemas.spec import FeatureSpec, ModelCard


class FuseOptions(FitOptions):
    """How vectors become one.

    Attributes:
        mode: ``concat`` (side by side) or ``sum`` (of vectors with the same dims).
        scale: ``spread``: each input is divided by how far its normalised vectors lie from their mean, so
            that all count alike in distances, however narrow the cone is that a model's vectors lie in;
            ``unit``: they stay normalised, as a join of exports has them.
        weights: of the inputs, in their order, on top of that; all 1 when None.
    """

    mode: Literal["concat", "sum"] = "concat"
    scale: Literal["spread", "unit"] = "spread"
    weights: tuple[float, ...] | None = Field(default=None, min_length=2)


class Fuse(Transform):
    """Concatenation or weighted sum of vectors, each normalised first and scaled by the data.

    Of an input that an item may lack (``"speech_text?"``) and lacks, zeros stand in a concatenation, and a
    sum is of the others.
    """

    Options: ClassVar[type[FuseOptions]] = FuseOptions
    reads: ClassVar[tuple[Reads, ...]] = (Reads((VECTOR,), together=True),)
    method = "fuse"
    example = ModelCard(
        method="fuse",
        model="fuse:1152",
        reads=(VECTOR,),
        licence="Apache-2.0",
        weights_from="fitted to the vectors that are read",
        notes="The scale of each input comes from the data.",
    )

    @classmethod
    def resolve(cls, ask: Ask[FuseOptions]) -> FeatureSpec:
        """See :meth:`Fitted.resolve`."""
        if len(ask.inputs) < 2:
            raise ask.error("a fusion is of two features or more", 'Write inputs = ["one", "another"].')
        widths = [cls.vectors_of(ask, one).dims or 0 for one in ask.inputs]
        weights = ask.options.weights
        if weights is not None and len(weights) != len(widths):
            raise ask.error(f"{len(weights)} weights are given for {len(widths)} inputs")
        if weights is not None and (min(weights) < 0 or not np.isfinite(weights).all() or not any(weights)):
            raise ask.error("weights are numbers from 0 on, and not all of them 0")
        if ask.options.mode == "sum" and len(set(widths)) > 1:
            raise ask.error(
                f"a sum is of vectors with the same dims, and these have {', '.join(map(str, widths))}",
                'Write mode = "concat", or project them to the same dims first.',
            )
        return cls.resolved(ask, widths[0] if ask.options.mode == "sum" else sum(widths))

    @classmethod
    def fit(cls, spec: FeatureSpec, vectors: Vectors) -> Self:
        """See :meth:`Transform.fit`: UsageError where all vectors of an input have the same direction."""
        if spec.settings(FuseOptions).scale == "unit":
            return cls(spec, {}, {})
        found = [_spread(spec, name, vectors, number) for number, name in enumerate(spec.sources)]
        state = {"scale": (1 / np.array(found)).astype(np.float32)}
        return cls(spec, state, {"spread": dict(zip(spec.sources, found, strict=True))})

    def apply(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """See :meth:`Transform.apply`."""
        options = self.spec.settings(FuseOptions)
        filled = [np.where(has_vector(part)[:, None], part, 0) for part in parts]
        together = joined if options.mode == "concat" else summed
        return together(filled, self._scales(options))

    def _scales(self, options: FuseOptions) -> list[float] | None:
        if options.weights is None and not self.state:
            return None
        weights = np.array(options.weights or [1] * len(self.spec.inputs), np.float32)
        return list(weights * self.state.get("scale", np.float32(1)))


def _spread(spec: FeatureSpec, name: str, vectors: Vectors, number: int) -> float:
    if not any(len(block) for block in vectors.of(number)()):
        raise UsageError(f"{spec.name}: no item that it is fitted to has a vector in {name}.")
    found = spread(vectors.of(number))
    if found < 1e-6:
        raise UsageError(
            f"{spec.name}: all vectors of {name} have the same direction: their spread gives no scale.",
            hint='Leave it out, or write scale = "unit".',
        )
    return found

"""The first numbers of vectors that were trained to be cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
from pydantic import Field

from mmfeat.extract.base import Ask
from mmfeat.extract.fitted.transforms.base import Transform, Vectors
from mmfeat.extract.fitted.vectors import cut, nearest_kept
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.inputs import VECTOR
from mmfeat.schemas.spec import FeatureSpec, ModelCard


class TruncateOptions(Frozen):
    """How much stays.

    Attributes:
        dims: how many of the first numbers stay; they are normalised again.
    """

    dims: int = Field(gt=0)


class Truncate(Transform):
    """The first ``dims`` numbers, normalised again.

    Only vectors of a model trained for it (Matryoshka representation learning, arXiv 2205.13147) keep their
    meaning when cut; the share of the ten nearest that stay says how these do.
    """

    Options: ClassVar[type[TruncateOptions]] = TruncateOptions
    method = "truncate"
    example = ModelCard(
        method="truncate",
        model="truncate:256",
        reads=(VECTOR,),
        dims=256,
        licence="Apache-2.0",
        weights_from="nothing is fitted",
        notes="For Matryoshka vectors.",
    )

    @classmethod
    def resolve(cls, ask: Ask[TruncateOptions]) -> FeatureSpec:
        """See :meth:`Fitted.resolve`."""
        return cls.resolved(ask, cls.need_dims(ask, ask.options.dims))

    @classmethod
    def fit(cls, spec: FeatureSpec, vectors: Vectors) -> Self:
        """Measure; there is nothing to fit."""
        made = cls(spec, {}, {})
        (sample,) = vectors.sample()
        made.facts["nearest_kept"] = nearest_kept(sample, made.apply((sample,)))
        return made

    def apply(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """See :meth:`Transform.apply`."""
        return cut(parts[0].astype(np.float32), self.spec.dims or 0)

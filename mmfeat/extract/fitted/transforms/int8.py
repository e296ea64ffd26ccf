"""Vectors as whole numbers from -127 to 127, by one of three rules, with the loss measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import numpy as np

from mmfeat.extract.base import Ask
from mmfeat.extract.fitted.transforms.base import Transform, Vectors
from mmfeat.extract.fitted.vectors import nearest_kept, rounded, scaled_to_maximum, truncated
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.inputs import VECTOR
from mmfeat.schemas.spec import FeatureSpec, ModelCard

_RULES = {"maximum": scaled_to_maximum, "round": rounded, "truncate": truncated}


class Int8Options(Frozen):
    """By which rule: ``maximum``, ``round`` or ``truncate``.

    Attributes:
        rule: ``maximum`` makes the largest magnitude of a vector 127; ``round`` and ``truncate`` take 127
            times the normalised vector.
    """

    rule: Literal["maximum", "round", "truncate"] = "maximum"


class Int8(Transform):
    """Each vector as whole numbers from -127 to 127, which keep its direction.

    ``maximum`` makes the largest magnitude of each vector 127; ``round`` and ``truncate`` take 127 times the
    normalised vector to the nearest whole number or to the one nearer to zero, as TAOBAO-MM's files do. The
    share of the ten nearest that stay is measured when it is fitted. Stored as float16, which holds these
    numbers exactly.
    """

    Options: ClassVar[type[Int8Options]] = Int8Options
    method = "int8"
    example = ModelCard(
        method="int8",
        model="int8:maximum",
        reads=(VECTOR,),
        licence="Apache-2.0",
        weights_from="nothing is fitted",
        notes="The loss is measured and reported.",
    )

    @classmethod
    def resolve(cls, ask: Ask[Int8Options]) -> FeatureSpec:
        """See :meth:`Fitted.resolve`."""
        return cls.resolved(ask, cls.need_vectors(ask).dims or 0, dtype="float16")

    @classmethod
    def fit(cls, spec: FeatureSpec, vectors: Vectors) -> Self:
        """Measure the loss; there is nothing to fit."""
        made = cls(spec, {}, {})
        (sample,) = vectors.sample()
        made.facts["nearest_kept"] = nearest_kept(sample, made.apply((sample,)))
        return made

    def apply(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """See :meth:`Transform.apply`."""
        rule = _RULES[self.spec.settings(Int8Options).rule]
        return rule(parts[0]).astype(np.float16)

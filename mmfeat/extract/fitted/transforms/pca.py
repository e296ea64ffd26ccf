"""Principal components of vectors, and whitening."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
from pydantic import Field

from mmfeat.extract.base import Ask
from mmfeat.extract.fitted.transforms.base import FitOptions, Transform, Vectors
from mmfeat.extract.fitted.vectors import Principal, nearest_kept, principal, projected
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.inputs import VECTOR
from mmfeat.schemas.spec import FeatureSpec, ModelCard


class PcaOptions(FitOptions):
    """How many components stay.

    Attributes:
        dims: components that stay.
    """

    dims: int = Field(gt=0)


class Pca(Transform):
    """The first ``dims`` principal components, as scikit-learn's ``PCA`` and the projection of exports have
    them."""

    Options: ClassVar[type[FitOptions]] = PcaOptions
    method = "pca"
    example = ModelCard(
        method="pca",
        model="pca:128",
        reads=(VECTOR,),
        dims=128,
        licence="Apache-2.0",
        weights_from="fitted to the vectors that are read",
    )

    @classmethod
    def resolve(cls, ask: Ask[PcaOptions]) -> FeatureSpec:
        """See :meth:`Fitted.resolve`."""
        return cls.resolved(ask, cls.need_dims(ask, ask.options.dims))

    @classmethod
    def fit(cls, spec: FeatureSpec, vectors: Vectors) -> Self:
        """See :meth:`Transform.fit`: UsageError for fewer items than components, or vectors that agree."""
        found = _principal(spec, vectors)
        state = {"mean": found.mean, "components": found.components}
        made = cls(spec, state, {"variance_kept": float(found.kept.sum(dtype=np.float64))})
        (sample,) = vectors.sample()
        made.facts["nearest_kept"] = nearest_kept(sample, made.apply((sample,)))
        return made

    def apply(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """See :meth:`Transform.apply`."""
        return projected(parts[0], self.state["mean"], self.state["components"]).astype(np.float32)


class Project(Pca):
    """The same under the name that exports give it."""

    method = "project"
    example = Pca.example.model_copy(update={"method": "project", "model": "project:128"})


class WhitenOptions(FitOptions):
    """How strongly directions are made alike.

    Attributes:
        dims: components that stay; all when None.
        regularization: added to each variance, as a share of the average one: directions in which vectors
            hardly differ are mostly noise, and are not blown up. With 0 it is scikit-learn's
            ``PCA(whiten=True)``.
    """

    dims: int | None = Field(default=None, gt=0)
    regularization: float = Field(default=1e-3, ge=0, allow_inf_nan=False)


class Whiten(Transform):
    """Principal components, each divided by its standard deviation: no direction stands out any more."""

    Options: ClassVar[type[FitOptions]] = WhitenOptions
    method = "whiten"
    example = ModelCard(
        method="whiten",
        model="whiten:768",
        reads=(VECTOR,),
        dims=768,
        licence="Apache-2.0",
        weights_from="fitted to the vectors that are read",
        notes="Regularised; 0 is scikit-learn's.",
    )

    @classmethod
    def resolve(cls, ask: Ask[WhitenOptions]) -> FeatureSpec:
        """See :meth:`Fitted.resolve`."""
        return cls.resolved(ask, cls.need_dims(ask, ask.options.dims or cls.need_vectors(ask).dims or 0))

    @classmethod
    def fit(cls, spec: FeatureSpec, vectors: Vectors) -> Self:
        """See :meth:`Transform.fit`.

        Raises:
            UsageError: fewer items than components, vectors that agree, or, without regularisation, a
                direction in which no two items differ.
        """
        dims = spec.dims or 0
        found = _principal(spec, vectors)
        added = spec.settings(WhitenOptions).regularization * found.average
        variances = found.variances.astype(np.float64) + added
        # float32 vectors that agree differ by their rounding.
        if variances.min() <= 1e-9 * max(variances.max(), np.finfo(np.float32).tiny):
            raise UsageError(
                f"{spec.name}: {vectors.n:,} items do not differ in all {dims} directions of {spec.source},"
                " and what does not differ cannot be whitened.",
                hint="Keep fewer dims, or give a regularization above 0, such as 1e-3.",
            )
        state = {
            "mean": found.mean,
            "components": found.components,
            "scale": (1 / np.sqrt(variances)).astype(np.float32),
        }
        return cls(spec, state, {"variance_kept": float(found.kept.sum(dtype=np.float64))})

    def apply(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """See :meth:`Transform.apply`."""
        found = projected(parts[0], self.state["mean"], self.state["components"])
        return np.asarray((found * self.state["scale"]).astype(np.float32))


def _principal(spec: FeatureSpec, vectors: Vectors) -> Principal:
    """The components of the vectors that a transform is fitted to; UsageError if there are none."""
    dims = spec.dims or 0
    if dims > vectors.n:
        raise UsageError(
            f"{spec.name}: {vectors.n:,} items with {spec.source} are too few for {dims} components.",
            hint="Keep fewer dims, or fit on more items.",
        )
    found = principal(vectors.of(0), dims)
    # float32 vectors that agree differ by their rounding.
    if found.average <= 1e-13 * float(np.square(found.mean, dtype=np.float64).mean()):
        raise UsageError(
            f"{spec.name}: all vectors of {spec.source} are the same, and have no components.",
            hint=f"`mmfeat report vectors {spec.source}` shows what they are.",
        )
    return found

"""What a fitted feature is: it learns from the values that a store holds of another feature."""

from __future__ import annotations

from abc import ABC
from typing import Any, ClassVar

from mmfeat.extract.base import Ask, AskedInput, Reads, Resolvable
from mmfeat.schemas.inputs import VECTOR
from mmfeat.schemas.spec import FeatureSpec


class Fitted(Resolvable, ABC):
    """Resolves to a *recipe*: a spec whose weights are still to be fitted, and so have no digest.

    It is fitted once, and then applied to items that come later (:mod:`mmfeat.pipelines.fitted`). The digest
    of what was fitted is the weights' in the spec of the version.
    """

    reads: ClassVar[tuple[Reads, ...]] = (Reads((VECTOR,)),)
    #: Raised whenever the code would give other values for the same data and settings.
    method_version: ClassVar[int] = 1

    @classmethod
    def need_vectors(cls, ask: Ask[Any]) -> FeatureSpec:
        """The spec of the vectors that are read; ConfigError where it is no feature of one vector an item."""
        return cls.vectors_of(ask, ask.only)

    @classmethod
    def vectors_of(cls, ask: Ask[Any], one: AskedInput) -> FeatureSpec:
        """The spec of one input; ConfigError where it is no feature of one vector an item."""
        upstream = one.upstream
        if upstream is None or upstream.kind != "vector":
            kind = "a column" if upstream is None else f"of kind {upstream.kind!r}"
            raise ask.error(
                f"{ask.kind} {ask.method!r} reads a feature of kind 'vector', and {one.source!r} is {kind}",
                "`mmfeat status` lists the vector features.",
            )
        return upstream

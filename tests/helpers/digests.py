"""Methods that need no model: a text's value is its digest. ``plugin`` beside this file registers them.

A text with the word "broken" fails.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmfeat.extract.base import Ask, Caption, Captioner, Encoder, Method, Placement, Reads
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.outputs import Output, TextOut, VectorOut
from mmfeat.schemas.spec import FeatureSpec, ModelCard, Weights

DIMS = 16


class Options(Frozen):
    """``edition``: another one is another version of the feature."""

    edition: int = 1


class _Digest(Method):
    Options = Options
    reads = (Reads(("text",)),)
    example = ModelCard(
        method="digest", model="digest", reads=("text",), licence="Apache-2.0", weights_from="nowhere"
    )
    output: Output

    @classmethod
    def resolve(cls, ask: Ask[Any]) -> FeatureSpec:
        return ask.spec(
            inputs=(ask.only.prepared(),),
            output=cls.output,
            method_version=ask.options.edition,
            model="digest",
            weights=Weights(origin="random", ref="seed=0"),
        )

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        return cls.example

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        self.spec = spec

    def run(self, rows: Sequence[tuple[Any, ...]]) -> list[Any]:
        return [self.value(text) for (text,) in rows]

    def value(self, text: str) -> Any:
        if "broken" in text:
            return ItemError("encode", "it is broken")
        return self.of_digest(text, hashlib.sha256(text.encode()).digest())

    def of_digest(self, text: str, digest: bytes) -> Any:
        raise NotImplementedError


class DigestEncoder(_Digest, Encoder):
    """``DIMS`` bytes of a text's digest as numbers."""

    output = VectorOut(dims=DIMS)

    def of_digest(self, text: str, digest: bytes) -> np.ndarray:
        return np.frombuffer(digest[:DIMS], np.uint8).astype(np.float32)


class DigestCaptioner(_Digest, Captioner):
    """A text's digest in digits; its length in characters counts as tokens."""

    output = TextOut(role="caption")

    def caption(self, rows: Sequence[tuple[Any, ...]]) -> list[Caption | ItemError]:
        return self.run(rows)

    def of_digest(self, text: str, digest: bytes) -> Caption:
        return Caption(f"seen: {digest.hex()}", "stop", new_tokens=len(text))

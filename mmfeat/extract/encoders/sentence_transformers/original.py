"""How a model of sentence-transformers is converted to OpenVINO."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mmfeat.extract.encoders.tokens import INPUTS, reading_of, tokenized
from mmfeat.extract.runtimes.openvino.conversion import Arrays, NotConverted, Original, reason_of
from mmfeat.schemas.spec import ComputeDtype

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

# What a converted network is compared with torch's on, a call each. They are of many lengths; the first two
# are what it is traced with.
_PROBES = (
    ["Red running shoes", "A cast-iron pan of 28 cm for the stove and the oven"],
    [
        "x",
        "Über das Café am Meer",
        "東京 面包食谱 🎬 & <b>more</b>",
        "How to bake bread at home: flour, water, salt, yeast and patience. " * 4,
        "NIGHT of the Living Dead (1968)",
    ],
    ["One that stands alone"],
)
# Longer than most models read: it has to be cut where theirs is.
_LONG = "word " * 5000


def sentence_original(prefix: str, asked: str, model: Callable[[ComputeDtype], Any]) -> Original:
    """What is converted of a model: all of its modules, behind its tokenizer.

    Args:
        prefix: put before every text.
        asked: put before texts that are searched by, which go through the same network.
        model: the SentenceTransformer in a compute dtype, on the CPU; the same one whenever it is asked.
    """

    @cache
    def inputs() -> list[str]:
        return [name for name in INPUTS if name in _features(model("float32"), prefix, _PROBES[0])]

    @cache
    def tower(dtype: ComputeDtype) -> torch.nn.Module:
        loaded = model(dtype)
        try:
            found = _tower(loaded, prefix)
            depends = _depends_on_prefix(loaded, prefix, asked)
        except Exception as error:
            # Modules may be anybody's, and want texts made ready in ways of their own.
            raise NotConverted(f"its inputs are not tokens: {reason_of(error)}") from error
        if depends:
            raise NotConverted("it does not pool prompts, and items have another one than searches")
        return found

    @cache
    def tokenizer() -> Tokenizer:
        return _tokenizer(model("float32"), prefix, inputs())

    def reading() -> dict[str, object]:
        return reading_of(tokenizer(), inputs())

    def probes() -> list[Arrays]:
        return [tokenized(tokenizer(), inputs(), [prefix + text for text in texts]) for texts in _PROBES]

    return Original(tower, probes, varying=2, reading=reading)


def _features(model: Any, prefix: str, texts: list[str]) -> dict[str, Any]:
    features: dict[str, Any] = model.preprocess(texts, prompt=prefix)
    return features


def _depends_on_prefix(model: Any, prefix: str, asked: str) -> bool:
    """Whether a model gives the same tokens other vectors if it is told of one prefix or of the other, the
    number of tokens that are not to be pooled for example. A graph is told of one for good."""
    import torch

    found = []
    for told in (prefix, asked):
        features = _features(model, asked, _PROBES[0])
        tokens = {name: value for name, value in features.items() if name in INPUTS}
        with torch.inference_mode():
            outputs = model({**_constants(_features(model, told, _PROBES[0])), **tokens})
        found.append(outputs["sentence_embedding"])
    return not torch.equal(*found)


def _constants(features: dict[str, Any]) -> dict[str, Any]:
    """What a model is told of texts beside their tokens."""
    return {name: value for name, value in features.items() if name not in INPUTS}


def _tokenizer(model: Any, prefix: str, inputs: list[str]) -> Tokenizer:
    """The tokenizer of the tokenizers library that makes a model's inputs, as it is set to pad and to cut.

    Raises:
        NotConverted: its inputs are not made by one alone.
    """
    texts = [*(text for texts in _PROBES for text in texts), _LONG]
    features = _features(model, prefix, texts)
    tokenizer: Tokenizer | None = getattr(model.tokenizer, "backend_tokenizer", None)
    if tokenizer is None or "attention_mask" not in inputs:
        raise NotConverted("its tokenizer is not one of the tokenizers library")
    found = tokenized(tokenizer, inputs, [prefix + text for text in texts])
    if not all(
        np.array_equal(array, features[name].numpy()) for name, array in zip(inputs, found, strict=True)
    ):
        raise NotConverted("its tokenizer does more than the tokenizers library says of it")
    return tokenizer


def _tower(model: Any, prefix: str) -> torch.nn.Module:
    """All modules of a model, from token ids to float32 outputs."""
    import torch

    features = _features(model, prefix, _PROBES[0])
    others = _constants(features)
    if any(isinstance(value, torch.Tensor) for value in others.values()):
        raise TypeError(f"it reads {', '.join(sorted(features))}")

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor | None = None
        ) -> tuple[torch.Tensor]:
            tokens = zip(INPUTS, (ids, mask) if types is None else (ids, mask, types), strict=False)
            outputs = self.model({**others, **dict(tokens)})
            return (outputs["sentence_embedding"].to(torch.float32),)

    return Tower().eval()

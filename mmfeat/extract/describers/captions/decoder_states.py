"""Hidden states of the question that a captioner asks, out of the same pass as its caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from mmfeat.extract.base import Ask, Encoder, Placement, Query, Reads, Row
from mmfeat.extract.chat.abilities import THINKERS
from mmfeat.extract.describers.captions.states import PromptStates, StatePooling
from mmfeat.extract.describers.captions.transformers import TransformersCaptioner
from mmfeat.extract.encoders.vectors import card_of
from mmfeat.extract.localcache import remembered
from mmfeat.extract.runtimes.choice import torch_runtime
from mmfeat.extract.weights import find_on_hub, folder_digest
from mmfeat.schemas.errors import ConfigError, ItemError
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.outputs import StoreDtype, TextOut, VectorsOut
from mmfeat.schemas.spec import Decoding, FeatureSpec, ModelCard

_CAPTIONER = "transformers"
# What of a caption says how it is answered, and nothing of what is asked.
_OF_THE_ANSWER = ("decoding",)
_OWN = "states"


class DecoderStatesOptions(Frozen):
    """Which hidden states (0: the embeddings; negative: from the end), of which token, and how they are
    stored.

    Attributes:
        layers: hidden states of transformers' ``output_hidden_states``: 0 are the embeddings, negative
            numbers count from the end; all when None.
        pooling: ``last``: the token after which the answer begins. ``mean``: all tokens of the question.
            ``last`` when None.
        store_dtype: number type of stored vectors; ``float32`` when None.
    """

    layers: tuple[int, ...] | None = Field(default=None, min_length=1)
    pooling: StatePooling | None = None
    store_dtype: StoreDtype | None = None


class DecoderStates(Encoder):
    """Hidden states of the language model that writes a caption, of its question: ``[layers, dims]``.

    ``source`` names a feature of ``captioner = "transformers"``. Its question is what the vectors are of:
    what is shown and heard, the title that its prompt names, the prompt itself. The caption is not read, so
    an item whose caption failed may have states. In front of micro-video recommenders they were better than
    embeddings of the captions (arXiv 2512.21863).

    Where a run computes the caption too, its first pass gives both; else the question goes through the model
    once, and no answer is written. Values are the same (:class:`PromptStates` says which they are). Without
    ``layers`` all hidden states are taken, embeddings first, and without ``pooling`` the last token's.
    """

    Options: ClassVar[type[DecoderStatesOptions]] = DecoderStatesOptions
    reads: ClassVar[tuple[Reads, ...]] = (Reads(("text",)),)
    reads_through: ClassVar[bool] = True
    batch_size: ClassVar[int] = TransformersCaptioner.batch_size
    whole_clips: ClassVar[bool] = True
    example: ClassVar[ModelCard] = ModelCard(
        method="decoder_states",
        model="HuggingFaceTB/SmolVLM-256M-Instruct",
        reads=("text",),
        dims=576,
        licence="Apache-2.0",
        weights_from="hub: HuggingFaceTB/SmolVLM-256M-Instruct",
        notes="Of a captioner's question: every layer, or some; computed in the captioner's own pass.",
    )

    @classmethod
    def resolve(cls, ask: Ask[DecoderStatesOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`. The spec reads what the caption reads, and not the caption."""
        caption = _caption(ask)
        states, dims = _sizes(ask.name, caption)
        wanted = PromptStates(layers=_layers(ask, states), pooling=ask.options.pooling or "last")
        return ask.spec(
            inputs=caption.inputs,
            output=VectorsOut(
                count=len(wanted.layers), dims=dims, dtype=ask.options.store_dtype or "float32"
            ),
            model=caption.model,
            weights=caption.weights,
            # A fix of how a question is asked changes its states as well.
            method_version=caption.method_version,
            options={**_asked(caption), _OWN: wanted.model_dump(mode="json")},
        )

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Method.card`."""
        return card_of(spec, spec.modalities)

    @classmethod
    def comes_with(cls, spec: FeatureSpec, other: FeatureSpec) -> bool:
        """See :meth:`Method.comes_with`: with any caption that asks the same question of the same model."""
        is_caption = other.form == "text" and other.method == _CAPTIONER
        return is_caption and _question(spec) == _question(other)

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Load the captioner's model, if none is there whose pass gives the states too."""
        self.spec = spec
        self.runtime = torch_runtime()
        self._wanted = PromptStates.model_validate(spec.options[_OWN])
        if isinstance(place.beside, TransformersCaptioner):
            self.captioner = place.beside
            self.captioner.also_gives(spec.fingerprint, self._wanted)
        else:
            self.captioner = TransformersCaptioner(_captioned(spec), replace(place, beside=None))

    def run(self, rows: Sequence[Row]) -> list[np.ndarray | ItemError]:
        """See :meth:`Method.run`."""
        outcomes = self.captioner.states(rows, self._wanted)
        return [ItemError("encode", one.reason) if isinstance(one, ItemError) else one for one in outcomes]

    def query(self, modality: str) -> Query | None:
        """See :meth:`Method.query`: several vectors have no one distance."""
        return None


def _caption(ask: Ask[Any]) -> FeatureSpec:
    """The feature whose question it is; ConfigError where that is none."""
    (read,) = ask.inputs
    caption = read.upstream
    if ask.composed is not None or caption is None or caption.method != _CAPTIONER or _is_no_caption(caption):
        raise ask.error(
            f"encoder 'decoder_states' reads the question of a captioner, and {read.source!r} is none of "
            f'captioner = "{_CAPTIONER}"',
            'Give the job a feature of captioner = "transformers", and name that as source.',
        )
    if read.optional:
        raise ask.error(
            f"the question of {read.source!r} is there for every item that the caption is asked of",
            f'Write source = "{read.source}".',
        )
    if "summary" in caption.options:
        raise ask.error(
            f"{read.source!r} asks one question per scene of a clip, and states are of one question",
            'Take a caption of the whole clip: sampling = "uniform", perhaps with as = "video".',
        )
    return caption


def _is_no_caption(spec: FeatureSpec) -> bool:
    """Whether it is of another kind of method that is called as the captioner is."""
    return spec.role not in ("caption", "json")


def _asked(spec: FeatureSpec) -> dict[str, Any]:
    """The options that say what is asked, and in which number type."""
    return {key: value for key, value in spec.options.items() if key not in (*_OF_THE_ANSWER, _OWN)}


def _question(spec: FeatureSpec) -> tuple[Any, ...]:
    """All that decides the states of a question."""
    return spec.inputs, spec.model, spec.weights, spec.method_version, _asked(spec)


def _captioned(spec: FeatureSpec) -> FeatureSpec:
    """The spec of a captioner that asks the question."""
    options = {**_asked(spec), "decoding": Decoding(max_new_tokens=1).model_dump(mode="json")}
    update = {"method": _CAPTIONER, "output": TextOut(role="caption"), "options": options}
    return spec.model_copy(update=update)


def _sizes(name: str, caption: FeatureSpec) -> tuple[int, int]:
    """How many hidden states a captioner's language model has, and how long each is."""
    weights = caption.weights
    folder = (
        Path(weights.location)
        if weights.location is not None
        else find_on_hub(name, caption.model, weights.revision).folder
    )
    facts = {"decoder_states": "sizes", "configuration": folder_digest(folder, (".json",))}
    states, dims = remembered(facts, lambda: {"sizes": _configured(name, caption.model, folder)})["sizes"]
    return states, dims


def _configured(name: str, model: str, folder: Path) -> list[int]:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    if config.model_type in THINKERS:
        config = config.thinker_config
    text = config.get_text_config(decoder=True)
    layers, dims = (getattr(text, key, None) for key in ("num_hidden_layers", "hidden_size"))
    if layers is None or dims is None:
        raise ConfigError(f"feature {name!r}: the configuration of {model!r} names no layers and their width")
    return [layers + 1, dims]


def _layers(ask: Ask[DecoderStatesOptions], states: int) -> tuple[int, ...]:
    """Numbers of hidden states from the front; ConfigError if there is none of a number, or it is named
    twice."""
    asked = ask.options.layers
    if asked is None:
        return tuple(range(states))
    for layer in asked:
        if not -states <= layer < states:
            raise ask.error(
                f"there is no layer {layer}",
                f"There are 0 (the embeddings) to {states - 1}; negative numbers count from the end.",
            )
    found = tuple(layer % states for layer in asked)
    if len(set(found)) < len(found):
        raise ask.error(f"layers = {list(asked)} names one of them twice")
    return found

"""Vectors by any language model of transformers, of texts alone or of what it sees and hears beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np

from mmfeat.extract.base import Ask, Encoder, Placement, Query, Reads, Row
from mmfeat.extract.encoders.message_parts import Part, parts_of, parts_of_rows
from mmfeat.extract.encoders.mllm.folder import Outline, find, outline_of
from mmfeat.extract.encoders.mllm.messages import Embedder
from mmfeat.extract.encoders.mllm.options import MllmOptions, MllmSettings
from mmfeat.extract.encoders.mllm.recipes import RECIPES, Recipe
from mmfeat.extract.encoders.sentence_transformers.folder import Takes
from mmfeat.extract.encoders.sentence_transformers.modalities import prepared_inputs, view_of
from mmfeat.extract.encoders.vectors import card_of, output_of
from mmfeat.extract.options import need_model
from mmfeat.extract.runtimes.choice import torch_runtime, use_torch_threads
from mmfeat.extract.weights import Found
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.inputs import ImagePrepare, Input, TextPrepare
from mmfeat.schemas.spec import FeatureSpec, ModelCard
from mmfeat.schemas.validation import near

_EXAMPLE = "Qwen/Qwen3-VL-Embedding-2B"
_CALLED = {"text": "a text", "image": "a picture", "video": "a clip", "audio": "sound"}


class Mllm(Encoder):
    """One vector per item: the state of a language model at the end of a message that holds all that is read.

    The message is written by the folder's own chat template, the instruction as the system's, in the order of
    ``inputs``, up to where an answer would begin; a model without a template is given the instruction and the
    texts on lines of their own. A ``recipe`` writes it as a published embedder is asked, and says where its
    vector is read. Clips are one video where the model takes video, of sound the first window is heard.

    States are read behind the decoder's final norm unless ``final_norm = false``, or of another ``layer``;
    batches are padded on the left. ``truncate_dim`` keeps the first numbers, which get their length
    afterwards. Weights are read from safetensors or a GGUF file, and no code from a folder is run.
    """

    Options: ClassVar[type[MllmOptions]] = MllmOptions
    reads: ClassVar[tuple[Reads, ...]] = (Reads(("text", "image", "video", "audio"), together=True),)
    example: ClassVar[ModelCard] = ModelCard(
        method="mllm",
        model=_EXAMPLE,
        reads=("text", "image", "video"),
        dims=2048,
        licence="Apache-2.0",
        weights_from=f"hub: {_EXAMPLE}",
        notes="Language models as embedders; recipes: " + ", ".join(RECIPES) + ".",
    )

    @classmethod
    def resolve(cls, ask: Ask[MllmOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`. ``model`` is a hub id, a folder or a GGUF file."""
        model = need_model(ask, _EXAMPLE)
        found = find(ask, model)
        shown, outline = found.called(model), outline_of(ask, model, found)
        recipe = _recipe(ask, shown, outline)
        _refuse_strangers(ask, shown, outline)
        settings = _settings(ask, shown, outline, recipe)
        return ask.spec(
            inputs=_inputs(ask, found, outline, recipe),
            output=output_of(ask, settings.truncate_dim or outline.dims),
            model=shown,
            weights=found.weights,
            options=settings.model_dump(mode="json"),
        )

    @classmethod
    def ablated(cls, spec: FeatureSpec, inputs: tuple[Input, ...]) -> FeatureSpec:
        """See :meth:`Method.ablated`. How a clip is shown is no setting of what reads none."""
        alone = super().ablated(spec, inputs)
        if any(one.modality == "video" for one in inputs):
            return alone
        return alone.with_options(videos=False)

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Method.card`."""
        # Pictures of any size go to the model's own processor.
        return card_of(spec, spec.modalities).model_copy(update={"input_size": None})

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Load the weights; ConfigError where they are missing or not those of the spec."""
        use_torch_threads(place.threads)
        self.spec, self._settings = spec, spec.settings(MllmSettings)
        self.runtime = torch_runtime()
        self.embedder = Embedder(spec, place.device)

    def run(self, rows: Sequence[Row]) -> Sequence[Any]:
        """See :meth:`Method.run`."""
        items = parts_of_rows(self.spec, rows, self._parts)
        return self.embedder.run(items, self._settings.instruction)

    def reading(self, spec: FeatureSpec) -> Self:
        """See :meth:`Method.reading`."""
        other = super().reading(spec)
        other.embedder = self.embedder.reading(spec)
        return other

    def query(self, modality: str) -> Query | None:
        """See :meth:`Method.query`. By a text, and by a picture where the model takes pictures."""
        if modality not in self._settings.takes or modality not in ("text", "image"):
            return None
        prepare = TextPrepare() if modality == "text" else ImagePrepare(view=view_of(modality))
        return Query(prepare, partial(self._queries, modality))

    def _queries(self, modality: str, values: Sequence[Any]) -> np.ndarray:
        found = self.embedder.run(
            [self._parts(modality, value) for value in values], self._settings.query_instruction
        )
        vectors = []
        for one in found:
            if isinstance(one, ItemError):
                raise one
            vectors.append(one)
        return np.stack(vectors)

    def _parts(self, modality: str, value: Any) -> list[Part]:
        return list(parts_of(modality, value, self._settings.videos, self.embedder.merged))


def _recipe(ask: Ask[MllmOptions], model: str, outline: Outline) -> Recipe | None:
    """The recipe that the table names; ConfigError for one of other models or inputs."""
    name = ask.options.recipe
    if name is None:
        return None
    if name not in RECIPES:
        raise ask.error(
            f"there is no recipe {name!r}", f"{near(name, RECIPES)}There are: {', '.join(RECIPES)}."
        )
    recipe = RECIPES[name]
    if outline.kind not in recipe.model_types:
        raise ask.error(
            f"recipe {name!r} is for models of type {' or '.join(recipe.model_types)}, and {model!r} is "
            f"{outline.kind}",
            "Leave recipe out to ask a model by its own chat template.",
        )
    strange = [one for one in ask.inputs if one.modality not in recipe.takes]
    if strange:
        raise ask.error(
            f"recipe {name!r} says nothing of {_CALLED[strange[0].modality]}, which {strange[0].source!r} is",
            f"It reads: {', '.join(recipe.takes)}.",
        )
    return recipe


def _refuse_strangers(ask: Ask[Any], model: str, outline: Outline) -> None:
    """ConfigError for an input that the model has no part for."""
    for one in ask.inputs:
        if one.modality not in outline.takes.readable:
            raise ask.error(
                f"{model!r} takes {', '.join(outline.takes.modalities)}, and {one.source!r} is "
                f"{_CALLED[one.modality]}",
                "Its processor's files say it.",
            )


def _settings(ask: Ask[MllmOptions], model: str, outline: Outline, recipe: Recipe | None) -> MllmSettings:
    options = ask.options
    if options.truncate_dim is not None and options.truncate_dim > outline.dims:
        raise ask.error(
            f"the vectors of {model!r} have {outline.dims} numbers, fewer than truncate_dim = "
            f"{options.truncate_dim}"
        )
    layer = _layer(ask, model, outline)
    if options.final_norm is not None and layer < outline.layers:
        raise ask.error("'final_norm' goes with the last layer, which alone has a norm behind it")
    usual = True if recipe is None else recipe.normalize
    return MllmSettings(
        takes=outline.takes.names,
        recipe=options.recipe,
        instruction=options.instruction,
        # Said of queries alone, or of both.
        query_instruction=options.instruction
        if options.query_instruction is None
        else options.query_instruction,
        pooling=options.pooling or ("last" if recipe is None else recipe.pooling),
        layer=layer,
        final_norm=options.final_norm is not False,
        truncate_dim=options.truncate_dim if options.truncate_dim != outline.dims else None,
        videos=_videos(ask, outline),
        normalize=usual if options.normalize is None else options.normalize,
        compute_dtype=options.dtype or "float32",
    )


def _layer(ask: Ask[MllmOptions], model: str, outline: Outline) -> int:
    count, asked = outline.layers + 1, ask.options.layer
    if asked is None:
        return outline.layers
    if not -count <= asked < count:
        raise ask.error(f"{model!r} has no layer {asked}", f"It has hidden states 0 to {outline.layers}.")
    return asked % count


def _videos(ask: Ask[MllmOptions], outline: Outline) -> bool:
    """Whether clips are videos to the model."""
    shown = ask.options.shown_as
    if not any(one.modality == "video" for one in ask.inputs):
        if shown is not None:
            raise ask.error("'as' goes with a clip, which nothing that is read is")
        return False
    if shown == "video" and "video" not in outline.takes.names:
        raise ask.error(
            'the model takes no video, which as = "video" would show it',
            'Leave as out (or as = "frames"): the frames are shown as pictures, in order of time.',
        )
    return shown != "frames" and "video" in outline.takes.names


def _inputs(
    ask: Ask[MllmOptions], found: Found, outline: Outline, recipe: Recipe | None
) -> tuple[Input, ...]:
    """What is read, with what the recipe says of it where the table says nothing."""
    takes = Takes((*outline.takes.names, "message"))
    usual: dict[str, Any] = {}
    if recipe is not None:
        read = {one.modality for one in ask.inputs}
        if "video" in read and ask.options.sampling is None:
            usual |= {k: v for k, v in recipe.frames.items() if getattr(ask.options, k) is None}
        if "text" in read and ask.options.max_tokens is None:
            usual["max_tokens"] = recipe.max_tokens
    mine = replace(ask, options=ask.options.model_copy(update=usual))
    return prepared_inputs(mine, found.folder, takes)

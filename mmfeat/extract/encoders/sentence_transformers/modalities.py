"""The spec of a feature of more than one text: pictures, clips, sound, and several inputs in one message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmfeat.extract.base import Ask, AskedInput
from mmfeat.extract.encoders.sentence_transformers.folder import Takes, hears, model_type
from mmfeat.extract.encoders.sentence_transformers.options import SentenceTransformersOptions
from mmfeat.extract.localcache import remembered
from mmfeat.extract.options import (
    DEFAULT_WINDOWS,
    FRAME_OPTIONS,
    LIST_OPTIONS,
    SOUND_OPTIONS,
    pixel_input,
    refuse_options,
    refuse_options_of_others,
    sound_input,
)
from mmfeat.extract.weights import folder_digest
from mmfeat.schemas.inputs import AudioPrepare, Input, PixelView, TextPrepare

# Pixels of the longer side that go to a model's own processor, which decides the rest. A clip is many frames.
_MAX_SIDE = {"image": 2048, "video": 768}
_OF_PIXELS = ("jpeg", "max_side")
_CALLED = {"text": "a text", "image": "a picture", "video": "a clip", "audio": "sound"}
#: The options that go with no text.
OF_MEDIA = (*FRAME_OPTIONS, *SOUND_OPTIONS, *LIST_OPTIONS, *_OF_PIXELS)
# What a message has of a sound where the model's files do not say how much it hears at once.
_SECONDS = 30.0
# Types of models whose processor takes other frames of a video in a chat message than those that it is given
# (transformers 5.24, ``SmolVLMProcessor.apply_chat_template``).
_CHOOSE_FRAMES = ("smolvlm",)


def media_inputs(
    ask: Ask[SentenceTransformersOptions], model: str, folder: Path, takes: Takes, many: bool
) -> tuple[Input, ...]:
    """What a feature reads, in the order of the table, which is the order of the message.

    Args:
        many: whether the model gives several vectors.

    Raises:
        ConfigError: something that the model does not take, or an option that nothing which is read needs.
    """
    _refuse_strangers(ask, model, takes)
    if model_type(folder) in _CHOOSE_FRAMES and any(one.modality == "video" for one in ask.inputs):
        raise ask.error(f"the processor of {model!r} takes other frames of a clip than those it is given")
    return prepared_inputs(ask, folder, takes, many)


def prepared_inputs(ask: Ask[Any], folder: Path, takes: Takes, many: bool = False) -> tuple[Input, ...]:
    """What a feature reads of what its model takes, as the options say.

    Args:
        many: whether the model gives several vectors.

    Raises:
        ConfigError: an option that nothing which is read needs.
    """
    _refuse_useless_options(ask, takes, many)
    return tuple(_input(ask, one, folder, takes) for one in ask.inputs)


def view_of(modality: str, side: int | None = None, **decoding: Any) -> PixelView:
    """Pixels as they are decoded, shrunk where the longer side has more than a model's processor is given."""
    side = side or _MAX_SIDE[modality]
    return PixelView(mode="bound", height=side, width=side, **decoding)


def width_of(folder: Path) -> int | None:
    """How long the vectors are that a transformer gives, by the rule of sentence-transformers'
    ``Transformer.get_embedding_dimension`` (6.2); None if its configuration does not say it."""
    facts = {"sentence_transformers": "width", "configuration": folder_digest(folder, (".json",))}
    width: int | None = remembered(facts, lambda: {"width": _width(folder)})["width"]
    return width


def _width(folder: Path) -> int | None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    parts = [config, *(getattr(config, name, None) for name in ("text_config", *config.sub_configs))]
    names = ("embedding_dim", "projection_dim", "hidden_size", "hidden_dim")
    found = (getattr(part, name, None) for part in parts for name in names)
    return next((int(width) for width in found if width is not None), None)


def _refuse_strangers(ask: Ask[Any], model: str, takes: Takes) -> None:
    for one in ask.inputs:
        if one.modality not in takes.readable:
            known, called = ", ".join(takes.modalities), _CALLED[one.modality]
            raise ask.error(
                f"{model!r} takes {known}, and {one.source!r} is {called}",
                "A model says it in sentence_bert_config.json (modality_config). One of an older layout is "
                "saved again with: SentenceTransformer(model).save(folder).",
            )
    if len(ask.inputs) > 1 and not takes.messages:
        raise ask.error(
            f"{model!r} takes one input at a time, and inputs names {len(ask.inputs)}",
            "Make a feature of each, or take one that reads messages, such as Qwen/Qwen3-VL-Embedding-2B.",
        )


def _refuse_useless_options(ask: Ask[Any], takes: Takes, many: bool) -> None:
    refuse_options_of_others(ask, _OF_PIXELS)
    if not any(one.modality == "text" for one in ask.inputs):
        refuse_options(ask, ("max_tokens",), "a text")
    pictures = ask.options.pictures
    if takes.messages and pictures in ("mean", "each"):
        raise ask.error(
            f"pictures = {pictures!r} goes with a model that takes one picture at a time",
            'This one sees them in one message: leave it out, or take pictures = "first".',
        )
    if not takes.messages and pictures == "together":
        raise ask.error("the model takes one picture at a time", 'Take pictures = "mean", "each" or "first".')
    if many and pictures == "mean":
        raise ask.error("a picture has several vectors", 'Take pictures = "each" or "first".')


def _input(ask: Ask[Any], one: AskedInput, folder: Path, takes: Takes) -> Input:
    options = ask.options
    if one.modality == "text":
        return one.prepared(TextPrepare(max_tokens=options.max_tokens))
    if one.modality == "audio":
        return sound_input(ask, one, _usual_sound(ask, folder, takes))
    view = view_of(one.modality, options.max_side, jpeg=options.jpeg or "exact")
    if one.modality == "video":
        return pixel_input(_without(ask, LIST_OPTIONS), one, view)
    others = FRAME_OPTIONS if one.several else (*FRAME_OPTIONS, *LIST_OPTIONS)
    mine = _without(ask, others)
    if one.several and takes.messages and mine.options.pictures is None:
        mine = _with(mine, pictures="together")
    return pixel_input(mine, one, view)


def _usual_sound(ask: Ask[Any], folder: Path, takes: Takes) -> AudioPrepare:
    """The windows that are heard where the options say nothing, by the model's feature extractor: in a
    message the first one, else some over the whole, whose vectors have a mean."""
    said = hears(folder)
    if said is None:
        raise ask.error(f"the files of {ask.options.model!r} name no sampling_rate of a feature extractor")
    rate, seconds = said["sampling_rate"], said.get("max_length_s") or said.get("chunk_length") or _SECONDS
    if takes.messages:
        return AudioPrepare(sample_rate=rate, seconds=seconds)
    return AudioPrepare(sample_rate=rate, seconds=seconds, windows="uniform", count=DEFAULT_WINDOWS)


def _without(ask: Ask[Any], names: Sequence[str]) -> Ask[Any]:
    """The same question without options that are for its other inputs."""
    return _with(ask, **dict.fromkeys(names))


def _with(ask: Ask[Any], **options: Any) -> Ask[Any]:
    return replace(ask, options=ask.options.model_copy(update=options))

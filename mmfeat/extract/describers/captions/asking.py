"""From a feature's table to what a chat model is asked: options, resolved settings and the spec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from mmfeat.extract.base import Ask, AskedInput
from mmfeat.extract.chat.abilities import USUAL_SOUND
from mmfeat.extract.describers.prompts import PromptFile, load_prompt
from mmfeat.extract.encoders.model_views import model_view
from mmfeat.extract.options import (
    FRAME_OPTIONS,
    SOUND_OPTIONS,
    FrameOptions,
    Place,
    SoundOptions,
    pixel_input,
    refuse_options,
    sound_input,
)
from mmfeat.schemas.fields import Fields, refuse_set_elsewhere
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.inputs import MOST_PICTURES, AudioPrepare, Input, PictureFormat, PixelView
from mmfeat.schemas.outputs import TextOut
from mmfeat.schemas.spec import ComputeDtype, Decoding, FeatureSpec, Prompt, Summary

#: What a prompt can name that is not the item's: see :class:`PromptFile`.
OF_CLIPS = ("times", "scenes")

_DEFAULT_MAX_SIDE = 768
_OF_PICTURES = ("jpeg", "max_side", "max_pictures", "max_pixels", "resize", "send_as")

# Arguments of a chat template that are the caller's own.
_OF_THE_CALL = dict.fromkeys(
    (
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "documents",
        "padding",
        "processor_kwargs",
        "return_dict",
        "return_tensors",
        "tokenize",
        "tools",
        "truncation",
    ),
    "how the template is called is not for a job to say",
)


class ChatOptions(FrameOptions, SoundOptions):
    """What every chat captioner can be asked, and how it answers.

    Attributes:
        shown_as: whether frames of a clip are shown as so many pictures or as one video.
        jpeg: ``exact``, or ``scaled``: libjpeg decodes large JPEGs at a reduced scale, never below twice the
            size needed; ``exact`` when None.
        max_side: no picture is larger, on its longer side, in pixels; 768 when None.
        max_pictures: most pictures of a list that are read; 8 when None.
        prompt: name of a prompt, or the path of a prompt's file; a default that fits what is read when None.
        summary_prompt: prompt that sums up the texts of a clip's scenes.
        max_new_tokens: most tokens of an answer; the prompt's own number when None.
        temperature: 0 is greedy; 0 when None.
        chat_template_kwargs: fields for the model's chat template, such as ``{ enable_thinking = false }``.
        max_pixels: fewer pixels than the model's processor allows, of a picture resized as it does.
    """

    shown_as: Literal["frames", "video"] | None = Field(default=None, alias="as")
    jpeg: Literal["exact", "scaled"] | None = None
    max_side: int | None = Field(default=None, gt=0)
    max_pixels: int | None = Field(default=None, gt=0)
    max_pictures: int | None = Field(default=None, gt=0, le=MOST_PICTURES)
    prompt: Place = None
    summary_prompt: Place = None
    max_new_tokens: int | None = Field(default=None, gt=0)
    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    chat_template_kwargs: Fields = None

    @field_validator("chat_template_kwargs")
    @classmethod
    def _of_the_template(cls, fields: dict[str, Any] | None) -> dict[str, Any] | None:
        refuse_set_elsewhere(fields, _OF_THE_CALL)
        return fields


class ChatSettings(Frozen):
    """What decides an answer beside what is shown and heard: the options of a resolved spec.

    Attributes:
        summary: how the captions of a clip's scenes become one text; None if it is asked as a whole.
        chat_template_kwargs: what the model's chat template is told, such as not to open any reasoning.
        shown_as: ``video`` where a clip's frames are one video; None if they are so many pictures.
    """

    prompt: Prompt
    decoding: Decoding
    summary: Summary | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    shown_as: Literal["video"] | None = None
    compute_dtype: ComputeDtype = "float32"


@dataclass(frozen=True)
class _Inputs:
    """What a feature reads beside the texts that its prompt names: something to see, to hear, or both."""

    seen: AskedInput | None
    heard: AskedInput | None

    @classmethod
    def of(cls, ask: Ask[Any]) -> _Inputs:
        """ConfigError where there are two of a kind."""
        heard = [one for one in ask.inputs if one.modality == "audio"]
        seen = [one for one in ask.inputs if one.modality != "audio"]
        if len(seen) > 1 or len(heard) > 1:
            raise ask.error(
                f"{ask.kind} {ask.method!r} reads one input that is seen and one that is heard, and inputs "
                f"names {', '.join(one.source for one in (seen if len(seen) > 1 else heard))}",
                "Make a feature of each.",
            )
        return cls(*(found[0] if found else None for found in (seen, heard)))

    @property
    def is_clip(self) -> bool:
        """Whether frames of a clip are seen."""
        return self.seen is not None and self.seen.modality == "video"


def chat_spec(
    ask: Ask[Any],
    sent_as: PictureFormat | None = None,
    usual_sound: AudioPrepare = USUAL_SOUND,
    processor: Path | None = None,
    **resolved: Any,
) -> FeatureSpec:
    """The spec of a feature that a chat model writes.

    Args:
        processor: folder with the files of the processor whose resize the decode stage does; None if it
            bounds pictures alone.
        sent_as: how pictures travel to it; None if it is in this process.
        usual_sound: the sample rate that it hears, and the windows that are taken unless a job says so.
        resolved: further fields of the spec: model and weights, and ``compute_dtype`` of the settings.

    Raises:
        ConfigError: no such prompt, one with a name that such a question has no value for, or an option
            that what is read has no use for.
    """
    options, inputs = ask.options, _Inputs.of(ask)
    _refuse_useless_options(ask, inputs)
    by_scenes = inputs.is_clip and options.sampling == "scenes"
    prompt = load_prompt(options.prompt or _default_prompt(inputs, options))
    _refuse_names(ask, prompt, {"scenes"} if inputs.is_clip else set(OF_CLIPS))
    summary = _summary(ask) if by_scenes else None
    final = summary.prompt if summary else prompt.prompt
    settings = ChatSettings(
        prompt=prompt.prompt,
        decoding=_decoding(ask, prompt),
        summary=summary,
        chat_template_kwargs=options.chat_template_kwargs,
        shown_as="video" if options.shown_as == "video" else None,
        compute_dtype=resolved.pop("compute_dtype", "float32"),
    )
    return ask.spec(
        inputs=(
            *(_input(ask, one, sent_as, usual_sound, processor) for one in ask.inputs),
            *(one.prepared(named=True) for one in ask.named),
        ),
        output=TextOut(role="json" if final.reply_schema else "caption"),
        options=settings.model_dump(mode="json"),
        **resolved,
    )


def _input(
    ask: Ask[Any],
    read: AskedInput,
    sent_as: PictureFormat | None,
    usual_sound: AudioPrepare,
    processor: Path | None,
) -> Input:
    if read.modality == "audio":
        return sound_input(ask, read, usual_sound)
    view = _bound_view(ask) if processor is None else model_view(ask, processor)
    return pixel_input(ask, read, view, sent_as=sent_as)


def _bound_view(ask: Ask[Any]) -> PixelView:
    side = ask.options.max_side or _DEFAULT_MAX_SIDE
    return PixelView(mode="bound", height=side, width=side, jpeg=ask.options.jpeg or "exact")


def _refuse_useless_options(ask: Ask[Any], inputs: _Inputs) -> None:
    options = ask.options
    if inputs.seen is None:
        refuse_options(ask, (*FRAME_OPTIONS, *_OF_PICTURES), "pictures or a clip")
    if inputs.heard is None:
        refuse_options(ask, SOUND_OPTIONS, "sound")
    _refuse_sizes(ask)
    if options.shown_as is not None and not inputs.is_clip:
        raise ask.error("'as' goes with a clip, which nothing that is read is")
    by_scenes = inputs.is_clip and options.sampling == "scenes"
    if options.summary_prompt is not None and not by_scenes:
        raise ask.error("'summary_prompt' goes with sampling = \"scenes\"")
    if by_scenes and inputs.heard is not None:
        raise ask.error(
            "a clip is described scene by scene from its frames alone, and inputs names sound",
            "Make another feature of the sound; a composed text can join both.",
        )


def _refuse_sizes(ask: Ask[Any]) -> None:
    """ConfigError for options of a picture's size that do not go together."""
    options = ask.options
    # Engines have it as an option of their own, each with other values.
    if getattr(options, "resize", None) is None:
        refuse_options(ask, ("max_pixels",), "resize")
        return
    if options.max_side is not None:
        raise ask.error("'max_side' does not go with 'resize', by which the model says the size")
    if options.shown_as == "video":
        raise ask.error(
            "'resize' goes with pictures, and as = \"video\" shows one video, which models resize otherwise",
            "Leave as out, or resize.",
        )


def _default_prompt(inputs: _Inputs, options: Any) -> str:
    if inputs.seen is None:
        return "describe-sound"
    if inputs.heard is not None:
        return "describe-clip"
    if not inputs.is_clip:
        return "describe"
    if options.sampling == "scenes":
        return "describe-scene"
    return "describe-clip" if options.shown_as == "video" else "describe-video"


def _summary(ask: Ask[Any]) -> Summary:
    asked = load_prompt(ask.options.summary_prompt or "summarise-scenes")
    _refuse_names(ask, asked, {"times"})
    if "scenes" not in asked.variables:
        raise ask.error(f"the prompt {asked.name!r} does not use {{scenes}}, which it is to summarise")
    return Summary(prompt=asked.prompt, decoding=_decoding(ask, asked))


def _decoding(ask: Ask[Any], asked: PromptFile) -> Decoding:
    options = ask.options
    return Decoding(
        max_new_tokens=options.max_new_tokens or asked.max_new_tokens, temperature=options.temperature or 0.0
    )


def _refuse_names(ask: Ask[Any], asked: PromptFile, useless: set[str]) -> None:
    if strange := sorted(set(asked.variables) & useless):
        raise ask.error(
            f"the prompt {asked.name!r} uses {{{strange[0]}}}, which it has no value for",
            "{times} goes with a clip, {scenes} with the summary of its scenes.",
        )

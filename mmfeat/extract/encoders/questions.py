"""What is asked of a model that an engine runs, for the vector of an item: options, inputs, and the parts of
a question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from pydantic import Field

from mmfeat.extract.base import Ask, AskedInput, Row
from mmfeat.extract.encoders.sentence_transformers.modalities import view_of
from mmfeat.extract.encoders.vectors import VectorSettings, vector_spec
from mmfeat.extract.options import (
    FRAME_OPTIONS,
    LIST_OPTIONS,
    FrameOptions,
    SoundOptions,
    pixel_input,
    refuse_options_of_others,
    sound_input,
)
from mmfeat.extract.served.parts import SentFormat, data_url, input_audio, sanitised
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.inputs import MOST_PICTURES, AudioPrepare, Input, PictureFormat, TextPrepare
from mmfeat.schemas.media import Frames, Pictures
from mmfeat.schemas.outputs import TokenDtype
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureSpec

_USUAL_SOUND = AudioPrepare(sample_rate=16_000, seconds=30.0)
_OF_PIXELS = ("jpeg", "max_side", "send_as")
_CALLED = {"text": "a text", "image": "a picture", "video": "a clip", "audio": "sound"}


class QuestionOptions(FrameOptions, SoundOptions):
    """What every vector of an engine can be asked.

    Attributes:
        dims: how many numbers the model's vectors have.
        dimensions: how many the engine is asked to cut them to, in the place of ``dims``.
        prompt, query_prompt: put before items, and before what they are searched by.
        revision: commit on the hub; of a server what stands behind the model's name, in your own words.
        normalize: whether vectors get length 1; they are stored as they come when None.
        store_dtype: number type of stored vectors; ``float32`` when None.
        jpeg: ``exact``, or ``scaled``: libjpeg decodes large JPEGs at a reduced scale, never below twice the
            size needed; ``exact`` when None.
        max_side: most pixels of the longer side that go to the model's own processor; 2048 when None, and 768
            of clips.
        pictures: of a list the ``first`` one, all ``together`` in one message, the ``mean`` of the pictures'
            vectors, or a vector of ``each``. When None ``together`` where the model takes messages, else
            ``first``.
        max_pictures: most pictures of a list that are read; 8 when None.
    """

    revision: str | None = None
    dims: int | None = Field(default=None, gt=0, le=1 << 17)
    dimensions: int | None = Field(default=None, gt=0, le=1 << 17)
    prompt: str | None = None
    query_prompt: str | None = None
    normalize: bool | None = None
    store_dtype: TokenDtype | None = None
    jpeg: Literal["exact", "scaled"] | None = None
    max_side: int | None = Field(default=None, gt=0)
    pictures: Literal["first", "together", "mean", "each"] | None = None
    max_pictures: int | None = Field(default=None, gt=0, le=MOST_PICTURES)


class QuestionSettings(VectorSettings):
    """See :class:`VectorSettings`; ``dimensions`` is what the engine is asked to cut vectors to."""

    dimensions: int | None = None


@dataclass(frozen=True)
class Form:
    """What one question can hold.

    Attributes:
        takes: modalities.
        whole: whether it holds anything of an item, in the order of ``inputs``; else a text, a picture, or
            one of each.
    """

    takes: tuple[str, ...]
    whole: bool = False


TEXTS = Form(("text",))
PAIRS = Form(("text", "image", "video"))
MESSAGES = Form(("text", "image", "video", "audio"), whole=True)

#: A modality and its value: text ``str``, image uint8 ``[height, width, 3]``, audio float32 ``[samples]`` and
#: how many there are a second.
Part = tuple[str, Any]


def question_spec(
    ask: Ask[Any], form: Form, *, other_form: str, sent_as: PictureFormat | None, **resolved: Any
) -> FeatureSpec:
    """The spec of a feature whose vectors an engine gives.

    Args:
        other_form: what to write where the form does not take an input.
        sent_as: how pictures travel.
        resolved: model, weights, and whether an item gets any number of vectors (``many``).

    Raises:
        ConfigError: nobody says how long a vector is, the form does not take what is read, or an option has
            no use.
    """
    options = ask.options
    if (options.dims is None) == (options.dimensions is None):
        raise ask.error(
            "give one of dims and dimensions: no engine is asked for it before a run",
            "dims = 1024 says how many numbers the model's vectors have; dimensions = 256 asks to cut them, "
            "which models with Matryoshka vectors allow.",
        )
    _refuse_strangers(ask, form, other_form)
    _refuse_useless_options(ask, form)
    inputs = tuple(_input(ask, one, form, sent_as) for one in ask.inputs)
    spec = vector_spec(
        ask,
        inputs[0],
        dims=options.dims or options.dimensions,
        normalize=False,
        time_pooling="mean" if inputs[0].modality == "video" and not form.whole else None,
        item_prompt=options.prompt or None,
        query_prompt=options.query_prompt or None,
        **resolved,
    )
    more = {} if options.dimensions is None else {"dimensions": options.dimensions}
    if len(inputs) > 1:
        spec = spec.model_copy(update={"inputs": inputs})
    return spec.with_options(**more)


def questions(spec: FeatureSpec, form: Form, row: Row) -> list[list[Part]]:
    """What is asked for a row: one question, or in a form that takes one picture at a time one of each.

    Raises:
        ItemError: there is nothing to ask.
    """
    parts = [part for value in row for part in _parts(value)]
    if not parts:
        raise ItemError("encode", "nothing of the item is there to encode")
    as_one = form.whole or any(kind == "text" for kind, _ in parts)
    return [parts] if as_one else [[part] for part in parts]


def messages(parts: Sequence[Part], prompt: str | None, sent_as: SentFormat) -> list[dict[str, Any]]:
    """A question as a conversation: the prompt as the system's, the parts in their order as the user's.

    As Qwen3-VL-Embedding, GME and sentence-transformers (6.2) write messages.
    """
    content = [_content(kind, value, sent_as) for kind, value in parts]
    system = [{"role": "system", "content": [{"type": "text", "text": prompt}]}] if prompt else []
    return [*system, {"role": "user", "content": content}]


def _content(kind: str, value: Any, sent_as: SentFormat) -> dict[str, Any]:
    if kind == "text":
        # A chat template would take an item's own control words for its own.
        return {"type": "text", "text": sanitised(value)}
    if kind == "audio":
        return input_audio(*value)
    return {"type": "image_url", "image_url": {"url": data_url(value, sent_as)}}


def _parts(value: Any) -> Iterator[Part]:
    """What one input gives a question, in order; nothing of what an item lacks."""
    if isinstance(value, Sound):
        yield from (("audio", (window, value.sample_rate)) for window in value.parts)
    elif isinstance(value, Pictures | Frames):
        yield from (("image", np.asarray(pixels)) for pixels in value.pixels)
    elif value is not None:
        yield "text", value


def _refuse_strangers(ask: Ask[Any], form: Form, other_form: str) -> None:
    for one in ask.inputs:
        if one.modality not in form.takes:
            raise ask.error(
                f"this form of a question takes {' and '.join(form.takes)}, and {one.source!r} is "
                f"{_CALLED[one.modality]}",
                other_form,
            )
    if form.whole or len(ask.inputs) == 1:
        return
    read = [one.modality for one in ask.inputs]
    if form is TEXTS or sorted(read) != ["image", "text"]:
        raise ask.error(
            f"a question holds {'one text' if form is TEXTS else 'a text and a picture at most'}, and inputs "
            f"names {len(ask.inputs)}",
            f'Texts become one by text = "{{title}}, {{brand?}}". {other_form}',
        )


def _refuse_useless_options(ask: Ask[Any], form: Form) -> None:
    refuse_options_of_others(ask, _OF_PIXELS)
    pictures = ask.options.pictures
    if pictures in ("mean", "each") and (form.whole or len(ask.inputs) > 1):
        raise ask.error(
            f"pictures = {pictures!r} goes with a feature of pictures alone, asked one at a time",
            'Leave it out, or take pictures = "first".',
        )
    if pictures == "together" and not form.whole:
        raise ask.error(
            "a question holds one picture", 'Take pictures = "first", or of pictures alone "mean" or "each".'
        )


def _input(ask: Ask[Any], one: AskedInput, form: Form, sent_as: PictureFormat | None) -> Input:
    if one.modality == "text":
        return one.prepared(TextPrepare())
    if one.modality == "audio":
        return sound_input(ask, one, _USUAL_SOUND)
    view = view_of(one.modality, ask.options.max_side, jpeg=ask.options.jpeg or "exact")
    if one.modality == "video":
        return pixel_input(_with(ask, **dict.fromkeys(LIST_OPTIONS)), one, view, sent_as=sent_as)
    mine = _with(ask, **dict.fromkeys(FRAME_OPTIONS if one.several else (*FRAME_OPTIONS, *LIST_OPTIONS)))
    if one.several and form.whole and mine.options.pictures is None:
        mine = _with(mine, pictures="together")
    return pixel_input(mine, one, view, sent_as=sent_as)


def _with(ask: Ask[Any], **options: Any) -> Ask[Any]:
    """The same question with other options."""
    return replace(ask, options=ask.options.model_copy(update=options))

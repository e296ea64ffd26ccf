"""Captions by any server that speaks OpenAI's chat completions: vLLM, SGLang, Ollama, hosted ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from mmfeat.extract.base import Ask, Placement, Usage
from mmfeat.extract.describers.captions.asking import ChatOptions, ChatSettings, chat_spec
from mmfeat.extract.describers.captions.chat import ChatCaptioner
from mmfeat.extract.describers.captions.completions import CHAT
from mmfeat.extract.describers.captions.turns import Conversation, Turn
from mmfeat.extract.encoders.model_views import processor_folder
from mmfeat.extract.options import Place, need_model
from mmfeat.extract.served.client import Request, client_of
from mmfeat.extract.served.parts import (
    SentFormat,
    data_url,
    input_audio,
    pixel_digest,
    sanitised,
    sound_digest,
)
from mmfeat.extract.served.reply import Reply
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.fields import Fields, refuse_set_elsewhere
from mmfeat.schemas.inputs import PictureFormat
from mmfeat.schemas.server import Sending
from mmfeat.schemas.spec import Decoding, FeatureSpec, ModelCard, Weights, canonical_json

_EXAMPLE = "Qwen/Qwen2.5-VL-7B-Instruct"
_DEFAULT_FORMAT: PictureFormat = "png"
_NOTES = "Captions by a model on a server; what the server runs under that name is its own affair."

# Fields of a request that the spec decides elsewhere, or that would change what an answer is.
_DECIDED = {
    "chat_template_kwargs": "it has an option of its own",
    "max_completion_tokens": "max_new_tokens says it",
    "max_tokens": "max_new_tokens says it",
    "messages": "they are the question",
    "model": "it has an option of its own",
    "n": "there is one answer to a question",
    "reasoning_effort": "it has an option of its own",
    "seed": "it is made from the question",
    "stream": "answers are read whole",
    "stream_options": "answers are read whole",
    "temperature": "it has an option of its own",
}


class OpenAICaptionerOptions(ChatOptions):
    """What the server calls the model, what stands behind that name, how pictures travel, and what else a
    request says.

    Attributes:
        model: what the server calls the model.
        resize: hub id or folder of the model whose processor's resize is done before pictures travel.
        revision: what stands behind the name, in your own words: no server tells it.
        send_as: how pictures travel: ``png``, every pixel as it is, or ``jpeg`` of quality 95, in smaller
            requests; ``png`` when None.
        reasoning_effort: how much the model thinks, as the server knows it.
        extra_body: further fields of a request; none that another option sets, and no key or password.
    """

    model: str | None = None
    resize: Place = None
    revision: str | None = None
    send_as: PictureFormat | None = None
    reasoning_effort: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,32}$")
    extra_body: Fields = None

    @field_validator("extra_body")
    @classmethod
    def _not_decided_elsewhere(cls, fields: dict[str, Any] | None) -> dict[str, Any] | None:
        refuse_set_elsewhere(fields, _DECIDED)
        return fields


class RequestSettings(ChatSettings):
    """What a request says beside the question: the options of a resolved spec.

    Attributes:
        reasoning_effort: how much the model is to think, in the server's words.
        extra_body: further fields.
    """

    reasoning_effort: str | None = None
    extra_body: dict[str, Any] | None = None


class OpenAICaptioner(ChatCaptioner):
    """One answer per question, from a server.

    Pictures travel in the question as data URLs, sounds as WAV files of 16 bits. Model, revision, prompt,
    frames, windows and decoding decide the fingerprint; which server answers does not, so ``revision``
    says what no server tells reliably: the checkpoint or the quantisation behind the name. At temperature
    0 decoding is greedy as far as the server keeps to it; above, a seed made from the question is sent
    along.
    """

    Options: ClassVar[type[OpenAICaptionerOptions]] = OpenAICaptionerOptions
    # A block of the graph: with fewer at a time, slots would stand empty at every batch's end.
    batch_size: ClassVar[int] = 64
    runs: ClassVar[Literal["here", "server", "engine"]] = "server"
    example: ClassVar[ModelCard] = ModelCard(
        method="openai",
        model=_EXAMPLE,
        reads=("image", "video", "audio"),
        licence="see the model's own card",
        weights_from=f"server: {_EXAMPLE}",
        notes=_NOTES,
    )

    @classmethod
    def resolve(cls, ask: Ask[OpenAICaptionerOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`. ``model`` is the server's name for it; no server is asked."""
        model = need_model(ask, _EXAMPLE)
        refuse_video(ask)
        weights = Weights(origin="server", ref=model, revision=ask.options.revision)
        place = ask.options.resize
        spec = chat_spec(
            ask,
            sent_as=ask.options.send_as or _DEFAULT_FORMAT,
            processor=processor_folder(ask, place) if place else None,
            model=model,
            weights=weights,
        )
        more = ask.options.model_dump(include={"reasoning_effort", "extra_body"}, exclude_none=True)
        return spec.with_options(**more)

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Method.card`."""
        return cls.example.model_copy(update={"model": spec.model, "weights_from": f"server: {spec.model}"})

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Prepare to ask.

        Args:
            place: says which server, how often, and where answers are kept; by default the server that the
                environment names, with no cap and no journal.

        Raises:
            ConfigError: no server is named.
        """
        self.spec = spec
        self._client = client_of(place.sending or Sending())

    def answer(
        self, conversations: Sequence[Conversation], decoding: Decoding, at_once: int
    ) -> list[Reply | ItemError]:
        """See :meth:`ChatCaptioner.answer`."""
        return self._client.ask([self._request(turns, decoding) for turns in conversations])

    def sent(self) -> Usage:
        """See :meth:`Captioner.sent`."""
        return self._client.sent(self.spec.fingerprint)

    def sanitised(self, text: str) -> str:
        """An item's text without what the usual chat templates take for control."""
        return sanitised(text)

    def _request(self, turns: Conversation, decoding: Decoding) -> Request:
        digest = _digest(self.spec, turns, decoding)
        body = partial(_body, self.spec, turns, decoding)
        return Request(self.spec.fingerprint, digest, body, decoding.max_new_tokens, CHAT)


def seed_of(spec: FeatureSpec, turns: Conversation, decoding: Decoding) -> int:
    """Where random numbers start for a question, so that its answer depends on nothing beside it."""
    return int(_digest(spec, turns, decoding)[:8], 16) >> 1


def refuse_video(ask: Ask[Any]) -> None:
    """ConfigError for frames that a person wants shown as one video.

    A request has a place for the bytes of a video (vLLM's ``video_url``), but none for which frames a server
    takes of it, nor for their times: what was asked would be the server's choice.
    """
    if ask.options.shown_as == "video":
        raise ask.error(
            f"captioner {ask.method!r} cannot show frames as one video: no request says which frames a "
            "server takes of it",
            'Leave as out, and name {times} in the prompt; or take captioner = "transformers".',
        )


def message(turn: Turn, sent_as: SentFormat) -> dict[str, Any]:
    """A turn as chat completions write it, its pictures as data URLs and its sounds as WAV files."""
    if turn.pictures is None and turn.sound is None:
        return {"role": turn.role, "content": turn.text}
    pictures = () if turn.pictures is None else turn.pictures
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": data_url(picture, sent_as)}} for picture in pictures
    ]
    if turn.sound is not None:
        parts += [input_audio(part, turn.sound.sample_rate) for part in turn.sound.parts]
    return {"role": turn.role, "content": [*parts, {"type": "text", "text": turn.text}]}


def _digest(spec: FeatureSpec, turns: Conversation, decoding: Decoding) -> str:
    """SHA-256 of everything that is asked; pictures by their pixels and sounds by their samples, whatever a
    codec makes of them."""
    asked = {
        "feature": spec.fingerprint,
        "decoding": decoding.model_dump(mode="json"),
        "turns": [_turn_digest(turn) for turn in turns],
    }
    return hashlib.sha256(canonical_json(asked).encode()).hexdigest()


def _turn_digest(turn: Turn) -> list[str]:
    """Of a turn without sound the same as before there was any, so that answers of then are found."""
    seen = [turn.role, turn.text, pixel_digest(turn.pictures)]
    return seen if turn.sound is None else [*seen, sound_digest(turn.sound)]


def _body(spec: FeatureSpec, turns: Conversation, decoding: Decoding) -> dict[str, Any]:
    """A chat completion request but for its limit of new tokens, which has two names."""
    body: dict[str, Any] = {
        "model": spec.weights.ref,
        "messages": [message(turn, _format_of(spec)) for turn in turns],
        "temperature": decoding.temperature,
        **_further(spec.settings(RequestSettings)),
    }
    return body if decoding.temperature == 0 else {**body, "seed": seed_of(spec, turns, decoding)}


def _further(settings: RequestSettings) -> dict[str, Any]:
    """The fields that are sent only where a job says so."""
    said = settings.model_dump(include={"chat_template_kwargs", "reasoning_effort"}, exclude_none=True)
    return {**(settings.extra_body or {}), **said}


def _format_of(spec: FeatureSpec) -> PictureFormat:
    """How the feature's pictures travel; of one that reads none the default."""
    return (spec.pixels and spec.pixels.sent_as) or _DEFAULT_FORMAT

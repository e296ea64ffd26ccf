"""Transcripts by any server that speaks OpenAI's audio API: vLLM, Speaches, hosted ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from mmfeat.extract.base import Ask, Placement, Usage
from mmfeat.extract.describers.transcripts.hearing import (
    SAMPLE_RATE,
    Ear,
    Heard,
    HearingOptions,
    Piece,
    heard_input,
    voice_activity,
)
from mmfeat.extract.describers.transcripts.transcript import HearingSettings, PieceTranscriber, Said, Segment
from mmfeat.extract.options import need_model
from mmfeat.extract.served.answers import Answered, Refusal, Trouble, read_answer
from mmfeat.extract.served.client import Endpoint, Request, client_of
from mmfeat.extract.served.reply import Reply
from mmfeat.extract.served.wav import wav_of
from mmfeat.schemas.errors import ItemError, NotAsked
from mmfeat.schemas.outputs import TextOut
from mmfeat.schemas.server import Sending
from mmfeat.schemas.spec import FeatureSpec, ModelCard, Weights, canonical_json

_EXAMPLE = "openai/whisper-large-v3-turbo"
_SHOWN_CHARACTERS = 200
# Whisper's decoder holds no more, of a piece of 30 s.
_MOST_TOKENS = 448
_WHISPERS = ("no_speech_prob", "avg_logprob", "compression_ratio")


class OpenAITranscriberOptions(HearingOptions):
    """What the server calls the model, what stands behind that name, and the language that is spoken.

    Attributes:
        model: what the server calls the model.
        revision: what stands behind the name, in your own words: no server tells it.
        language: language that is spoken, such as ``en``; when None the model takes that of the item's first
            words. To say it saves a pass of the encoder.
    """

    model: str | None = None
    revision: str | None = None
    language: str | None = Field(default=None, pattern=r"^[a-z]{2,3}$")


class OpenAITranscriber(PieceTranscriber):
    """What is said in a sound, by a model on a server.

    Only what a voice speaks in is sent (:mod:`mmfeat.extract.describers.transcripts.hearing`), in pieces of
    30 s at most, each a WAV file and a request of its own with ``response_format = "verbose_json"`` and
    temperature 0: a sound in which nobody speaks costs nothing. As with captions, which server answers is no
    part of the spec, and ``revision`` says what stands behind the model's name.
    """

    Options: ClassVar[type[OpenAITranscriberOptions]] = OpenAITranscriberOptions
    # A block of the graph.
    batch_size: ClassVar[int] = 16
    runs: ClassVar[Literal["here", "server", "engine"]] = "server"
    example: ClassVar[ModelCard] = ModelCard(
        method="openai",
        model=_EXAMPLE,
        reads=("audio",),
        licence="see the model's own card",
        weights_from=f"server: {_EXAMPLE}",
        notes="Transcripts by a model on a server, through /audio/transcriptions.",
    )

    @classmethod
    def resolve(cls, ask: Ask[OpenAITranscriberOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`. ``model`` is the server's name for it; no server is asked."""
        model = need_model(ask, _EXAMPLE)
        return ask.spec(
            inputs=(heard_input(ask),),
            output=TextOut(role="transcript", segments=True),
            model=model,
            weights=Weights(origin="server", ref=model, revision=ask.options.revision),
            options=HearingSettings(vad=voice_activity(ask), language=ask.options.language).model_dump(),
        )

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Method.card`."""
        return cls.example.model_copy(update={"model": spec.model, "weights_from": f"server: {spec.model}"})

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Load the detector of voices, and prepare to ask.

        Args:
            place: says which server, how often, and where answers are kept.

        Raises:
            ConfigError: no server is named.
            MissingExtra: a package is not installed.
        """
        self.spec = spec
        self._hearing = spec.settings(HearingSettings)
        self._ear = Ear(spec.name, self._hearing.vad)
        self._client = client_of(place.sending or Sending())

    def write_down(self, heard: Sequence[Heard]) -> list[list[Said | ItemError]]:
        """See :meth:`PieceTranscriber.write_down`."""
        requests = [self._request(piece) for one in heard for piece in one.pieces]
        replies = iter(self._client.ask(requests) if requests else ())
        return [[_said(next(replies)) for _ in one.pieces] for one in heard]

    def sent(self) -> Usage:
        """See :meth:`Method.sent`."""
        return self._client.sent(self.spec.fingerprint)

    def _request(self, piece: Piece) -> Request:
        digest = hashlib.sha256(self.spec.fingerprint.encode() + piece.samples.tobytes()).hexdigest()
        body = partial(_body, self.spec.weights.ref, self._hearing.language, piece.samples)
        return Request(self.spec.fingerprint, digest, body, _MOST_TOKENS, _TRANSCRIPTIONS)


class TranscriptionEndpoint(Endpoint):
    """Audio transcriptions: a form with a file."""

    path: ClassVar[str] = "/audio/transcriptions"

    def sent(self, body: dict[str, Any], limit: dict[str, int]) -> dict[str, Any]:
        """See :meth:`Endpoint.sent`. A transcription has no limit but its sound."""
        fields = {name: value for name, value in body.items() if name != "file"}
        return {"data": fields, "files": {"file": ("sound.wav", body["file"], "audio/wav")}}

    def simple(self, body: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`Endpoint.simple`: a second of silence."""
        return {**body, "file": wav_of(np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE)}

    def read(
        self, status: int, headers: Mapping[str, str], body: str, seconds: float, url: str, most_tokens: int
    ) -> Answered:
        """See :meth:`Endpoint.read`."""
        return read_answer(status, headers, body, seconds, url, most_tokens, _transcription)


_TRANSCRIPTIONS = TranscriptionEndpoint()


def _body(model: str, language: str | None, samples: np.ndarray) -> dict[str, Any]:
    """The fields of a request."""
    said = {} if language is None else {"language": language}
    file = wav_of(samples, SAMPLE_RATE)
    return {"model": model, "response_format": "verbose_json", "temperature": "0", **said, "file": file}


def _transcription(
    body: str, headers: Mapping[str, str], seconds: float, url: str, most_tokens: int
) -> Answered:
    """An answer of success; its reply's text is canonical JSON of what is used of it."""
    if not body.strip() or body.lstrip()[:1] == "<":
        raise Trouble("the server answered 200 with no transcription", reached=False)
    try:
        answer = json.loads(body)
        usage, counted = _usage(answer)
        reply = Reply(_used(answer), "stop", usage.prompt_tokens, usage.new_tokens, seconds)
        return Answered(reply, usage, counted)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        shown = " ".join(body.split())[:_SHOWN_CHARACTERS]
        outcome = Refusal("transcribe", f"the server's answer is no transcription with segments: {shown}")
        return Answered(outcome, Usage(1), counted=False, is_completion=False)


def _used(answer: Any) -> str:
    """What is used of an answer, as canonical JSON.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: it is no ``verbose_json``.
    """
    segments = [
        {
            **{name: float(one[name]) for name in ("start", "end")},
            **{name: float(one[name]) for name in _WHISPERS if one.get(name) is not None},
            "text": str(one["text"]),
        }
        for one in answer["segments"] or ()
    ]
    text = str(answer["text"])
    if text.strip() and not segments:
        raise ValueError("no segments")
    used = {"text": text, "segments": segments, "language": answer.get("language")}
    said = canonical_json({name: value for name, value in used.items() if value is not None})
    said.encode()
    return said


def _usage(answer: Mapping[str, Any]) -> tuple[Usage, bool]:
    """What it cost, and whether the server said how many tokens that was: most count seconds."""
    usage = answer.get("usage") or {}
    read, written = usage.get("input_tokens"), usage.get("output_tokens")
    if isinstance(read, int) and isinstance(written, int) and min(read, written) >= 0:
        return Usage(1, read, written), True
    return Usage(1), False


def _said(reply: Reply | ItemError) -> Said | ItemError:
    if isinstance(reply, NotAsked):
        return reply
    if isinstance(reply, ItemError):
        return ItemError("transcribe", reply.reason)
    answer = json.loads(reply.text)
    segments = tuple(Segment(**one) for one in answer["segments"])
    usage = Usage(1, reply.prompt_tokens, reply.new_tokens)
    return Said(_with_blanks(segments, answer["text"]), answer.get("language"), usage=usage)


def _with_blanks(segments: tuple[Segment, ...], text: str) -> tuple[Segment, ...]:
    """Segments that add up to the text: some servers take the blanks off that stand between them."""
    if "".join(segment.text for segment in segments).strip() == text.strip():
        return segments
    return tuple(replace(segment, text=f" {segment.text.strip()}") for segment in segments)

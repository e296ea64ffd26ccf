"""Vectors by any server that answers ``/v1/embeddings``: vLLM, SGLang, Ollama, TEI, hosted ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import field_validator

from mmfeat.extract.base import Ask, Encoder, Placement, Query, Reads, Row, Usage
from mmfeat.extract.encoders.pixels import to_vectors
from mmfeat.extract.encoders.questions import (
    MESSAGES,
    PAIRS,
    TEXTS,
    Form,
    Part,
    QuestionOptions,
    QuestionSettings,
    messages,
    question_spec,
    questions,
)
from mmfeat.extract.encoders.sentence_transformers.modalities import view_of
from mmfeat.extract.encoders.vectors import card_of, settings_of
from mmfeat.extract.options import need_model
from mmfeat.extract.served.client import Client, Request, client_of
from mmfeat.extract.served.embeddings import EmbeddingEndpoint, vector_of
from mmfeat.extract.served.parts import data_url, pixel_digest, samples_digest, sanitised
from mmfeat.extract.served.reply import Reply
from mmfeat.schemas.errors import ItemError, MmfeatError, NotAsked
from mmfeat.schemas.fields import Fields, refuse_set_elsewhere
from mmfeat.schemas.inputs import ImagePrepare, PictureFormat, TextPrepare
from mmfeat.schemas.server import Sending, ServerConfig
from mmfeat.schemas.spec import FeatureSpec, ModelCard, Weights, canonical_json

#: Whose form a question has: what the API has for everybody, or what two servers have beside it.
Dialect = Literal["openai", "vllm", "sglang"]

_EXAMPLE = "Qwen/Qwen3-Embedding-0.6B"
_DEFAULT_FORMAT: PictureFormat = "png"
_FORMS = {"openai": TEXTS, "vllm": MESSAGES, "sglang": PAIRS}
# Nobody waits long for the answer to a search.
_OF_SEARCHES = Sending(server=ServerConfig(wait_seconds=5.0))
_OTHER_FORM = (
    'server = "vllm" asks in messages, which hold texts, pictures, frames and sound; server = "sglang" asks '
    "for a text and a picture."
)
# Fields of a request that the spec decides elsewhere, or that would change what an answer is.
_DECIDED = {
    "dimensions": "it has an option of its own",
    "input": "it is what is asked",
    "messages": "they are what is asked",
    "model": "it has an option of its own",
    "embed_dtype": "vectors travel in float32",
    "endianness": "vectors travel in the usual order of bytes",
}


class OpenAIEncoderOptions(QuestionOptions):
    """What the server calls the model, what stands behind that name, in which form it is asked, and what else
    a request says.

    Attributes:
        server: whose form: ``openai`` (texts), ``vllm`` (messages) or ``sglang`` (a text and a picture).
        model: what the server calls the model.
        send_as: how pictures travel: ``png``, every pixel as it is, or ``jpeg`` of quality 95, in smaller
            requests; ``png`` when None.
        extra_body: further fields of a request; none that another option sets, and no key or password.
    """

    model: str | None = None
    server: Dialect | None = None
    send_as: PictureFormat | None = None
    extra_body: Fields = None

    @field_validator("extra_body")
    @classmethod
    def _not_decided_elsewhere(cls, fields: dict[str, Any] | None) -> dict[str, Any] | None:
        refuse_set_elsewhere(fields, _DECIDED)
        return fields


class RequestSettings(QuestionSettings):
    """What decides a vector beside the item: the options of a resolved spec."""

    server: Dialect = "openai"
    extra_body: dict[str, Any] | None = None


class OpenAIEncoder(Encoder):
    """One vector per item, from a server, as it gives them; ``normalize = true`` gives them length 1.

    Model, revision, form, prompt and further fields decide the fingerprint; which server answers does not, so
    ``revision`` says what no server tells reliably. With ``server = "openai"``, which every server speaks, a
    text is sent behind the prompt, and no chat template is applied. With ``"vllm"`` all that is read of an
    item is one message, in the order of ``inputs``, behind the prompt as the system's, and the server applies
    the model's chat template: to texts too, so that they lie where the pictures do. Frames of a clip are so
    many pictures of it. With ``"sglang"`` a question is a text, a picture, or one of each; several pictures
    or frames are asked one by one, and have the mean of their vectors.
    """

    Options: ClassVar[type[OpenAIEncoderOptions]] = OpenAIEncoderOptions
    reads: ClassVar[tuple[Reads, ...]] = (Reads(("text", "image", "video", "audio"), together=True),)
    # A block of the graph: with fewer at a time, slots would stand empty at every batch's end.
    batch_size: ClassVar[int] = 256
    runs: ClassVar[Literal["here", "server", "engine"]] = "server"
    example: ClassVar[ModelCard] = ModelCard(
        method="openai",
        model=_EXAMPLE,
        reads=("text", "image", "video", "audio"),
        dims=1024,
        licence="see the model's own card",
        weights_from=f"server: {_EXAMPLE}",
        notes="Vectors by a model on a server; what the server runs under that name is its own affair.",
    )

    @classmethod
    def resolve(cls, ask: Ask[OpenAIEncoderOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`. ``model`` is the server's name for it; no server is asked."""
        model, options = need_model(ask, _EXAMPLE), ask.options
        spec = question_spec(
            ask,
            _FORMS[options.server or "openai"],
            other_form=_OTHER_FORM,
            sent_as=options.send_as or _DEFAULT_FORMAT,
            model=model,
            weights=Weights(origin="server", ref=model, revision=options.revision),
        )
        return spec.with_options(**options.model_dump(include={"server", "extra_body"}, exclude_none=True))

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Method.card`."""
        takes = _FORMS[spec.settings(RequestSettings).server].takes
        return card_of(spec, takes).model_copy(update={"input_size": None})

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Prepare to ask.

        Args:
            place: says which server, how often, and where answers are kept; by default the server that the
                environment names, with no cap and no journal.

        Raises:
            ConfigError: no server is named.
        """
        assert spec.dims is not None, "resolve says it"
        self.spec = spec
        self._settings = spec.settings(RequestSettings)
        self._form = _FORMS[self._settings.server]
        self._sending = sending = place.sending or _OF_SEARCHES
        self._endpoint = EmbeddingEndpoint(spec.dims, "dimensions" in spec.options)
        # Messages are one conversation a request.
        self._at_once = 1 if self._form.whole else sending.server.vectors_per_request
        self._client = client_of(sending)

    def run(self, rows: Sequence[Row]) -> list[np.ndarray | ItemError]:
        """See :meth:`Method.run`."""
        asked = [_caught(self.spec, self._form, row) for row in rows]
        flat = [one for of_row in asked if not isinstance(of_row, ItemError) for one in of_row]
        answers = self._answers(flat, self._settings.item_prompt)
        return [one if isinstance(one, ItemError) else self._value(one, answers) for one in asked]

    def query(self, modality: str) -> Query | None:
        """See :meth:`Method.query`. By a text and, where the form takes them, by a picture."""
        if modality not in self._form.takes or modality not in ("text", "image"):
            return None
        prepare = TextPrepare() if modality == "text" else ImagePrepare(view=view_of(modality))
        return Query(prepare, self._searched)

    def sent(self) -> Usage:
        """See :meth:`Method.sent`."""
        return self._client.sent(self.spec.fingerprint)

    def _searched(self, values: Sequence[Any]) -> np.ndarray:
        asked = [questions(self.spec, self._form, (value,))[0] for value in values]
        found = list(self._answers(asked, self._settings.query_prompt))
        for one in found:
            if isinstance(one, NotAsked):
                # What ends a run ends one search: the server may be back for the next one.
                self._client = Client(self._sending)
                raise one.why
            if isinstance(one, ItemError):
                raise MmfeatError(f"{self.spec.version} cannot be searched by this: {one.reason}")
        return to_vectors(np.stack(found), self.spec)

    def _answers(self, asked: Sequence[list[Part]], prompt: str | None) -> Iterator[Any]:
        """A vector or an ItemError for each question."""
        replies = self._client.ask([self._request(parts, prompt) for parts in asked]) if asked else ()
        return map(_answer, replies)

    def _value(self, asked: Sequence[list[Part]], answers: Iterator[Any]) -> np.ndarray | ItemError:
        """A row's value of the answers to its questions, which come next."""
        found = [next(answers) for _ in asked]
        if (failed := next((one for one in found if isinstance(one, ItemError)), None)) is not None:
            return failed
        vectors = to_vectors(np.stack(found), self.spec)
        if self.spec.form == "tokens":
            return vectors
        return vectors[0] if len(vectors) == 1 else to_vectors(vectors.mean(axis=0), self.spec)

    def _request(self, parts: Sequence[Part], prompt: str | None) -> Request:
        digest = _digest(self.spec, parts, prompt)
        body = partial(_body, self.spec, self._settings, parts, prompt)
        return Request(self.spec.fingerprint, digest, body, 0, self._endpoint, self._at_once)


def on_server(spec: FeatureSpec) -> FeatureSpec | None:
    """What asks a server for the vectors of a version: itself, or the same model by its name, for the text
    that a feature of sentence-transformers reads. None of other versions.

    Messages are no such thing: whether a model's template opens an answer at its end is for a request to say.
    """
    if spec.method == "openai":
        return spec
    settings, read = settings_of(spec), spec.given[0].prepare
    if not isinstance(read, TextPrepare) or spec.method != "sentence_transformers":
        return None
    if settings.takes is not None or spec.vectors:
        return None
    cut = None if settings.truncate_dim is None else spec.dims
    asked = RequestSettings(normalize=settings.normalize, item_prompt=read.prefix or None, dimensions=cut)
    weights = Weights(origin="server", ref=spec.model)
    options = asked.model_dump(mode="json", exclude_none=True)
    return spec.model_copy(update={"method": "openai", "weights": weights, "options": options})


def _caught(spec: FeatureSpec, form: Form, row: Row) -> list[list[Part]] | ItemError:
    try:
        return questions(spec, form, row)
    except ItemError as error:
        return error


def _answer(reply: Reply | ItemError) -> np.ndarray | ItemError:
    if isinstance(reply, NotAsked):
        return reply
    return ItemError("encode", reply.reason) if isinstance(reply, ItemError) else vector_of(reply)


def _body(
    spec: FeatureSpec, settings: RequestSettings, parts: Sequence[Part], prompt: str | None
) -> dict[str, Any]:
    """An embedding request of one question. Base64 is as exact as numbers, and a quarter of their length."""
    body: dict[str, Any] = {"model": spec.weights.ref, "encoding_format": "base64"}
    if settings.dimensions is not None:
        body["dimensions"] = settings.dimensions
    sent_as = (spec.pixels and spec.pixels.sent_as) or _DEFAULT_FORMAT
    if settings.server == "vllm":
        asked: dict[str, Any] = {"messages": messages(parts, prompt, sent_as)}
    elif settings.server == "sglang":
        asked = {"input": [_pair(parts, prompt, sent_as)]}
    else:
        asked = {"input": [(prompt or "") + "".join(text for _, text in parts)]}
    return {**body, **(settings.extra_body or {}), **asked}


def _pair(parts: Sequence[Part], prompt: str | None, sent_as: PictureFormat) -> dict[str, str]:
    """A text and a picture, as SGLang's ``MultimodalEmbeddingInput`` has them."""
    found = dict(parts)
    pair = {"text": (prompt or "") + sanitised(found.get("text", ""))}
    if "image" in found:
        pair["image"] = data_url(found["image"], sent_as)
    return {name: value for name, value in pair.items() if value}


def _digest(spec: FeatureSpec, parts: Sequence[Part], prompt: str | None) -> str:
    """SHA-256 of everything that is asked; pictures by their pixels and sounds by their samples."""
    asked = {
        "feature": spec.fingerprint,
        "prompt": prompt or "",
        "parts": [[kind, _part_digest(kind, value)] for kind, value in parts],
    }
    return hashlib.sha256(canonical_json(asked).encode()).hexdigest()


def _part_digest(kind: str, value: Any) -> str:
    if kind == "text":
        return str(value)
    return pixel_digest(value) if kind == "image" else samples_digest(*value)

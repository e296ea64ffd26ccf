"""Vectors by ``POST /v1/embeddings``: several questions a request, and what an answer holds.

The fields are those of OpenAI's API reference (``input``, ``dimensions``, ``encoding_format``; ``data`` with
``index`` and ``embedding``; ``usage``). vLLM takes ``messages`` in the place of ``input``, one conversation a
request (its ``EmbeddingChatRequest``); SGLang takes objects of a text and a picture in ``input`` (its
``MultimodalEmbeddingInput``). Servers that know no base64 give numbers, and both are read.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from mmfeat.extract.base import Usage
from mmfeat.extract.served.answers import (
    Answered,
    Refusal,
    error_in,
    error_of,
    read_answer,
    refuse_other_bodies,
    short,
    status_of,
    words,
)
from mmfeat.extract.served.client import Endpoint, Request
from mmfeat.extract.served.reply import Reply
from mmfeat.schemas.errors import ServerRefused

_LITTLE_ENDIAN = "<f4"
_SIMPLE = "Say yes."


@dataclass(frozen=True)
class EmbeddingEndpoint(Endpoint):
    """Embeddings of one version.

    Attributes:
        dims: numbers of every vector.
        is_cut: whether the server is asked to cut vectors to so many.
        count: vectors that one answer holds.
    """

    path: ClassVar[str] = "/embeddings"
    dims: int
    is_cut: bool = False
    count: int = 1

    def sent(self, body: dict[str, Any], limit: dict[str, int]) -> dict[str, Any]:
        """See :meth:`Endpoint.sent`. No token is made, so there is no limit of any."""
        return {"json": body}

    def simple(self, body: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`Endpoint.simple`: as many short texts, in the same form."""
        if "messages" in body:
            return {**body, "messages": [{"role": "user", "content": _SIMPLE}]}
        is_object = isinstance(body["input"][0], dict)
        return {**body, "input": [{"text": _SIMPLE} if is_object else _SIMPLE] * self.count}

    def read(
        self, status: int, headers: Mapping[str, str], body: str, seconds: float, url: str, most_tokens: int
    ) -> Answered:
        """See :meth:`Endpoint.read`. A reply's text is what :func:`vector_of` reads."""
        return read_answer(status, headers, body, seconds, url, most_tokens, partial(_read, self))

    def joined(self, requests: Sequence[Request]) -> Request:
        """See :meth:`Endpoint.joined`."""
        endpoint = replace(self, count=len(requests))
        body = partial(_joined, [request.body for request in requests])
        return replace(requests[0], body=body, endpoint=endpoint, stands_for=len(requests))


def vector_of(reply: Reply) -> np.ndarray:
    """float32 ``[dims]`` of an accepted reply."""
    return np.frombuffer(base64.b64decode(reply.text), _LITTLE_ENDIAN).astype(np.float32)


def vector_fault(vector: np.ndarray) -> str | None:
    """Why a vector is none that can be stored, whatever engine gave it; None if it is one."""
    if not len(vector):
        return "an empty vector"
    if not np.isfinite(vector).all():
        return "NaN or infinity"
    return None if vector.any() else "a vector of zeros"


def _joined(bodies: Sequence[Any]) -> dict[str, Any]:
    made = [body() for body in bodies]
    return {**made[0], "input": [one for body in made for one in body["input"]]}


def _read(
    asked: EmbeddingEndpoint,
    body: str,
    headers: Mapping[str, str],
    seconds: float,
    url: str,
    most_tokens: int,
) -> Answered:
    """An answer of success.

    It is one of its kind where it holds a vector that can be stored: a server that gives nothing but NaN
    gives nobody an answer, and no item is at fault for it.

    Raises:
        ServerRefused: the vectors have another length than the version says.
    """
    refuse_other_bodies(body)
    try:
        answer = json.loads(body)
        if (failed := error_in(answer, "data")) is not None:
            raise error_of(status_of(failed), headers, words(failed), body, url)
        vectors = _by_index(answer["data"])
        usage, counted = _usage(answer)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, binascii.Error):
        return _no_answer(f"the server's answer is no list of vectors: {short(body)}")
    if len(vectors) != asked.count:
        return _no_answer(f"the server gave {len(vectors)} vectors, and was asked for {asked.count}")
    if strange := [len(vector) for vector in vectors if len(vector) not in (0, asked.dims)]:
        raise _other_length(asked, strange[0], url)
    tokens = usage.prompt_tokens
    outcomes = [_outcome(vector, tokens if not at else 0, seconds) for at, vector in enumerate(vectors)]
    is_completion = any(isinstance(outcome, Reply) for outcome in outcomes)
    return Answered(outcomes[0], usage, counted, is_completion, tuple(outcomes[1:]))


def _other_length(asked: EmbeddingEndpoint, found: int, url: str) -> ServerRefused:
    if asked.is_cut:
        said = f"was asked to cut them to {asked.dims:,}"
        hint = f"It ignores dimensions: write dims = {found} in the place of dimensions = {asked.dims}."
    else:
        said = f"the feature says {asked.dims:,}"
        hint = f"Set dims = {found}; or dimensions = {asked.dims} in its place, if the model allows it."
    return ServerRefused(f"the server at {url} gives vectors of {found:,} numbers, and {said}", hint=hint)


def _by_index(data: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
    """Vectors in the order of what was asked, whatever order they come in.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: there is not one for each index.
    """
    found = {one.get("index", at): _numbers(one["embedding"]) for at, one in enumerate(data)}
    if sorted(found) != list(range(len(data))):
        raise ValueError("an index is missing")
    return [found[at] for at in range(len(data))]


def _numbers(embedding: Any) -> np.ndarray:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), _LITTLE_ENDIAN)
    numbers = np.asarray(embedding, _LITTLE_ENDIAN)
    if numbers.ndim != 1:
        raise ValueError("not one vector")
    return numbers


def _outcome(vector: np.ndarray, tokens: int, seconds: float) -> Reply | Refusal:
    if fault := vector_fault(vector):
        return Refusal("encode", f"the server gave {fault}")
    return Reply(base64.b64encode(vector.tobytes()).decode(), "stop", tokens, 0, seconds)


def _usage(answer: Mapping[str, Any]) -> tuple[Usage, bool]:
    tokens = (answer.get("usage") or {}).get("prompt_tokens")
    if isinstance(tokens, int) and tokens >= 0:
        return Usage(1, tokens), True
    return Usage(1), False


def _no_answer(reason: str) -> Answered:
    return Answered(Refusal("encode", reason), Usage(1), counted=False, is_completion=False)

"""Chat completions: how they are asked of a server, and what one says.

Their fields are those of OpenAI's API reference (``POST /v1/chat/completions``), which vLLM, SGLang and
Ollama follow; how they spell an end and a text differs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from mmfeat.extract.base import Usage
from mmfeat.extract.served.answers import (
    Answered,
    Refusal,
    Trouble,
    error_in,
    error_of,
    read_answer,
    refuse_other_bodies,
    short,
    status_of,
    usage_of,
    words,
)
from mmfeat.extract.served.client import Endpoint
from mmfeat.extract.served.reply import Reply
from mmfeat.schemas.errors import ItemError

# Why a reply ended, in lower case. What no server has called anything else is a stop, so that one more
# spelling loses no caption.
_CUT = re.compile(
    r"length|max_length|max_(?:new_|output_|completion_)?tokens?|token_limit"
    r"|(?:model_)?(?:context_)?(?:window_exceeded|length)"
)
_FILTERED = re.compile(
    r"content_?filter(?:ed)?|(?:image_)?safety|recitation|blocklist|blocked|prohibited_content|spii"
    r"|sensitive|refusal|guardrail_intervened|moderation"
)
_BROKEN = re.compile(r"abort(?:ed)?|error|cancell?ed|failed|insufficient_system_resource")
_OTHER = re.compile(r"(?:malformed_)?function_call|tool_(?:calls?|use)")


class ChatEndpoint(Endpoint):
    """Chat completions."""

    path: ClassVar[str] = "/chat/completions"

    def sent(self, body: dict[str, Any], limit: dict[str, int]) -> dict[str, Any]:
        """See :meth:`Endpoint.sent`."""
        return {"json": {**body, **limit}}

    def simple(self, body: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`Endpoint.simple`."""
        return {**body, "messages": [{"role": "user", "content": "Say yes."}]}

    def read(
        self, status: int, headers: Mapping[str, str], body: str, seconds: float, url: str, most_tokens: int
    ) -> Answered:
        """See :meth:`Endpoint.read`."""
        return read_answer(status, headers, body, seconds, url, most_tokens, _completion)


#: Chat completions of any model.
CHAT = ChatEndpoint()


def _completion(
    body: str, headers: Mapping[str, str], seconds: float, url: str, most_tokens: int
) -> Answered:
    refuse_other_bodies(body)
    try:
        answer = _parsed(body)
    except (ValueError, RecursionError, AttributeError, TypeError):
        return Answered(_rubbish(body), Usage(1), counted=False, is_completion=False)
    if (failed := error_in(answer, "choices")) is not None:
        raise error_of(status_of(failed), headers, words(failed), body, url)
    try:
        choice = answer["choices"][0]
        message, finish = _message_of(choice), _finish_of(choice)
        text, thought = _text_of(message.get("content")), _thought_in(message)
        refusal = message.get("refusal") or _refusal_in(message.get("content"))
    except (LookupError, TypeError, AttributeError, RecursionError):
        return Answered(_rubbish(body), Usage(1), counted=False, is_completion=False)
    usage, counted = usage_of(answer)
    if _BROKEN.fullmatch(finish):
        raise Trouble(f"the server broke off its reply ({finish})", may_cost=True)
    if _FILTERED.fullmatch(finish):
        refused = ItemError("caption", "the model refused: the server's content filter stopped the reply")
        return Answered(refused, usage, counted)
    if not text and refusal:
        return Answered(ItemError("caption", f"the model refused: {short(str(refusal))}"), usage, counted)
    if _OTHER.fullmatch(finish) or (text is None and not thought and message.get("content") is not None):
        return Answered(_rubbish(body), usage, counted, is_completion=False)
    # Where a server does not say why it ended, the count does.
    cut = _CUT.fullmatch(finish) or (not finish and usage.new_tokens >= most_tokens)
    reply = Reply(
        (text or "").strip(),
        "length" if cut else "stop",
        usage.prompt_tokens,
        usage.new_tokens,
        seconds,
        thought,
    )
    return Answered(reply, usage, counted)


def _parsed(body: str) -> Any:
    """The JSON of a body, which may come in the events of a stream that nobody asked for.

    Raises:
        ValueError, RecursionError: it is none.
    """
    if not re.match(r"\s*(?:data|event|id|retry)?:", body):
        return json.loads(body)
    lines = (line.strip() for line in body.splitlines())
    events = [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
    is_whole = "[DONE]" in events
    return _joined([json.loads(event) for event in events if event and event != "[DONE]"], is_whole)


def _joined(events: list[Any], is_whole: bool) -> dict[str, Any]:
    """The completion that the events of a stream add up to.

    Raises:
        ValueError: they are none.
    """
    texts: dict[str, str] = {}
    found: dict[str, Any] = {}
    finish = None if is_whole else "aborted"
    for event in events:
        if not isinstance(event, dict):
            raise ValueError("an event is no object")
        found |= {key: event[key] for key in ("error", "usage") if event.get(key)}
        for choice in event.get("choices") or ():
            finish = choice.get("finish_reason") or finish
            for key, part in (choice.get("delta") or choice.get("message") or {}).items():
                if isinstance(part, str) and key != "role":
                    texts[key] = texts.get(key, "") + part
    return {**found, "choices": [{"message": texts, "finish_reason": finish}] if events else []}


def _message_of(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message of a choice; of older servers its text."""
    message = choice.get("message") or choice.get("delta")
    if isinstance(message, Mapping):
        return message
    return {"content": choice["text"] if message is None else message}


def _finish_of(choice: Mapping[str, Any]) -> str:
    """Why a choice ended, in lower case; empty if it does not say so."""
    said = choice.get("finish_reason") or choice.get("finishReason") or choice.get("stop_reason") or ""
    return str(said).strip().lower().removeprefix("finishreason.") if isinstance(said, str) else ""


def _text_of(content: Any) -> str | None:
    """The text of a content: a text, or a list of parts; None if there is none."""
    parts = list(_parts(content))
    texts = [text for kind, text in parts if kind == "text"]
    return "".join(texts) if texts else None


def _parts(content: Any) -> Iterator[tuple[str, str]]:
    """The kind and the text of each part of a content."""
    if isinstance(content, str):
        yield "text", content
    elif isinstance(content, list):
        for part in content:
            yield from _parts(part)
    elif isinstance(content, Mapping):
        kind = str(content.get("type") or "text")
        kind = "text" if kind in ("text", "output_text") else kind
        inner = next(
            (content[k] for k in ("text", kind, "value", "summary", "content") if content.get(k)), None
        )
        yield from ((kind if found == "text" else found, text) for found, text in _parts(inner))


_THOUGHT = ("thinking", "reasoning", "reasoning_content", "thought", "redacted_thinking")


def _thought_in(message: Mapping[str, Any]) -> int:
    """Characters of reasoning that stand beside the content, or in parts of it."""
    beside = (text for name in _THOUGHT for _, text in _parts(message.get(name)))
    among = (text for kind, text in _parts(message.get("content")) if kind in _THOUGHT)
    # Servers that know it by two names give it under both.
    return max(len(max(beside, key=len, default="")), sum(map(len, among)))


def _refusal_in(content: Any) -> str:
    return "".join(text for kind, text in _parts(content) if kind == "refusal")


def _rubbish(body: str) -> Refusal:
    return Refusal("caption", f"the server's answer is no chat completion: {short(body)}")

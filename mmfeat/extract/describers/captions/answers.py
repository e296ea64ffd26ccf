"""What a chat server's answer means: a reply, an item's trouble, a try-again, or the end of the run.

The statuses, the fields of a chat completion and its error object are those of OpenAI's API reference
(``POST /v1/chat/completions``), which vLLM, SGLang and Ollama follow; how they spell an end, a text and
an error differs, and so does what stands in front of them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from mmfeat.extract.base import Usage
from mmfeat.extract.describers.captions.accepting import Reply
from mmfeat.schemas.errors import ItemError, MmfeatError, ServerRefused, ServerUnavailable
from mmfeat.schemas.reasons import kind_of

_SHOWN_CHARACTERS = 200
_ATTEMPTS = 4

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

# What is said of one picture, prompt or answer, and seldom of a setting.
_OF_ONE_ITEM = re.compile(
    r"too (?:large|long|big|small|much)|context (?:length|window)|maximum context|token limit"
    r"|exceeds? the (?:max|model)|decode|corrupt|truncated"
    r"|(?:invalid|unsupported|bad|broken) (?:image|picture|video|media)"
    r"|content (?:policy|management|filter)|safety|moderation|flagged|inappropriate",
    re.IGNORECASE,
)
# Of the most tokens of an answer, which are the same for every item.
_OF_THE_LIMIT = re.compile(r"max_tokens|max_completion_tokens|completion tokens", re.IGNORECASE)
_ALIKE, _ALIKE_OF_ITEMS = 3, 8
_NO_SUCH_ADDRESS = (404, 405, 410, 501)


@dataclass(frozen=True)
class Answered:
    """A request that the server carried out, so that it must not be sent again.

    Attributes:
        outcome: the reply, or why it is none.
        usage: what it cost.
        counted: whether the server said how many tokens that was.
        is_completion: whether it is a chat completion, whatever it says.
    """

    outcome: Reply | ItemError
    usage: Usage
    counted: bool = True
    is_completion: bool = True


class Trouble(Exception):
    """A request that may work when it is sent again.

    Args:
        reason: what happened.
        attempts: after how many of them it is asked whether the item is at fault.
        may_cost: whether the server may charge for it all the same.
        wait: seconds that the server asks to wait.
        of_server: whether it says something about the server and surely nothing about the item.
        reached: whether what answered is a server that is there.
        at_once: whether it is sent again without a pause.
    """

    def __init__(
        self,
        reason: str,
        *,
        attempts: int = _ATTEMPTS,
        may_cost: bool = False,
        wait: float | None = None,
        of_server: bool = False,
        reached: bool = True,
        at_once: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.attempts = attempts
        self.may_cost = may_cost
        self.wait = wait
        self.of_server = of_server
        self.reached = reached
        self.at_once = at_once


class Refusal(ItemError):
    """The server does not take a request: for its item's sake, or because it takes none of its kind.

    Args:
        alike: what it has in common with others that were refused for the same reason; by default the kind
            of the reason.
    """

    def __init__(self, stage: str, reason: str, alike: str | None = None) -> None:
        super().__init__(stage, reason)
        self.alike = kind_of(reason) if alike is None else alike

    @property
    def times(self) -> int:
        """How many that are refused alike, with none taken, are refused for what they have in common."""
        is_of_item = _OF_ONE_ITEM.search(self.reason) and not _OF_THE_LIMIT.search(self.reason)
        return _ALIKE_OF_ITEMS if is_of_item else _ALIKE


def read_answer(
    status: int,
    headers: Mapping[str, str],
    body: str,
    seconds: float,
    url: str,
    most_tokens: int,
    read: Callable[[str, Mapping[str, str], float, str, int], Answered] | None = None,
) -> Answered:
    """The outcome of one HTTP answer.

    Args:
        body: its text, without any secret that a server might repeat.
        seconds: that it took.
        url: of the server, for messages.
        most_tokens: that the reply was allowed.
        read: reads a body of success; that of a chat completion when None.

    Raises:
        Trouble: 408, 429 or 5xx, or what is no answer of a chat server: worth another attempt.
        ServerRefused: every other request would fare alike.
        ItemError: the server does not take this one.
    """
    if 200 <= status < 300:
        return (read or _completion)(body, headers, seconds, url, most_tokens)
    raise _error(status, headers, _message(body), body, url)


def _error(
    status: int, headers: Mapping[str, str], said: str, body: str, url: str
) -> MmfeatError | Trouble | ItemError:
    """What a status that is no success is."""
    because = f": {said}" if said else ""
    reason = f"the server answered {status}{because}"
    if status in (401, 403) and not _OF_ONE_ITEM.search(said):
        return ServerRefused(
            f"the server at {url} does not let us in ({status}){because}",
            hint="Put its key into the environment variable that [server] api_key_env names.",
        )
    if status in _NO_SUCH_ADDRESS:
        return ServerRefused(
            f"the server at {url} has no such model or address ({status}){because}",
            hint="Check the feature's model, and that the address ends as the server wants it, as in /v1.",
        )
    if status == 402 or "insufficient_quota" in body:
        return ServerRefused(f"the account at {url} has nothing left to spend ({status}){because}")
    if 300 <= status < 400:
        return ServerRefused(f"the server at {url} sends us elsewhere ({status})", hint="Give that address.")
    if status in (408, 425, 429) or status >= 500:
        return Trouble(reason, wait=retry_after(headers), of_server=status not in (408, 500))
    return Refusal("caption", reason)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that ``Retry-After`` asks for, given as a number or as a date; None where it says nothing."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
        return None if math.isnan(seconds) else max(0.0, seconds)
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def unavailable(trouble: Trouble, attempts: int, waited: float, url: str) -> ServerUnavailable:
    """The end of a run whose server was waited for long enough."""
    tries = f"{attempts} attempts" if attempts > 1 else "1 attempt"
    asks = f", and asks for {trouble.wait:,.0f} s more" if trouble.wait else ""
    return ServerUnavailable(
        f"the server at {url} gave no answer in {tries}: {trouble.reason} (waited {waited:,.0f} s{asks})",
        hint="No item is at fault, and what was answered is kept: run the job again when the server is back, "
        "or with less [server] concurrency. [server] wait_seconds says how long to wait for it.",
    )


def at_fault(trouble: Trouble, attempts: int) -> Refusal:
    """The item's own trouble: the server answers others. Or that of all of its kind: see :class:`Refusal`."""
    return Refusal("caption", f"{trouble.reason} (after {attempts} attempts)", alike=kind_of(trouble.reason))


def refused_alike(refusal: ItemError, times: int, url: str) -> ServerRefused:
    """The end of a run whose first requests were all refused for one reason."""
    return ServerRefused(
        f"the server at {url} took none of the first {times} requests, all for one reason: {refusal.reason}",
        hint="Check the feature's settings against what this server takes: model, number of pictures "
        "(frames), temperature, extra_body; of transcripts, whether it knows verbose_json. No item was "
        "booked as failed.",
    )


def _completion(
    body: str, headers: Mapping[str, str], seconds: float, url: str, most_tokens: int
) -> Answered:
    if not body.strip() or body.lstrip()[:1] == "<":
        what = "a web page" if body.strip() else "an empty body"
        raise Trouble(f"the server answered 200 with {what}: {_short(body)}".rstrip(": "), reached=False)
    try:
        answer = _parsed(body)
    except (ValueError, RecursionError, AttributeError, TypeError):
        return Answered(_rubbish(body), Usage(1), counted=False, is_completion=False)
    if (failed := _error_in(answer)) is not None:
        raise _error(_status_of(failed), headers, _words(failed), body, url)
    try:
        choice = answer["choices"][0]
        message, finish = _message_of(choice), _finish_of(choice)
        text, thought = _text_of(message.get("content")), _thought_in(message)
        refusal = message.get("refusal") or _refusal_in(message.get("content"))
    except (LookupError, TypeError, AttributeError, RecursionError):
        return Answered(_rubbish(body), Usage(1), counted=False, is_completion=False)
    usage, counted = _usage(answer)
    if _BROKEN.fullmatch(finish):
        raise Trouble(f"the server broke off its reply ({finish})", may_cost=True)
    if _FILTERED.fullmatch(finish):
        refused = ItemError("caption", "the model refused: the server's content filter stopped the reply")
        return Answered(refused, usage, counted)
    if not text and refusal:
        return Answered(ItemError("caption", f"the model refused: {_short(str(refusal))}"), usage, counted)
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


def _error_in(answer: Any) -> Any:
    """The error that an answer of status 200 is; None where it is none."""
    if not isinstance(answer, dict) or (answer.get("choices") and not answer.get("error")):
        return None
    if answer.get("object") == "error" or ("message" in answer and "code" in answer):
        return answer
    return answer.get("error") or None


def _status_of(failed: Any) -> int:
    """The status that an error means: the one that it names, else that of a request which is not taken."""
    said = failed if isinstance(failed, dict) else {}
    for name in ("code", "status", "status_code"):
        if str(said.get(name, "")).isdecimal() and 400 <= int(said[name]) < 600:
            return int(said[name])
    names = " ".join(str(said.get(name, "")) for name in ("code", "type", "status"))
    if re.search(r"rate.?limit|overload|unavailable|loading|exhausted|timeout", names, re.IGNORECASE):
        return 503
    return 500 if re.search(r"server.?error|internal", names, re.IGNORECASE) else 400


def _message_of(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message of a choice; of older servers its text."""
    message = choice.get("message") or choice.get("delta")
    if isinstance(message, Mapping):
        return message
    return {"content": choice["text"] if message is None else message}


def _finish_of(choice: Mapping[str, Any]) -> str:
    """Why a choice ended, in lower case; empty where it does not say so."""
    said = choice.get("finish_reason") or choice.get("finishReason") or choice.get("stop_reason") or ""
    return str(said).strip().lower().removeprefix("finishreason.") if isinstance(said, str) else ""


def _text_of(content: Any) -> str | None:
    """The text of a content: a text, or a list of parts; None where there is none."""
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


def _usage(answer: Mapping[str, Any]) -> tuple[Usage, bool]:
    usage = answer.get("usage")
    if isinstance(usage, dict):
        prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
        new = usage.get("completion_tokens", usage.get("output_tokens"))
        if isinstance(prompt, int) and isinstance(new, int) and min(prompt, new) >= 0:
            return Usage(1, prompt, new), True
    return Usage(1), False


def _rubbish(body: str) -> Refusal:
    return Refusal("caption", f"the server's answer is no chat completion: {_short(body)}")


def _message(body: str) -> str:
    """The message of an error object, or the body where it is none."""
    try:
        return _words(json.loads(body))
    except (ValueError, RecursionError):
        return _short(body)


def _words(error: Any) -> str:
    """What an error object says."""
    while isinstance(error, dict):
        error = next((error[k] for k in ("error", "message", "detail", "msg") if error.get(k)), str(error))
    if isinstance(error, list) and error:
        return _words(error[0])
    return _short(str(error))


def _short(text: str) -> str:
    text = " ".join(text[: 50 * _SHOWN_CHARACTERS].split())
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."

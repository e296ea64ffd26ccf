"""What a chat server's answer means: a reply, an item's trouble, a try-again, or the end of the run.

The statuses, the fields of a chat completion and its error object are those of OpenAI's API reference
(``POST /v1/chat/completions``), which vLLM, SGLang and Ollama follow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from mmfeat.extract.base import Usage
from mmfeat.extract.describers.captions.chat import Reply
from mmfeat.schemas.errors import ItemError, ServerRefused, ServerUnavailable

_SHOWN_CHARACTERS = 200
_FINISH: dict[str, Literal["stop", "length"]] = {"stop": "stop", "length": "length"}


@dataclass(frozen=True)
class Answered:
    """A request that the server carried out, so that it must not be sent again.

    Attributes:
        outcome: the reply, or why it is none.
        usage: what it cost.
        counted: whether the server said how many tokens that was.
    """

    outcome: Reply | ItemError
    usage: Usage
    counted: bool = True


class Trouble(Exception):
    """A request that may work when it is sent again.

    Args:
        reason: what happened.
        attempts: how many it is worth in all.
        may_cost: whether the server may charge for it all the same.
        wait: seconds that the server asks to wait.
        of_server: whether it says something about the server and nothing about the item.
    """

    def __init__(
        self,
        reason: str,
        *,
        attempts: int,
        may_cost: bool = False,
        wait: float | None = None,
        of_server: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.attempts = attempts
        self.may_cost = may_cost
        self.wait = wait
        self.of_server = of_server


def read_answer(status: int, headers: Mapping[str, str], body: str, seconds: float, url: str) -> Answered:
    """The outcome of one HTTP answer.

    Args:
        body: its text, without any secret that a server might repeat.
        seconds: that it took.
        url: of the server, for messages.

    Raises:
        Trouble: 408, 429 or 5xx: worth another attempt.
        ServerRefused: every other request would fare alike.
        ItemError: the server does not take this one.
    """
    if status == 200:
        return _completion(body, seconds)
    said = _message(body)
    because = f": {said}" if said else ""
    if status in (401, 403):
        raise ServerRefused(
            f"the server at {url} does not let us in ({status}){because}",
            hint="Put its key into the environment variable that [server] api_key_env names.",
        )
    if status == 404:
        raise ServerRefused(
            f"the server at {url} has no such model or address (404){because}",
            hint="Check the feature's model, and that the address ends as the server wants it, as in /v1.",
        )
    if status == 402 or "insufficient_quota" in body:
        raise ServerRefused(f"the account at {url} has nothing left to spend ({status}){because}")
    if 300 <= status < 400:
        raise ServerRefused(f"the server at {url} sends us elsewhere ({status})", hint="Give that address.")
    reason = f"the server answered {status}{because}"
    if status == 429:
        raise Trouble(reason, attempts=8, wait=retry_after(headers), of_server=True)
    if status == 408 or status >= 500:
        raise Trouble(reason, attempts=4, wait=retry_after(headers))
    raise ItemError("caption", reason)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that ``Retry-After`` asks for, given as a number or as a date; None where it says nothing."""
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def after_last_attempt(trouble: Trouble, attempts: int, url: str) -> ServerUnavailable | ItemError:
    """What a trouble is that ``attempts`` did not help."""
    tries = f"{attempts} attempts" if attempts > 1 else "1 attempt"
    if trouble.of_server:
        return ServerUnavailable(
            f"the server at {url} gave no answer in {tries}: {trouble.reason}",
            hint="What was answered is kept; run the job again when the server is back, "
            "or with less [server] concurrency.",
        )
    return ItemError("caption", f"{trouble.reason} (after {tries})")


def _completion(body: str, seconds: float) -> Answered:
    try:
        answer = json.loads(body)
        choice = answer["choices"][0]
        message, finish = choice["message"], choice["finish_reason"]
        text, refusal = message["content"], message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError):
        return Answered(_rubbish(body), Usage(1), counted=False)
    usage, counted = _usage(answer)
    if finish == "content_filter":
        return Answered(ItemError("caption", "the server's content filter stopped the reply"), usage, counted)
    if text is None and refusal:
        return Answered(ItemError("caption", f"the model refused: {_short(str(refusal))}"), usage, counted)
    if finish not in _FINISH or not isinstance(text, str | None):
        return Answered(_rubbish(body), usage, counted)
    reply = Reply((text or "").strip(), _FINISH[finish], usage.prompt_tokens, usage.new_tokens, seconds)
    return Answered(reply, usage, counted)


def _usage(answer: dict[str, Any]) -> tuple[Usage, bool]:
    usage = answer.get("usage")
    if isinstance(usage, dict):
        prompt, new = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if isinstance(prompt, int) and isinstance(new, int) and min(prompt, new) >= 0:
            return Usage(1, prompt, new), True
    return Usage(1), False


def _rubbish(body: str) -> ItemError:
    return ItemError("caption", f"the server's answer is no chat completion: {_short(body) or 'it is empty'}")


def _message(body: str) -> str:
    """The message of an error object, or the body where it is none."""
    try:
        error = json.loads(body)
        error = error.get("error", error)
        message = error if isinstance(error, str) else error["message"]
    except (ValueError, LookupError, TypeError, AttributeError):
        message = body
    return _short(str(message))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."

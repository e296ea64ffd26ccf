"""What a server's answer means: a reply, an item's trouble, a try-again, or the end of the run.

The statuses and the error object are those of OpenAI's API reference, which vLLM, SGLang and Ollama follow;
how they spell an error differs, and so does what stands in front of them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from mmfeat.extract.base import Usage
from mmfeat.extract.served.reply import Reply
from mmfeat.schemas.errors import ItemError, MmfeatError, ServerRefused, ServerUnavailable
from mmfeat.schemas.reasons import kind_of

_SHOWN_CHARACTERS = 200
_ATTEMPTS = 4


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
        others: the outcomes of the further requests that were sent as one with it.
        usage: what they cost.
        counted: whether the server said how many tokens that was.
        is_completion: whether it is an answer of its kind, whatever it says.
    """

    outcome: Reply | ItemError
    usage: Usage
    counted: bool = True
    is_completion: bool = True
    others: tuple[Reply | ItemError, ...] = ()


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
    read: Callable[[str, Mapping[str, str], float, str, int], Answered],
) -> Answered:
    """The outcome of one HTTP answer.

    Args:
        body: its text, without any secret that a server might repeat.
        seconds: that it took.
        url: of the server, for messages.
        most_tokens: that the reply was allowed.
        read: reads a body of success.

    Raises:
        Trouble: 408, 429 or 5xx, or what is no answer of such a server: worth another attempt.
        ServerRefused: every other request would fare alike.
        ItemError: the server does not take this one.
    """
    if 200 <= status < 300:
        return read(body, headers, seconds, url, most_tokens)
    raise error_of(status, headers, _message(body), body, url)


def error_of(
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
    """Seconds that ``Retry-After`` asks for, given as a number or as a date; None if it says nothing."""
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
        "(frames), temperature, extra_body; of transcripts, whether it knows verbose_json; of vectors, "
        "dimensions and the form in which it is asked (server). No item was booked as failed.",
    )


def refuse_other_bodies(body: str) -> None:
    """Trouble for a web page or nothing, which what stands in front of a server gives."""
    if not body.strip() or body.lstrip()[:1] == "<":
        what = "a web page" if body.strip() else "an empty body"
        raise Trouble(f"the server answered 200 with {what}: {short(body)}".rstrip(": "), reached=False)


def error_in(answer: Any, holds: str) -> Any:
    """The error that an answer of status 200 is; None if it is none.

    Args:
        holds: the field of an answer that is none.
    """
    if not isinstance(answer, dict) or (answer.get(holds) and not answer.get("error")):
        return None
    if answer.get("object") == "error" or ("message" in answer and "code" in answer):
        return answer
    return answer.get("error") or None


def status_of(failed: Any) -> int:
    """The status that an error means: the one that it names, else that of a request which is not taken."""
    said = failed if isinstance(failed, dict) else {}
    for name in ("code", "status", "status_code"):
        if str(said.get(name, "")).isdecimal() and 400 <= int(said[name]) < 600:
            return int(said[name])
    names = " ".join(str(said.get(name, "")) for name in ("code", "type", "status"))
    if re.search(r"rate.?limit|overload|unavailable|loading|exhausted|timeout", names, re.IGNORECASE):
        return 503
    return 500 if re.search(r"server.?error|internal", names, re.IGNORECASE) else 400


def usage_of(answer: Mapping[str, Any]) -> tuple[Usage, bool]:
    """What an answer cost, and whether it says how many tokens that was."""
    usage = answer.get("usage")
    if isinstance(usage, dict):
        prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
        new = usage.get("completion_tokens", usage.get("output_tokens"))
        if isinstance(prompt, int) and isinstance(new, int) and min(prompt, new) >= 0:
            return Usage(1, prompt, new), True
    return Usage(1), False


def _message(body: str) -> str:
    """The message of an error object, or the body where it is none."""
    try:
        return words(json.loads(body))
    except (ValueError, RecursionError):
        return short(body)


def words(error: Any) -> str:
    """What an error object says."""
    while isinstance(error, dict):
        error = next((error[k] for k in ("error", "message", "detail", "msg") if error.get(k)), str(error))
    if isinstance(error, list) and error:
        return words(error[0])
    return short(str(error))


def short(text: str) -> str:
    """A text in one line, cut."""
    text = " ".join(text[: 50 * _SHOWN_CHARACTERS].split())
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."

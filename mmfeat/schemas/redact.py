"""Secrets out of what is kept or shown: command lines, locations, settings."""

from __future__ import annotations

import re
import shlex
import sys
from typing import Any

HIDDEN = "***"

# The last word of a name decides: `api_key` holds a secret, `api_key_env` names where one is.
_SECRET_NAME = re.compile(
    r".*(?:secret|token|passwd|password|credentials?|signature|authorization"
    r"|(?:api|access|account|auth|private|secret|session)[_-]?key)|sig",
    re.IGNORECASE,
)
# Each begins where a word does: that keeps them linear in the length of a text from strangers.
_ASSIGNED = re.compile(r"(?<![\w.-])([\w.-]+)=([^\s&;,'\"]+)")
_USER_OF_URL = re.compile(r"(?<![\w+.-])(\w[\w+.-]*://)[^/\s@]+@")
# Keys of well-known services say what they are by how they begin.
_KNOWN_KEY = re.compile(r"\b(?:sk-|hf_|gh[pousr]_|github_pat_|AKIA|ASIA)[\w-]{8,}")


def redact(text: str) -> str:
    """``text`` with ``***`` for users and passwords in URLs, values that are named like secrets
    (``token=...``, signed URLs) and keys of well-known services."""
    text = _USER_OF_URL.sub(rf"\1{HIDDEN}@", text)
    text = _ASSIGNED.sub(_hidden_if_secret, text)
    return _KNOWN_KEY.sub(HIDDEN, text)


def redact_values(value: Any) -> Any:
    """JSON types with every text redacted, and all of what a name like ``api_key`` holds."""
    if isinstance(value, dict):
        return {
            key: HIDDEN if item is not None and _SECRET_NAME.fullmatch(str(key)) else redact_values(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact_values(item) for item in value]
    return redact(value) if isinstance(value, str) else value


def command_line() -> str:
    """This process's command line, redacted; at most 500 characters."""
    words: list[str] = []
    for word in sys.argv:
        named = bool(words) and words[-1].startswith("-") and _SECRET_NAME.fullmatch(words[-1].lstrip("-"))
        words.append(HIDDEN if named else redact(word))
    # Quotes around the marks would only be in the way.
    return shlex.join(words).replace(f"'{HIDDEN}'", HIDDEN)[:500]


def _hidden_if_secret(assigned: re.Match[str]) -> str:
    return f"{assigned[1]}={HIDDEN}" if _SECRET_NAME.fullmatch(assigned[1]) else assigned[0]

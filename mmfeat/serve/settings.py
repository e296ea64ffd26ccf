"""What a service is told: its keys and its limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmfeat.schemas.errors import ConfigError

KEYS_VARIABLE = "MMFEAT_API_KEYS"
_SHORTEST_KEY = 16


@dataclass(frozen=True)
class Settings:
    """Limits of one service; a request over one of them is refused with a problem that names it.

    Attributes:
        keys: any of them opens the service; it is open to everybody when there is none.
        max_body_bytes: of one request.
        max_answer_bytes: of one answer.
        max_held_bytes: of all bodies that arrive and all answers that are made or on their way, together;
            a request that would take more is sent away for a second.
        max_ids: of one lookup.
        max_k: of one search.
        max_concurrent: requests in work or waiting for it; more are sent away for a second.
        max_connections: open at one time; at most half of the files that the process may open.
        head_seconds: for the head of a request to arrive.
        timeout_seconds: for one request's body to arrive, for its answer to be made, and for the client to
            take a piece of it.
        refresh_seconds: how often the store is looked at for something new.
        ui: whether there are pages for people as well.
        local: answer only requests that name this machine as localhost, so that no page in a browser here
            can ask by a name of its own that leads here (DNS rebinding).
    """

    keys: tuple[str, ...] = ()
    max_body_bytes: int = 8 << 20
    max_answer_bytes: int = 128 << 20
    max_held_bytes: int = 512 << 20
    max_ids: int = 10_000
    max_k: int = 1_000
    max_concurrent: int = 64
    max_connections: int = 1_000
    head_seconds: float = 10.0
    timeout_seconds: float = 30.0
    refresh_seconds: float = 2.0
    ui: bool = False
    local: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.keys, str):
            # Its letters would be keys, and the message must not show them.
            raise ConfigError("keys is one string, where a tuple of keys is meant.")


def read_keys(environment: Mapping[str, str], file: Path | None = None) -> tuple[str, ...]:
    """API keys of ``MMFEAT_API_KEYS`` (spaces or commas between them) and of a file.

    The file has one key a line; lines that start with ``#`` are comments.

    Raises:
        ConfigError: the file cannot be read or holds no key, or a key is short enough to be guessed.
    """
    keys = re.split(r"[\s,]+", environment.get(KEYS_VARIABLE, ""))
    if file is not None:
        keys += _keys_of_file(file)
    found = tuple(dict.fromkeys(key for key in keys if key))
    for key in found:
        if len(key) < _SHORTEST_KEY or not key.isascii():
            raise ConfigError(
                f"An API key has {len(key)} characters; it takes {_SHORTEST_KEY} or more, all ASCII.",
                hint="Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
            )
    return found


def _keys_of_file(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the keys in {file}: {error}.") from None
    keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not keys:
        raise ConfigError(f"There is no key in {file}.", hint="Write one key a line.")
    return keys

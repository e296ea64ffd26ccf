"""A chat server with the tiny model, and the captioner that asks it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import chat_server
import pytest
from asking import spec

from mmfeat.extract.base import Placement
from mmfeat.extract.describers.captions.openai import OpenAICaptioner
from mmfeat.extract.served import client
from mmfeat.schemas.server import Sending, ServerConfig, SpendingConfig


@pytest.fixture(scope="session")
def tiny_server() -> Iterator[chat_server.ChatServer]:
    with chat_server.running() as server:
        yield server


@pytest.fixture
def server(tiny_server, monkeypatch) -> Iterator[chat_server.ChatServer]:
    """The server as if it had just started, and no key in the environment."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    tiny_server.tricks, tiny_server.key, tiny_server.pause = (lambda number: None), None, 0.0
    tiny_server.requests, tiny_server.bodies, tiny_server.keys = [], [], []
    tiny_server.finished.clear()
    tiny_server.at_once = 0
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.02)
    yield tiny_server
    # What still hangs is of no use to the next test.
    tiny_server.released.set()
    while tiny_server.under_way:
        time.sleep(0.01)
    tiny_server.released = threading.Event()


@pytest.fixture
def captioner(server, tmp_path) -> Callable[..., OpenAICaptioner]:
    """A new one, as a new process of the same run would have it."""

    def make(
        run_id: str = "run", journal: Path | None = tmp_path / "_requests", spec_=None, **options: object
    ) -> OpenAICaptioner:
        spending = {key: options.pop(key) for key in ("max_requests", "max_tokens") if key in options}
        sending = Sending(
            run_id=run_id,
            server=ServerConfig(**{"base_url": server.url, **options}),
            spending=SpendingConfig(**spending),
            journal=None if journal is None else str(journal),
        )
        client.client_of.cache_clear()
        return OpenAICaptioner(spec_ or spec(), Placement(sending=sending))

    return make

"""Running the application: a socket, signals, and an end that loses no answer."""

from __future__ import annotations

import math
import os
import resource
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from mmfeat.schemas.errors import ConfigError
from mmfeat.serve.connection import Bounds, bounded
from mmfeat.serve.service import Service
from mmfeat.serve.settings import Settings

# What uvicorn takes beside the answers that it waits for.
_GRACE_SECONDS = 5.0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        ConfigError: the address is taken, or not this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}.",
            hint="Choose another with --host, --port.",
        ) from None


def address(listening: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: FastAPI, listening: socket.socket, started: Callable[[], None]) -> None:
    """Answer until SIGTERM or Ctrl-C: then nothing new is accepted, and what is in work is answered first.

    The process ends within ``timeout_seconds`` and ten more of the signal, with 0, whatever hangs in a
    thread that no one waits for any more: Python alone would wait for it.

    Args:
        app: of :func:`mmfeat.serve.app.create_app`.
        started: called once requests are answered.
    """
    service: Service = app.state.service
    try:
        server_of(app, started).run([listening])
    finally:
        if service.workers.in_work or service.live.refreshing:
            _leave()


def server_of(app: FastAPI, started: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """The server of an application, with the bounds that its settings name."""
    settings: Settings = app.state.service.settings
    seconds = settings.timeout_seconds
    bounds = Bounds(min(settings.max_connections, _most_files() // 2), settings.head_seconds, seconds)
    config = uvicorn.Config(
        app,
        http=bounded(bounds),
        # An upgraded connection would pass by the gate.
        ws="none",
        # A warning is what any stranger's request can cause.
        log_level="error",
        access_log=False,
        server_header=False,
        # A little more than an answer may take, so that one that is late is still told so.
        timeout_graceful_shutdown=math.ceil(seconds) + 1,
        lifespan="on",
    )
    return _Server(config, started)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._when_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # A signal that came meanwhile ends it before its first answer.
        if self.started and not self.should_exit:
            self._when_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; even where the event loop itself hangs, the process ends in time."""
        if not self.should_exit:
            drain = self.config.timeout_graceful_shutdown or 0
            last = threading.Timer(drain + _GRACE_SECONDS, _leave)
            last.daemon = True
            last.start()
        super().handle_exit(sig, frame)


def _leave() -> None:
    """End the process now, without waiting for threads: what was answered is sent."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _most_files() -> int:
    """How many files this process may have open, sockets among them."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

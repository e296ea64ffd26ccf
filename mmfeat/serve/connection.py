"""One client's connection, bounded in time and size before anything is known of who it is."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Nobody needs more for an address and headers; a server without a limit reads on for ever.
_MOST_HEAD_BYTES = 64 << 10
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"
)


@dataclass(frozen=True)
class Bounds:
    """What a connection may take.

    Attributes:
        connections: open at one time; beyond it the one that has kept us waiting makes room.
        head_seconds: for a whole head to arrive, from the connection or from a next head's first byte on.
        stall_seconds: for a client to take what is ready for it, some 100 KiB at a time.
    """

    connections: int
    head_seconds: float
    stall_seconds: float


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which by itself waits without end for a head, and for a client that reads.

    At the limit of connections room is made by one that waits for its client: it has not sent a whole
    request, or does not take its answer. It is the oldest of the client that has most of these, so that
    whoever opens many takes room from nobody else. Requests in work are never cut.
    """

    bounds: Bounds
    # Oldest first: uvicorn's own set has no order.
    open: dict[Connection, None]

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = True

    @property
    def waits(self) -> bool:
        """Whether it is the client's turn: to send a request, or to take an answer."""
        if self.cycle is None or self.cycle.response_complete or self.flow.write_paused:
            return True
        return self.cycle.more_body and not self.pipeline

    @property
    def peer(self) -> str:
        """The client's address, without its port."""
        return self.client[0] if self.client else ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head; make room first."""
        super().connection_made(transport)
        self.open[self] = None
        if len(self.open) > self.bounds.connections:
            _make_room(self.open)
        if not transport.is_closing():
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        self.open.pop(self, None)
        self._stop_head_timer()
        self._stop_stall_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless this head has grown too large; while a request is in work, one piece ahead."""
        if self.transport.is_closing():
            return
        between = self.cycle is None or self.cycle.response_complete
        if between and self._head_timer is None:
            self._expect_head()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > _MOST_HEAD_BYTES:
            self._end(_TOO_LARGE)
        elif not self.waits:
            self.flow.pause_reading()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; those after a body, which nobody here reads, could be without number."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_head = False
        self._stop_head_timer()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """An answer is written; where the connection ends with it, whoever does not read it is cut off."""
        super().on_response_complete()
        if self.transport.is_closing():
            self.loop.call_later(self.bounds.stall_seconds, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        """Nothing new came: end, without waiting for a client that does not read."""
        self._end()

    def pause_writing(self) -> None:
        """The client has not taken what is ready; it has some time for it."""
        super().pause_writing()
        self._stall_timer = self.loop.call_later(self.bounds.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has taken it."""
        self._stop_stall_timer()
        super().resume_writing()

    def _unsupported_upgrade_warning(self) -> None:
        """Any stranger could fill the log with it."""

    def give_way(self) -> None:
        """End for another's sake."""
        self.transport.abort()

    def turn_away(self) -> None:
        """End before anything was asked."""
        self._end(_BUSY)

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.bounds.head_seconds, self._end)

    def _end(self, last: bytes = b"") -> None:
        """Close; what the client does not take of it soon is thrown away."""
        if last:
            self.transport.write(last)
        self.transport.close()
        self.loop.call_later(self.bounds.stall_seconds, self.transport.abort)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


def bounded(bounds: Bounds) -> type[Connection]:
    """Connections with these bounds, as uvicorn takes them: it makes one for each client."""
    return type("BoundedConnection", (Connection,), {"bounds": bounds, "open": {}})


def _make_room(connections: Iterable[Connection]) -> None:
    """End one connection, the oldest first, of the client that lets us wait the most; else the newest."""
    *before, newest = connections
    waiting = [c for c in before if c.waits and not c.transport.is_closing()]
    if not waiting:
        newest.turn_away()
        return
    most = Counter(c.peer for c in waiting).most_common(1)[0][0]
    next(c for c in waiting if c.peer == most).give_way()

"""A real web server on this machine whose answers a test writes byte by byte."""

from __future__ import annotations

import ssl
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class WebServer(ThreadingHTTPServer):
    """Answers each path with the functions given for it, in turn; the last one answers from then on.

    Attributes:
        asked: the headers of every request, by path.
        connections: how many were opened.
        at_once: the most answers that were under way at one time.
    """

    daemon_threads = True

    def __init__(self, address: str, context: ssl.SSLContext | None) -> None:
        super().__init__((address, 0), _Handler)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.asked: dict[str, list[Message]] = defaultdict(list)
        self.connections = self.at_once = self.under_way = 0
        self.answers: dict[str, list[Callable[[BaseHTTPRequestHandler], None]]] = {}
        self.lock = threading.Lock()
        self.address = f"http://{address}:{self.server_port}"

    def on(self, path: str, *answers: Callable[[BaseHTTPRequestHandler], None]) -> str:
        """The whole address of ``path``, answered so from now on."""
        self.answers[path] = list(answers)
        return self.address + path

    def get_request(self):
        self.connections += 1
        return super().get_request()

    def handle_error(self, request, client_address) -> None:
        """Clients hang up on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.asked[self.path].append(self.headers)
            answers = self.server.answers[self.path]
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            self.server.under_way += 1
            self.server.at_once = max(self.server.at_once, self.server.under_way)
        try:
            answer(self)
        finally:
            with self.server.lock:
                self.server.under_way -= 1


def answer(
    status: int = 200, body: bytes = b"", *, length: int | None = None, **headers: str
) -> Callable[[BaseHTTPRequestHandler], None]:
    """An ordinary answer; ``Last_Modified="..."`` is the header ``Last-Modified``."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if status != 304:
            handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)
        if length is not None:
            handler.close_connection = True

    return write


def raw(*pieces: bytes, pause: float = 0.0, stop: threading.Event | None = None):
    """Exactly these bytes, the last piece again and again (after each a pause) until ``stop``."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        for piece in pieces:
            handler.wfile.write(piece)
        while stop is not None and not stop.wait(pause):
            handler.wfile.write(pieces[-1])

    return write


@contextmanager
def running(address: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> Iterator[WebServer]:
    """A server at a free port of ``address``, over TLS with a ``context``."""
    server = WebServer(address, context)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()

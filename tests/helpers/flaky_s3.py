"""An S3-compatible server (moto's) behind a proxy that makes chosen requests fail."""

from __future__ import annotations

import http.client
import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from moto.server import ThreadedMotoServer

BUCKET = "bucket"
_OF_ONE_CONNECTION = ("transfer-encoding", "connection", "content-length", "date", "server")
_OF_ONE_REQUEST = ("transfer-encoding", "content-length", "expect")
# Seconds without a word, after which the connection is closed.
_SILENCE = 0.3


@dataclass
class Fault:
    """What befalls requests.

    Attributes:
        hits: which requests, by method and path.
        kind: ``503``, ``timeout`` (no answer), or ``lost`` (done, and the answer is lost).
        times: how many of them.
    """

    hits: Callable[[str, str], bool]
    kind: str
    times: int
    happened: int = 0


@dataclass
class FlakyS3:
    """The server. ``url`` is the proxy's, ``store`` an empty place; ``faults`` may be changed at any time.

    Without ``conditional`` it overlooks ``If-None-Match``, as servers do that know of no such condition.
    """

    faults: list[Fault] = field(default_factory=list)
    conditional: bool = True
    requests: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._moto = ThreadedMotoServer(port=0, verbose=False)
        self._moto.start()
        self.behind = self._moto.get_host_and_port()
        self._proxy = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._proxy.daemon_threads = True
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._proxy.server_address[1]}"
        self._forward("PUT", f"/{BUCKET}", {}, b"")
        # All of moto's servers in one process hold the same objects.
        self.store = f"s3://{BUCKET}/{uuid.uuid4().hex}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }

    def stop(self) -> None:
        self._proxy.shutdown()
        self._moto.stop()

    def fault(self, method: str, path: str) -> str | None:
        """The kind of fault that this request meets, if any."""
        self.requests.append((method, path))
        for fault in self.faults:
            if fault.happened < fault.times and fault.hits(method, path):
                fault.happened += 1
                return fault.kind
        return None

    def _forward(self, method: str, path: str, headers, body: bytes):
        if not self.conditional:
            headers = {name: value for name, value in headers.items() if name.lower() != "if-none-match"}
        host, port = self.behind
        connection = http.client.HTTPConnection("127.0.0.1" if host == "0.0.0.0" else host, port)
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()


def _handler(server: FlakyS3) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            # As Arrow sends what it writes: a line with each piece's length, and an empty piece at the end.
            body = b""
            while length := int(self.rfile.readline(), 16):
                body += self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _any(self) -> None:
            body = self._body()
            fault = server.fault(self.command, self.path)
            if fault == "503":
                self.send_response(503, "Slow Down")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if fault == "timeout":
                time.sleep(_SILENCE)
                self.close_connection = True
                return
            sent = {k: v for k, v in self.headers.items() if k.lower() not in _OF_ONE_REQUEST}
            status, headers, content = server._forward(self.command, self.path, sent, body)
            if fault == "lost":
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in _OF_ONE_CONNECTION:
                    self.send_header(name, value)
            # The answer to HEAD has the length of what GET would send.
            told = {name.lower(): value for name, value in headers}.get("content-length", "0")
            self.send_header("Content-Length", told if self.command == "HEAD" else str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any

        def log_message(self, *args: object) -> None:
            pass

    return Handler

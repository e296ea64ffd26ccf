"""A real HTTP server that answers audio transcriptions, or as badly as a test wants."""

from __future__ import annotations

import io
import json
import threading
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

MODEL = "tiny-ear"
Trick = Callable[["Handler"], None]


class SpeechServer(ThreadingHTTPServer):
    """``/v1/audio/transcriptions``: says how long and how loud the sound is, in two segments.

    Attributes:
        tricks: given the number of a request (from 0), what to do instead of answering it; None to answer.
        forms: the fields of every request, the sound as float32 ``[samples]``.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.tricks: Callable[[int], Trick | None] = lambda number: None
        self.forms: list[dict[str, Any]] = []
        self.lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SpeechServer

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        self.form = _form(self.headers["Content-Type"], raw)
        with self.server.lock:
            number = len(self.server.forms)
            self.server.forms.append(self.form)
        if self.path != "/v1/audio/transcriptions" or self.form["model"] != MODEL:
            self.reply(404, {"error": {"message": "no such model here"}})
        elif trick := self.server.tricks(number):
            trick(self)
        else:
            self.reply(200, transcription(self.form["file"]))

    def reply(self, status: int, answer: Any) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def transcription(samples: np.ndarray, **changes: Any) -> dict[str, Any]:
    """A transcription as servers give it."""
    seconds = len(samples) / 16_000
    spoken = {"avg_logprob": -0.25, "compression_ratio": 0.9, "no_speech_prob": 0.01, "tokens": [1, 2]}
    segments = [
        {"id": 0, "start": 0.0, "end": seconds / 2, "text": f" I heard {seconds:.1f} seconds.", **spoken},
        {"id": 1, "start": seconds / 2, "end": seconds, "text": " They were loud.", **spoken},
    ]
    text = "".join(one["text"] for one in segments)
    return {
        "task": "transcribe", "language": "english", "duration": seconds, "text": text, "segments": segments,
        "usage": {"type": "duration", "seconds": round(seconds)}, **changes,
    }  # fmt: skip


def _form(kind: str, raw: bytes) -> dict[str, Any]:
    parsed = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + raw)
    found: dict[str, Any] = {}
    for part in parsed.get_payload():
        name = part.get_param("name", header="content-disposition")
        data = part.get_payload(decode=True)
        found[name] = _samples(data) if name == "file" else data.decode()
    return found


def _samples(data: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32767


@contextmanager
def running() -> Iterator[SpeechServer]:
    server = SpeechServer()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()

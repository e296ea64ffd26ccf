"""Real HTTP servers that answer as model servers do, or as badly as a test wants; one has the tiny model."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from helpers import worlds
from PIL import Image

from mmfeat.extract.base import Placement
from mmfeat.extract.describers.captions.transformers import TransformersCaptioner
from mmfeat.extract.describers.captions.turns import Turn
from mmfeat.extract.registry import resolve_all
from mmfeat.schemas.spec import Decoding, FeatureConfig

MODEL = "tiny-vlm"
Trick = Callable[["Handler"], None]


class ModelServer(ThreadingHTTPServer):
    """One address of the API. Subclasses say which, and what it answers.

    Attributes:
        path: the address.
        name: of the model, which requests must have.
        tricks: given the number of a request (from 0), what to do instead of answering it; None to answer.
        key: the key that requests must carry, where one is wanted.
        requests: digest of every body that came, in order.
        finished: digest of every body whose whole answer was sent.
        keys: the Authorization header of every request.
        at_once: the most requests that were under way at one time.
    """

    path: str
    name: str
    daemon_threads = True
    # Many connect at once; the default queue of 5 would turn some away.
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.tricks: Callable[[int], Trick | None] = lambda number: None
        self.key: str | None = None
        self.requests: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.finished: Counter[str] = Counter()
        self.keys: list[str | None] = []
        self.under_way = self.at_once = 0
        self.pause = 0.0
        self.lock = threading.Lock()
        self.released = threading.Event()

    def handle_error(self, request, client_address) -> None:
        """Clients are killed on purpose."""

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request that nothing is wrong with."""
        raise NotImplementedError


class ChatServer(ModelServer):
    """``/v1/chat/completions`` of the tiny vision-language model."""

    path = "/v1/chat/completions"
    name = MODEL

    def __init__(self) -> None:
        super().__init__()
        self.model_lock = threading.Lock()
        self.model = tiny_model()

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """The tiny model's chat completion."""
        turns = tuple(turn_of(message) for message in body["messages"])
        limit = body.get("max_completion_tokens") or body["max_tokens"]
        decoding = Decoding(max_new_tokens=limit, temperature=body["temperature"])
        with self.model_lock:
            (reply,) = self.model.answer([turns], decoding, 1)
        return completion(reply.text, reply.finish_reason, reply.prompt_tokens, reply.new_tokens)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ModelServer

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        self.digest = hashlib.sha256(raw).hexdigest()
        self.body = json.loads(raw)
        server = self.server
        with server.lock:
            number = len(server.requests)
            server.requests.append(self.digest)
            server.bodies.append(self.body)
            server.keys.append(self.headers["Authorization"])
            server.under_way += 1
            server.at_once = max(server.at_once, server.under_way)
        try:
            self.respond(number)
        finally:
            with server.lock:
                server.under_way -= 1

    def respond(self, number: int) -> None:
        server = self.server
        if server.pause:
            time.sleep(server.pause)
        if server.key is not None and self.headers["Authorization"] != f"Bearer {server.key}":
            self.error(401, f"wrong key: {self.headers['Authorization']}")
        elif self.path != server.path or self.body["model"] != server.name:
            self.error(404, f"no model {self.body['model']} here")
        elif trick := server.tricks(number):
            trick(self)
        else:
            self.reply(200, json.dumps(server.complete(self.body)))
            with server.lock:
                server.finished[self.digest] += 1

    def reply(self, status: int, body: str, **headers: str) -> None:
        data = body.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def error(self, status: int, message: str, **headers: str) -> None:
        self.reply(status, json.dumps({"error": {"message": message}}), **headers)


def tiny_model() -> TransformersCaptioner:
    """The tiny vision-language model in this process."""
    (spec,) = resolve_all({"caption": FeatureConfig(**worlds.CAPTION)})
    return TransformersCaptioner(spec, Placement())


def completion(text: Any, finish_reason: str, prompt_tokens: int, new_tokens: int) -> dict[str, Any]:
    """A chat completion as servers give it."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": new_tokens}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}], "usage": usage}


def error(status: int, message: str = "not now", **headers: str) -> Trick:
    return lambda handler: handler.error(status, message, **headers)


def says(body: str) -> Trick:
    """This body and status 200, whatever it is."""
    return lambda handler: handler.reply(200, body)


def cut(handler: Handler) -> None:
    """The head of an answer and half of its body."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def hang(handler: Handler) -> None:
    """Nothing, until the server stops."""
    handler.server.released.wait(60)
    handler.close_connection = True


def at(**tricks: Any) -> Callable[[int], Trick | None]:
    """``at(_0=..., _3=...)``: these requests, counted from 0, go wrong."""
    return lambda number: tricks.get(f"_{number}")


@contextmanager
def running(kind: type[ModelServer] = ChatServer) -> Iterator[Any]:
    server = kind()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()


def turn_of(message: dict[str, Any]) -> Turn:
    """A message of the chat API as the captioners write it."""
    if isinstance(message["content"], str):
        return Turn(message["role"], message["content"])
    urls = [part["image_url"]["url"] for part in message["content"] if part["type"] == "image_url"]
    (text,) = [part["text"] for part in message["content"] if part["type"] == "text"]
    return Turn(message["role"], text, np.stack([_pixels(url) for url in urls]))


def _pixels(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))

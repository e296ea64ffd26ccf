"""What every request passes first: its key, its size, and the count of it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmfeat.serve.metrics import Metrics
from mmfeat.serve.problems import problem
from mmfeat.serve.settings import Settings

# A load balancer asks without a key, and learns nothing of the store.
_OPEN = frozenset({"/healthz", "/readyz"})
_LOCALHOST = frozenset({"localhost", "127.0.0.1", "[::1]"})
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="mmfeat", Basic realm="mmfeat", charset="UTF-8"'}


class Gate:
    """ASGI middleware: refuses a wrong key and a body that is too large or too slow, and counts all."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._keys = [hashlib.sha256(key.encode()).digest() for key in settings.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _protect(MutableHeaders(scope=message))
            await send(message)

        with self._metrics.in_progress.track_inprogress():
            try:
                await self._pass(scope, receive, watched)
            finally:
                self._metrics.observe(scope, status, time.perf_counter() - began)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if self._keys and scope["path"] not in _OPEN and not self._is_known(headers):
            given = "authorization" in headers
            refusal = problem(
                401,
                "WrongKey" if given else "NoKey",
                "This key is not one of the service's." if given else "This service asks for a key.",
                "Send the header: Authorization: Bearer KEY",
                _CHALLENGE,
            )
            await refusal(scope, receive, send)
            return
        if self._settings.local and _host(headers) not in _LOCALHOST:
            elsewhere = problem(
                403, "WrongHost", "Without keys this service answers only as localhost.", "Give it a key."
            )
            await elsewhere(scope, receive, send)
            return
        most, seconds = self._settings.max_body_bytes, self._settings.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                body = await _body(headers, receive, most)
        except TimeoutError:
            late = problem(408, "TooSlow", f"The request's body did not arrive within {seconds:g} seconds.")
            await late(scope, receive, send)
            return
        if body is None:
            large = problem(
                413, "TooLarge", f"A request's body may have {most:,} bytes here.", "Ask for less at once."
            )
            large.headers["Connection"] = "close"  # the rest of the body is not read
            await large(scope, receive, send)
            return
        await self._app(scope, _again(body, receive), send)

    def _is_known(self, headers: Headers) -> bool:
        """Whether the key is one of ours, in a time that does not depend on which or on how much of it."""
        given = hashlib.sha256(_key(headers.get("authorization", ""))).digest()
        matches = [hmac.compare_digest(given, key) for key in self._keys]
        return any(matches)


def _host(headers: Headers) -> str:
    """The name by which the service was asked, without its port."""
    host = headers.get("host", "")
    return host.rpartition(":")[0] if re.search(r":\d+$", host) else host


def _key(authorization: str) -> bytes:
    """The key of ``Bearer KEY``, or the password of ``Basic``: what a browser asks a person for."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


async def _body(headers: Headers, receive: Receive, most: int) -> bytes | None:
    """The whole body, or None where it has more than ``most`` bytes."""
    announced = headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > most:
        return None
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """``receive`` for those behind, who get the body in one piece."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _protect(headers: MutableHeaders) -> None:
    headers.setdefault("Cache-Control", "no-store")
    headers.setdefault("X-Content-Type-Options", "nosniff")
    # Answers of the API are no pages; pages bring their own policy.
    headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")

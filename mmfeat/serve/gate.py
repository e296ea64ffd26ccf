"""What every request passes first: its key, where it comes from, its size, and the count of it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import re
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmfeat.serve.budget import Budget, Held
from mmfeat.serve.metrics import Metrics
from mmfeat.serve.problems import RETRY, problem
from mmfeat.serve.settings import Settings
from mmfeat.serve.workers import Busy

# A load balancer asks without a key, and learns nothing of the store.
_OPEN = frozenset({"/healthz", "/readyz"})
# What a browser says of a request that a page of the service itself, or a person, asked for.
_OWN_SITE = frozenset({"same-origin", "none"})
_PORTS = {"http": "80", "https": "443"}
# An answer is given to its client in pieces, the next one when the last one was taken.
_PIECE = 64 << 10
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="mmfeat", Basic realm="mmfeat", charset="UTF-8"'}


class Gate:
    """ASGI middleware: refuses a wrong key, another site's page, and a body that is too large or too slow.

    It counts all, and gives answers out in pieces, so that no client makes the service hold more than
    its budget.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics, budget: Budget) -> None:
        self._app, self._settings, self._metrics, self._budget = app, settings, metrics, budget
        self._keys = [hashlib.sha256(key.encode()).digest() for key in settings.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        with self._metrics.in_progress.track_inprogress(), self._budget.holding() as held:
            answer = _Answer(send, held, self._settings.max_answer_bytes)
            try:
                await self._pass(scope, receive, answer.send, held)
            except _Refused as refused:
                await refused.answer(scope, receive, answer.plain)
            finally:
                self._metrics.observe(scope, answer.status, time.perf_counter() - began)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, held: Held) -> None:
        headers = Headers(scope=scope)
        refusal = self._refusal(scope["path"], headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        most, seconds = self._settings.max_body_bytes, self._settings.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                body = await _body(headers, receive, most, held)
        except TimeoutError:
            late = problem(408, "TooSlow", f"The request's body did not arrive within {seconds:g} seconds.")
            await late(scope, receive, send)
            return
        except Busy as busy:
            full = problem(503, "Busy", busy.message, busy.hint, {**RETRY, "Connection": "close"})
            await full(scope, receive, send)
            return
        if body is None:
            large = problem(
                413, "TooLarge", f"A request's body may have {most:,} bytes here.", "Ask for less at once."
            )
            large.headers["Connection"] = "close"  # the rest of the body is not read
            await large(scope, receive, send)
            return
        await self._app(scope, _again(body, receive), send)

    def _refusal(self, path: str, headers: Headers) -> Response | None:
        """What is answered to a request that is not let through; None if it is."""
        is_open = path in _OPEN
        if self._keys and not is_open and not self._is_known(headers):
            given = "authorization" in headers
            return problem(
                401,
                "WrongKey" if given else "NoKey",
                "This key is not one of the service's." if given else "This service asks for a key.",
                "Send the header: Authorization: Bearer KEY",
                _CHALLENGE,
            )
        if self._settings.local and not _is_this_machine(_host(headers)):
            return problem(
                403, "WrongHost", "Without keys this service answers only as localhost.", "Give it a key."
            )
        if not is_open and _is_of_another_site(headers):
            return problem(
                403,
                "OtherSite",
                "A page of another site asked for this, and this service answers its own pages only.",
                "Open the address itself: type it, or copy it into the address bar.",
            )
        return None

    def _is_known(self, headers: Headers) -> bool:
        """Whether the key is one of ours, in a time that does not depend on which or on how much of it."""
        given = hashlib.sha256(_key(headers.get("authorization", ""))).digest()
        matches = [hmac.compare_digest(given, key) for key in self._keys]
        return any(matches)


class _Refused(Exception):
    """An answer that is not given; another one is, which says why."""

    def __init__(self, answer: Response) -> None:
        super().__init__("refused")
        self.answer = answer


class _Answer:
    """One answer on its way to its client, in pieces.

    Attributes:
        status: of the answer; 500 until there is one.
    """

    def __init__(self, send: Send, held: Held, most: int) -> None:
        self._send, self._held, self._most = send, held, most
        self.status = 500

    async def send(self, message: Message) -> None:
        """Pass on what an application sends; _Refused where an answer is too large, or cannot be held."""
        if message["type"] == "http.response.start":
            length = int(MutableHeaders(scope=message).get("content-length", 0))
            if length > self._most:
                detail = f"The answer would have more than the {self._most:,} bytes that one may have here."
                raise _Refused(problem(413, "TooMuch", detail, "Ask for less at once."))
            # Smaller ones take no more than what any open connection may.
            if length > _PIECE:
                try:
                    self._held.take(length)
                except Busy as busy:
                    raise _Refused(problem(503, "Busy", busy.message, busy.hint, RETRY)) from None
        await self.plain(message)

    async def plain(self, message: Message) -> None:
        """Pass on what is small."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            _protect(MutableHeaders(scope=message))
        body = memoryview(message.get("body", b""))
        if len(body) <= _PIECE:
            await self._send(message)
            return
        for start in range(0, len(body), _PIECE):
            piece = body[start : start + _PIECE]
            await self._send({"type": message["type"], "body": piece, "more_body": True})
        # Waits until the last piece is taken as well, and with it all of the body can go.
        await self._send({**message, "body": b""})


def _host(headers: Headers) -> str:
    """The name by which the service was asked, without its port, as it is compared."""
    host = headers.get("host", "").strip().lower()
    return re.sub(r":\d*$", "", host).removesuffix(".")


def _is_this_machine(host: str) -> bool:
    """Whether a name can lead nowhere else: names other than localhost can be made to (DNS rebinding)."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def _is_of_another_site(headers: Headers) -> bool:
    """Whether a browser says that another site's page asks; programs that are no browsers say nothing."""
    fetched = headers.get("sec-fetch-site")
    if fetched is not None:
        return fetched.strip().lower() not in _OWN_SITE
    # Said only to addresses that a browser trusts. To others it sends the origin of what is not a plain GET,
    # and with a GET the page that a link was on, unless that page forbids it.
    origin = headers.get("origin") or _origin_of(headers.get("referer", ""))
    return origin is not None and _with_port(origin.lower()) != _with_port(
        f"{origin.partition(':')[0]}://{headers.get('host', '')}".lower()
    )


def _origin_of(page: str) -> str | None:
    """``https://host:port`` of a page's address; None of what is no page of the web."""
    found = re.match(r"https?://[^/?#]*", page.strip(), re.IGNORECASE)
    return None if found is None else found[0]


def _with_port(origin: str) -> str:
    """``host:port`` of an origin, the scheme's own port written out."""
    scheme, _, host = origin.partition("://")
    return host if re.search(r":\d+$", host) else f"{host}:{_PORTS.get(scheme, '')}"


def _key(authorization: str) -> bytes:
    """The key of ``Bearer KEY``, or the password of ``Basic``: what a browser asks a person for."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except ValueError:  # no base64, or no ASCII even
            return b""
    return b""


async def _body(headers: Headers, receive: Receive, most: int, held: Held) -> bytes | None:
    """The whole body, or None if it has more than ``most`` bytes; Busy where it cannot be held."""
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
        held.take(len(parts[-1]))
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

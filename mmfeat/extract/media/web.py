"""Media behind http and https addresses, fetched politely from servers that nobody vouches for.

Polite: a client that says what it is, few requests to a host at once, pauses that grow, and no file
sent twice that has not changed. Wary: bounds on time and bytes that no answer escapes, no address
within one's own network, nothing but media.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry

from mmfeat.extract.media.connections import cut_after, session
from mmfeat.extract.media.limits import check_bytes
from mmfeat.extract.media.turns import turn
from mmfeat.extract.media.webcache import Cached, WebCache, default_cache
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.media import FetchOptions

_CONNECT_SECONDS, _SILENCE_SECONDS = 10.0, 30.0
_CHUNK = 256 << 10
_REDIRECTS = 5
_ATTEMPTS = 4
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 60.0
_WEB_PAGES = ("text/html", "application/xhtml+xml")
# Types that no server means for media, unlike text/plain, which it sends for what it does not know.
_NOT_MEDIA = ("application/json", "application/xml", "text/xml", "text/css", "text/javascript")


class WebReader:
    """Reads URLs under one set of options.

    Args:
        options: see there.
        sleep: how pauses are made, in seconds.
    """

    def __init__(self, options: FetchOptions, sleep: Callable[[float], None] = time.sleep) -> None:
        self.options = options
        self.sleep = sleep
        self.folder = options.cache or default_cache()
        self.session = session(options.allow_private_addresses)
        self.cache = WebCache(self.folder, options.cache_bytes)

    def read(self, url: str, max_bytes: int) -> bytes:
        """The bytes behind ``url``: fetched, or from the cache if the server says they are unchanged.

        Busy and failing servers (429, 5xx, no connection, an answer late or cut short) are asked up
        to four times, after pauses that double and vary, or as long as the server asks for.

        Raises:
            ItemError: stage ``read``.
        """
        with contextlib.ExitStack() as held:
            with self._using_cache():
                held.enter_context(turn(self.folder / "turns", _host(url), self.options.per_host, self.sleep))
            return self._attempts(url, max_bytes)

    def _attempts(self, url: str, max_bytes: int) -> bytes:
        deadline = time.monotonic() + self.options.seconds
        cached = self.cache.find(url, max_bytes)
        attempt = 1
        while True:
            try:
                return self._fetch(url, cached, max_bytes, deadline)
            except _Trouble as trouble:
                if attempt == _ATTEMPTS:
                    raise ItemError("read", f"{trouble}; asked {attempt} times") from None
                wait = self._wait(trouble, attempt, deadline)
            self.sleep(wait)
            attempt += 1

    def _wait(self, trouble: _Trouble, attempt: int, deadline: float) -> float:
        """Seconds to wait before the next attempt; ItemError if that is too long."""
        if trouble.wait and trouble.wait > _LONGEST_WAIT_SECONDS:
            raise ItemError("read", f"{trouble} and asks to wait {trouble.wait:,.0f} s; run again later")
        wait = trouble.wait or _FIRST_WAIT_SECONDS * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
        if time.monotonic() + wait >= deadline:
            raise ItemError("read", f"not fetched within {self.options.seconds:g} s: {trouble}")
        return wait

    def _fetch(self, url: str, cached: Cached | None, max_bytes: int, deadline: float) -> bytes:
        address = url
        for _ in range(_REDIRECTS + 1):
            known = cached if cached and cached.came_from(address) else None
            with self._ask(address, known.conditions if known else {}, deadline) as answer:
                if answer.is_redirect:
                    address = _next_address(address, answer.headers["Location"])
                    continue
                if answer.status_code == 304 and known:
                    answer.raw.drain_conn()  # there is no body; the connection can be used again
                    return known.data
                _check_answer(answer)
                check_bytes("read", answer.raw.length_remaining or 0, max_bytes)
                data = self._body(answer, max_bytes, deadline)
            with self._using_cache():
                self.cache.keep(url, address, answer.headers, data)
            return data
        raise ItemError("read", f"the address leads on to another more than {_REDIRECTS} times")

    def _ask(self, address: str, conditions: dict[str, str], deadline: float) -> requests.Response:
        left = max(0.001, deadline - time.monotonic())
        try:
            return self.session.get(
                address,
                headers=conditions,
                stream=True,
                allow_redirects=False,
                timeout=(min(_CONNECT_SECONDS, left), min(_SILENCE_SECONDS, left)),
            )
        except requests.exceptions.SSLError as error:
            raise ItemError("read", f"no safe connection to the server: {_cause(error)}") from None
        except requests.Timeout:
            raise _Trouble("the server did not answer in time") from None
        except requests.ConnectionError as error:
            raise _Trouble(f"cannot reach the server: {_cause(error)}") from None
        except (requests.RequestException, HTTPError, ValueError) as error:
            raise ItemError("read", f"cannot fetch the URL: {_cause(error)}") from None

    def _body(self, answer: requests.Response, max_bytes: int, deadline: float) -> bytes:
        """The body, whole.

        ``read1`` gives what has come; http.client below it also bounds the lines of a chunked body.
        """
        body = bytearray()
        timer = cut_after(deadline - time.monotonic(), answer.raw.shutdown)
        try:
            while chunk := answer.raw.read1(_CHUNK, decode_content=False):
                body += chunk
                check_bytes("read", len(body), max_bytes)
        except HTTPError as error:
            raise _Trouble(f"the answer was cut short: {_cause(error)}") from None
        finally:
            timer.cancel()
        # A body of no stated length that was cut at the deadline looks like one that has ended.
        if time.monotonic() >= deadline:
            raise _Trouble("the answer was still coming")
        return bytes(body)

    @contextlib.contextmanager
    def _using_cache(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ItemError(
                "read", f"cannot use the cache {self.folder}: {error.strerror}; set limits.fetch.cache"
            ) from None


class _Trouble(Exception):
    """What may go better at the next attempt, ``wait`` seconds later if the server says so."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        raise ItemError("read", "this is not a valid URL") from None


def _next_address(address: str, target: str) -> str:
    following = urljoin(address, target.encode("latin-1").decode("utf-8", "replace"))
    if following.partition("://")[0].lower() not in ("http", "https"):
        raise ItemError("read", f"the address leads on to {target[:200]!r}, which is not http or https")
    return following


def _check_answer(answer: requests.Response) -> None:
    status = f"the server answered {answer.status_code} {answer.reason or ''}".rstrip()
    if answer.status_code == 429 or answer.status_code >= 500:
        raise _Trouble(status, _asked_wait(answer))
    if answer.status_code != 200:
        raise ItemError("read", status)
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in _WEB_PAGES:
        raise ItemError("read", f"the address answers with a web page ({kind}), not media")
    if kind in _NOT_MEDIA:
        raise ItemError("read", f"the address answers with {kind}, not media")
    if (packing := answer.headers.get("Content-Encoding", "identity").lower()) != "identity":
        raise ItemError("read", f"the server packs the file ({packing}) though asked not to")


def _asked_wait(answer: requests.Response) -> float | None:
    try:
        return Retry().parse_retry_after(answer.headers["Retry-After"])
    except (KeyError, ValueError, OverflowError, InvalidHeader):
        return None


def _cause(error: Exception) -> str:
    """What went wrong at the bottom, on one line: the layers above repeat the URL."""
    inner: object = error
    while isinstance(inner, Exception):
        error = inner
        inner = getattr(error, "reason", None) or next(
            (a for a in error.args if isinstance(a, Exception)), None
        )
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

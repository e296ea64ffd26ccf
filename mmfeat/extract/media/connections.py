"""Connections to web servers that nobody vouches for.

Every address is checked when a connection is opened to it, and the connection goes to the address
that was checked: no redirect and no second answer of a name server leads elsewhere. Connecting and
the head of an answer are bounded as a whole, because a server that sends a byte at a time is never
silent for as long as a socket's time-out.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from functools import lru_cache
from http.cookiejar import DefaultCookiePolicy
from importlib.metadata import version
from threading import Timer
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util.connection import create_connection

from mmfeat.extract.media.addresses import check_public, resolve
from mmfeat.schemas.errors import ItemError

# Many image servers refuse clients that do not look like a browser; this one says what it is.
USER_AGENT = f"Mozilla/5.0 (compatible; mmfeat/{version('mmfeat')})"

# Each may take the whole time-out, and a host may have any number of them.
_ADDRESSES_TRIED = 4


@lru_cache(maxsize=2)
def session(allow_private: bool) -> requests.Session:
    """One session per process: connections to a server stay open from item to item.

    Proxies and certificates are those of the environment.

    Args:
        allow_private: without it, connections to addresses that are not public raise ItemError.
    """
    made = _Session()
    made.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # no item's visit is known to the next
    made.headers["User-Agent"] = USER_AGENT
    made.headers["Accept"] = "image/*,video/*;q=0.9,*/*;q=0.5"
    # A file is to be as long as its server says; compressed bodies could not be held to that.
    made.headers["Accept-Encoding"] = "identity"
    for scheme in ("http", "https"):
        made.mount(f"{scheme}://", _Adapter(allow_private))
    return made


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """No redirect is this session's business: requests reads the bodies of redirects without end."""


class _Careful(HTTPConnection):
    """A connection to checked addresses whose handshake and heads take no longer than its time-out."""

    allow_private = False
    _line: socket.socket | None = None
    _handshake: Timer | None = None
    _was_cut = False

    def _new_conn(self) -> socket.socket:
        opened = self._open_checked() if self.proxy is None else super()._new_conn()
        # TLS takes the socket object over; the duplicate still reaches the connection.
        self._line = opened.dup()
        self._handshake = cut_after(self._seconds, self._cut)
        return opened

    def _open_checked(self) -> socket.socket:
        try:
            addresses = resolve(self.host, self.port)
            if not self.allow_private:
                check_public(self.host, addresses)
            tried = addresses[:_ADDRESSES_TRIED]
            for address in tried:
                try:
                    return create_connection(
                        (address, self.port), self._seconds, self.source_address, self.socket_options
                    )
                except OSError:
                    if address == tried[-1]:
                        raise
        except TimeoutError:
            raise ConnectTimeoutError(self, f"no connection to {self.host} in time") from None
        except OSError as error:
            raise NewConnectionError(self, str(error)) from error
        raise NewConnectionError(self, f"{self.host} has no address")

    def connect(self) -> None:
        try:
            super().connect()
        except OSError:
            # A handshake that was cut looks like a server that hung up.
            if self._was_cut:
                raise ConnectTimeoutError(self, f"no safe connection to {self.host} in time") from None
            raise
        finally:
            if self._handshake is not None:
                self._handshake.cancel()

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        began, seconds = time.monotonic(), self._seconds
        timer = cut_after(seconds, self._cut)
        try:
            return super().getresponse()
        finally:
            timer.cancel()
            # A head that was cut looks like a short one, or like a server that hung up.
            if time.monotonic() - began >= seconds:
                raise TimeoutError("no complete answer in time")

    def close(self) -> None:
        super().close()
        if self._line is not None:
            self._line.close()
            self._line = None

    @property
    def _seconds(self) -> float:
        assert isinstance(self.timeout, float | int), "every request here has a time-out"
        return self.timeout

    def _cut(self) -> None:
        self._was_cut = True
        if (line := self._line) is not None:
            line.shutdown(socket.SHUT_RDWR)


class _CarefulTLS(_Careful, HTTPSConnection):
    pass


class _AnyAddress(_Careful):
    allow_private = True


class _AnyAddressTLS(_CarefulTLS):
    allow_private = True


def cut_after(seconds: float, cut: Callable[[], object]) -> Timer:
    """A running timer that ends a connection from outside the call that waits for it."""

    def end() -> None:
        # The connection may end by itself at the same moment.
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            cut()

    timer = Timer(max(0.0, seconds), end)
    timer.daemon = True
    timer.start()
    return timer


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Careful


class _PoolTLS(HTTPSConnectionPool):
    ConnectionCls = _CarefulTLS


class _AnyAddressPool(HTTPConnectionPool):
    ConnectionCls = _AnyAddress


class _AnyAddressPoolTLS(HTTPSConnectionPool):
    ConnectionCls = _AnyAddressTLS


_CHECKED_POOLS = {"http": _Pool, "https": _PoolTLS}
_ALL_POOLS = {"http": _AnyAddressPool, "https": _AnyAddressPoolTLS}


class _Adapter(HTTPAdapter):
    def __init__(self, allow_private: bool) -> None:
        self.allow_private = allow_private
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _ALL_POOLS if self.allow_private else _CHECKED_POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        if not proxy.lower().startswith("socks"):  # those have pools of their own
            manager.pool_classes_by_scheme = self.poolmanager.pool_classes_by_scheme
        return manager

    def get_connection_with_tls_context(self, request: Any, *args: Any, **options: Any) -> Any:
        if not self.allow_private and select_proxy(request.url, options.get("proxies")):
            _check_before_proxy(request.url)
        return super().get_connection_with_tls_context(request, *args, **options)


def _check_before_proxy(url: str) -> None:
    """Refuse what is known here not to be public; names that only the proxy knows are the proxy's."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        addresses = resolve(host, parts.port or 0)
    except (ItemError, OSError):
        return
    check_public(host, addresses)

"""Reading media from URLs: http and https, and the object stores s3, gs and az."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from mmfeat.extract.media.limits import check_bytes
from mmfeat.schemas.errors import ItemError

if TYPE_CHECKING:
    import requests
    from pyarrow.fs import FileSystem

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_WEB = ("http", "https")
_OBJECT_STORES = ("s3", "gs", "az")
_CONNECT_SECONDS, _SILENCE_SECONDS, _TOTAL_SECONDS = 10, 30, 600
_CHUNK = 1 << 20
_RETRIES = 2


def is_remote(location: str) -> bool:
    """Whether a location is a URL: neither a path nor a member of an archive."""
    match = _URL.match(location)
    return match is not None and match[1].lower() != "zip"


def read_remote(url: str, max_bytes: int) -> bytes:
    """The bytes behind a URL, at most ``max_bytes``: a longer body is dropped as soon as it shows.

    Servers that are busy (429, 502, 503, 504) are asked again twice. Proxies and certificates are
    those of the environment, as are the credentials of object stores.

    Raises:
        ItemError: stage ``read``: an answer other than 200, no answer in time, a body cut short or
            over the limit, or a kind of URL that is not read.
    """
    scheme = url.partition("://")[0].lower()
    if scheme in _WEB:
        return _read_web(url, max_bytes)
    if scheme in _OBJECT_STORES:
        return _read_object(scheme, url.partition("://")[2], max_bytes)
    raise ItemError("read", f"{scheme}:// is not read; give a path or an http, https, s3, gs or az URL")


def _read_web(url: str, max_bytes: int) -> bytes:
    import requests

    try:
        with _session().get(url, stream=True, timeout=(_CONNECT_SECONDS, _SILENCE_SECONDS)) as answer:
            if answer.status_code != 200:
                raise ItemError("read", f"the server answered {answer.status_code} {answer.reason}".rstrip())
            check_bytes("read", int(answer.headers.get("Content-Length", 0)), max_bytes)
            return _gathered(answer.iter_content(_CHUNK), max_bytes)
    except requests.Timeout:
        raise ItemError("read", "the server did not answer in time") from None
    except (requests.RequestException, ValueError) as error:
        raise ItemError("read", f"cannot fetch the URL: {_cause(error)}") from None


def _read_object(scheme: str, path: str, max_bytes: int) -> bytes:
    bucket = path.partition("/")[0]
    try:
        with _object_store(scheme, bucket).open_input_stream(path) as file:
            return _gathered(iter(lambda: file.read(_CHUNK), b""), max_bytes)
    except FileNotFoundError:
        raise ItemError("read", "there is no such object") from None
    except (OSError, ValueError) as error:
        raise ItemError("read", f"cannot fetch the object: {_cause(error)}") from None


def _gathered(chunks: Iterator[bytes], max_bytes: int) -> bytes:
    body, deadline = bytearray(), time.monotonic() + _TOTAL_SECONDS
    for chunk in chunks:
        body += chunk
        check_bytes("read", len(body), max_bytes)
        # A server that sends a few bytes at a time is never silent for long.
        if time.monotonic() > deadline:
            raise ItemError("read", f"not fetched within {_TOTAL_SECONDS // 60} minutes")
    return bytes(body)


@lru_cache(maxsize=1)
def _session() -> requests.Session:
    """One session per process: connections to a server stay open from item to item."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    session = requests.Session()
    # Many image servers refuse clients that do not look like a browser; this one says what it is.
    session.headers["User-Agent"] = f"Mozilla/5.0 (compatible; mmfeat/{version('mmfeat')})"
    session.headers["Accept"] = "image/*,video/*;q=0.9,*/*;q=0.5"
    # A file is to be as long as its server says; compressed bodies could not be held to that.
    session.headers["Accept-Encoding"] = "identity"
    retry = Retry(
        total=_RETRIES,
        backoff_factor=0.5,
        status_forcelist=(429, 502, 503, 504),
        raise_on_status=False,
        respect_retry_after_header=False,  # a server may ask for hours
    )
    for scheme in _WEB:
        session.mount(f"{scheme}://", HTTPAdapter(max_retries=retry))
    return session


@lru_cache(maxsize=64)
def _object_store(scheme: str, bucket: str) -> FileSystem:
    """The store behind a bucket; finding an S3 bucket's region alone takes a request."""
    from pyarrow import fs

    if scheme == "az":
        account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
        if not account:
            raise ItemError("read", "az:// needs the environment variable AZURE_STORAGE_ACCOUNT_NAME")
        return fs.AzureFileSystem(account_name=account)
    return fs.FileSystem.from_uri(f"{scheme}://{bucket}")[0]


def _cause(error: Exception) -> str:
    """What went wrong at the bottom, on one line: the layers above repeat the URL."""
    inner: object = error
    while isinstance(inner, Exception):
        error = inner
        inner = getattr(error, "reason", None) or next(
            (a for a in error.args if isinstance(a, Exception)), None
        )
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

"""Reading media from URLs: http and https, and the object stores s3, gs and az."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from mmfeat.extract.media.limits import check_bytes
from mmfeat.schemas.errors import ConfigError, ItemError
from mmfeat.schemas.media import FetchOptions
from mmfeat.schemas.objectstore import OBJECT_STORES, object_store

if TYPE_CHECKING:
    from mmfeat.extract.media.web import WebReader

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_WEB = ("http", "https")
# What follows a bucket's name in a URL of its store could name another server.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CHUNK = 1 << 20


def is_remote(location: str) -> bool:
    """Whether a location is a URL: neither a path, nor a member of an archive, nor a cell of a table."""
    match = _URL.match(location)
    return match is not None and match[1].lower() not in ("zip", "parquet", "arrow")


def read_remote(url: str, max_bytes: int, fetch: FetchOptions) -> bytes:
    """The bytes behind a URL, at most ``max_bytes``: a longer body is dropped as soon as it shows.

    Web addresses are read by ``mmfeat.extract.media.web``. Credentials of object stores are those of
    the environment, so that only buckets which ``fetch`` lists are read.

    Raises:
        ItemError: stage ``read``: a refused address, an answer that is not media, no answer in time,
            a body cut short or over the limit, or a kind of URL that is not read.
    """
    scheme, _, rest = url.partition("://")
    if (scheme := scheme.lower()) in _WEB:
        return _web_reader(fetch).read(url, max_bytes)
    if scheme in OBJECT_STORES:
        return _read_object(scheme, rest, max_bytes, fetch)
    raise ItemError("read", f"{scheme}:// is not read; give a path or an http, https, s3, gs or az URL")


@lru_cache(maxsize=4)
def _web_reader(options: FetchOptions) -> WebReader:
    from mmfeat.extract.media.web import WebReader

    return WebReader(options)


def _read_object(scheme: str, path: str, max_bytes: int, fetch: FetchOptions) -> bytes:
    bucket = path.partition("/")[0]
    if not _BUCKET.fullmatch(bucket):
        raise ItemError("read", f"{bucket[:200]!r} is not the name of a bucket")
    if not fetch.allows(f"{scheme}://{bucket}"):
        raise ItemError(
            "read",
            f"{scheme}://{bucket} is not among the buckets that this job may read with its credentials; "
            "add it to limits.fetch.buckets, then run with retry_failed",
        )
    try:
        with _store(scheme, bucket).open_input_stream(path) as file:
            return _gathered(iter(lambda: file.read(_CHUNK), b""), max_bytes, fetch.seconds)
    except FileNotFoundError:
        raise ItemError("read", "there is no such object") from None
    except ConfigError as error:
        raise ItemError("read", error.message.rstrip(".")) from None
    except (OSError, ValueError) as error:
        cause = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ItemError("read", f"cannot fetch the object: {cause}") from None


def _gathered(chunks: Iterator[bytes], max_bytes: int, seconds: float) -> bytes:
    body, deadline = bytearray(), time.monotonic() + seconds
    for chunk in chunks:
        body += chunk
        check_bytes("read", len(body), max_bytes)
        if time.monotonic() > deadline:
            raise ItemError("read", f"not fetched within {seconds:g} s")
    return bytes(body)


# Finding an S3 bucket's region alone takes a request.
_store = lru_cache(maxsize=64)(object_store)

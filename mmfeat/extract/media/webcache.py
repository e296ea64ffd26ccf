"""What was fetched, kept on disk by content, so that an unchanged file is not sent again.

``content/`` holds each content once, named by its SHA-256; ``urls/`` says which content a URL had,
and by which marks (ETag, Last-Modified) its server can tell whether it still has. Addresses are
kept as hashes: they may carry passwords. Files appear whole (written aside, then renamed), any number
of processes may read and write at once, and content that no longer has its hash is never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

# Making room measures the whole folder: it is done about once per this share of what it may hold.
_BETWEEN_MEASURES = 0.01
_ROOM_LEFT = 0.9


def default_cache() -> Path:
    """The cache folder of this user on this machine."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "mmfeat" / "media"


class _Entry(BaseModel):
    source: str
    content: str = Field(pattern="^[0-9a-f]{64}$")
    size: int
    etag: str | None
    last_modified: str | None


@dataclass(frozen=True)
class Cached:
    """A URL's content as last fetched.

    Attributes:
        data: the bytes.
        conditions: headers with which a server sends the content only if it has changed.
    """

    data: bytes
    conditions: dict[str, str]
    _source: str

    def came_from(self, url: str) -> bool:
        """Whether it was this address, at the end of any redirects, that sent the content."""
        return self._source == _digest(url.encode())


class WebCache:
    """The cache in one folder.

    Args:
        folder: created when something is first kept.
        most_bytes: what it may hold; a little more at times, as measuring takes a while. 0: nothing.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder = folder
        self.most_bytes = most_bytes

    def find(self, url: str, max_bytes: int) -> Cached | None:
        """What ``url`` had when it was last fetched, if that is here, intact and within ``max_bytes``."""
        place = self._place(url)
        try:
            entry = _Entry.model_validate_json(place.read_bytes())
            if entry.size > max_bytes:
                return None
            content = self._content(entry.content)
            data = content.read_bytes()
        except (OSError, ValidationError):
            return None
        if _digest(data) != entry.content:
            content.unlink(missing_ok=True)
            return None
        with contextlib.suppress(FileNotFoundError):  # another process is making room
            for file in (place, content):
                os.utime(file)
        marks = {"If-None-Match": entry.etag, "If-Modified-Since": entry.last_modified}
        return Cached(data, {name: mark for name, mark in marks.items() if mark}, entry.source)

    def keep(self, url: str, source: str, headers: Mapping[str, str], data: bytes) -> None:
        """Keep what was fetched, if its server allows it and can tell later whether it has changed.

        Args:
            url: the address asked for.
            source: the address that answered, after any redirects.
            headers: those of the answer.

        Raises:
            OSError: the folder cannot be written.
        """
        etag, modified = headers.get("ETag"), headers.get("Last-Modified")
        private = "no-store" in headers.get("Cache-Control", "").lower()
        if private or not (etag or modified) or len(data) > self.most_bytes * _ROOM_LEFT:
            return
        digest = _digest(data)
        entry = _Entry(
            source=_digest(source.encode()),
            content=digest,
            size=len(data),
            etag=etag,
            last_modified=modified,
        )
        content = self._content(digest)
        if not content.exists():
            _write(content, data)
        _write(self._place(url), entry.model_dump_json().encode())
        if random.random() * self.most_bytes * _BETWEEN_MEASURES < len(data):
            self._make_room()

    def forget(self, url: str) -> None:
        """Remove what is known of a URL, and its content; other URLs with it will fetch it again."""
        place = self._place(url)
        with contextlib.suppress(FileNotFoundError, ValidationError):
            self._content(_Entry.model_validate_json(place.read_bytes()).content).unlink(missing_ok=True)
        place.unlink(missing_ok=True)

    def _place(self, url: str) -> Path:
        return self._named("urls", _digest(url.encode()))

    def _content(self, digest: str) -> Path:
        return self._named("content", digest)

    def _named(self, kind: str, digest: str) -> Path:
        return self.folder / kind / digest[:2] / digest

    def _make_room(self) -> None:
        """Remove what was used longest ago, if there is more than there may be."""
        files = []
        for path in self.folder.glob("*/??/*"):
            with contextlib.suppress(FileNotFoundError):  # another process makes room as well
                found = path.stat()
                files.append((found.st_mtime_ns, found.st_size, path))
        total = sum(size for _, size, _ in files)
        if total <= self.most_bytes:
            return
        for _, size, path in sorted(files):
            if total <= self.most_bytes * _ROOM_LEFT:
                return
            path.unlink(missing_ok=True)
            total -= size


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            file.write(data)
            file.close()
            os.replace(file.name, path)  # noqa: PTH105
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise

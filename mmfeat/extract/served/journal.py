"""Answers that were paid for, kept until their rows are committed: a run that is killed asks no server twice.

One small JSON file per request, ``<folder>/<fingerprint>/<request digest>.json``. It holds the answer and
its token counts, and nothing of what was sent.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmfeat.schemas.errors import StoreError


class Journal:
    """The answers under one folder.

    Args:
        uri: an absolute local folder, or an object-store URI with credentials and endpoint from the
            environment (``AWS_*``, ``GOOGLE_*``). Made when the first answer is kept.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._local = None if "://" in uri else Path(uri)
        self._names: dict[str, set[str]] = {}

    def get(self, fingerprint: str, digest: str) -> dict[str, Any] | None:
        """What :meth:`put` kept, or None if there is nothing (or half a file of a machine that died)."""
        if digest not in self._listed(fingerprint):
            return None
        with self._errors("read"):
            return self._read(fingerprint, digest)

    def put(self, fingerprint: str, digest: str, entry: dict[str, Any]) -> None:
        """Keep ``entry`` durably: after this returns, no crash of the process or machine loses it."""
        body = json.dumps(entry, ensure_ascii=False).encode()
        with self._errors("write"):
            self._write(f"{fingerprint}/{digest}.json", body)
        self._listed(fingerprint).add(digest)

    def entries(self, fingerprint: str) -> Iterator[dict[str, Any]]:
        """All that is kept of one feature version, in no order."""
        for digest in sorted(self._listed(fingerprint)):
            if (entry := self.get(fingerprint, digest)) is not None:
                yield entry

    def remove(self, fingerprint: str) -> None:
        """Forget one feature version's answers: their rows are committed."""
        from pyarrow import fs

        self._names.pop(fingerprint, None)
        with self._errors("clean"):
            filesystem, root = self._filesystem()
            folder = f"{root}/{fingerprint}"
            if filesystem.get_file_info(folder).type == fs.FileType.Directory:
                filesystem.delete_dir(folder)

    def _listed(self, fingerprint: str) -> set[str]:
        """Digests of the kept answers; read once, then known: nobody else writes them meanwhile."""
        if fingerprint not in self._names:
            from pyarrow import fs

            with self._errors("list"):
                filesystem, root = self._filesystem()
                found = filesystem.get_file_info(
                    fs.FileSelector(f"{root}/{fingerprint}", allow_not_found=True)
                )
                self._names[fingerprint] = {
                    info.base_name.removesuffix(".json") for info in found if info.extension == "json"
                }
        return self._names[fingerprint]

    def _read(self, fingerprint: str, digest: str) -> dict[str, Any] | None:
        filesystem, root = self._filesystem()
        with filesystem.open_input_stream(f"{root}/{fingerprint}/{digest}.json") as stream:
            body = stream.read()
        try:
            entry: dict[str, Any] = json.loads(body)
        except ValueError:
            return None
        return entry

    def _write(self, name: str, body: bytes) -> None:
        if self._local is None:
            filesystem, root = self._filesystem()
            with filesystem.open_output_stream(f"{root}/{name}") as stream:
                stream.write(body)
            return
        # Object stores put a file whole or not at all; on a disk that takes a rename.
        path = self._local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        with unfinished.open("wb") as stream:
            stream.write(body)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)

    def _filesystem(self) -> tuple[Any, str]:
        from pyarrow import fs

        filesystem, root = fs.FileSystem.from_uri(str(self._local) if self._local else self._uri)
        return filesystem, root.rstrip("/")

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"Cannot {doing} the request journal {self._uri}: {error}.",
                hint="Answers are kept there, so that none is paid for twice. Check its disk and rights.",
            ) from None

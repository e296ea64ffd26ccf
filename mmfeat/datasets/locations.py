"""Decides which media locations of a table are taken: tables may come from strangers."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from mmfeat.datasets.base import Note, note_of
from mmfeat.datasets.media_files import is_inside

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_SCHEMES = frozenset({"http", "https", "s3", "gs", "az"})


@dataclass
class Locator:
    """Turns the paths and URLs of a table into locations.

    Attributes:
        base: absolute path of the folder that relative paths start from and nothing may leave.
        outside: paths that lead out of ``base``, symbolic links followed.
        schemes: URLs of a kind that is not read, such as ``file://``.
    """

    base: Path
    outside: list[str] = field(default_factory=list)
    schemes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._real_base = os.path.realpath(self.base)
        self._safe_folders: dict[str, bool] = {}

    def locate(self, value: str) -> str | None:
        """The location that ``value`` names, None if it is refused. Whether it exists is not asked."""
        scheme = _SCHEME.match(value)
        if scheme:
            if scheme[1].lower() in _SCHEMES:
                return value
            self.schemes.append(value)
            return None
        path = os.path.join(self.base, value)  # noqa: PTH118
        if "\0" in value or not self._is_inside(path):
            self.outside.append(value)
            return None
        return path

    def notes(self) -> list[Note]:
        """What was refused."""
        return [
            *note_of("error", "outside_root", f"paths that lead out of {self.base}: refused", self.outside),
            *note_of("error", "unknown_scheme", "URLs of a kind that is not read: refused", self.schemes),
        ]

    def _is_inside(self, path: str) -> bool:
        # Links of a folder are followed once for all its files: a table may name a million.
        folder, name = os.path.split(path)
        if name in ("", ".", "..") or os.path.islink(path):  # noqa: PTH114
            return is_inside(path, self._real_base)
        if folder not in self._safe_folders:
            real = os.path.realpath(folder)
            self._safe_folders[folder] = real == self._real_base or is_inside(folder, self._real_base)
        return self._safe_folders[folder]

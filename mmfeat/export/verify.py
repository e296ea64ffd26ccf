"""Whether an export is still what was written, and whether every item finds its own vector in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmfeat.export import registry
from mmfeat.export.base import Exporter
from mmfeat.export.content import Entry
from mmfeat.export.files import digest
from mmfeat.export.manifest import MANIFEST, checksum, read_checksums, read_manifest, read_map
from mmfeat.schemas.notebook import ShortRepr

MAX_EXAMPLES = 5


@dataclass(frozen=True)
class Problem:
    """Something wrong with an export.

    Attributes:
        kind: ``file`` (missing, or not the bytes that were written), ``unreadable`` (the target's
            rule cannot read it), ``shape``, ``lost`` (items without their value), ``stranger``
            (values of items that have none) or ``echo`` (an item finds another value than its own).
        count: how many things it concerns; ``examples``: a few of them.
    """

    kind: Literal["file", "unreadable", "shape", "lost", "stranger", "echo"]
    message: str
    count: int = 1
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class VerifyReport(ShortRepr):
    """What :func:`verify` found. ``unlisted`` are files that the export did not write."""

    path: Path
    format: str
    files: int
    items: int
    problems: tuple[Problem, ...]
    unlisted: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(folder: str | Path) -> VerifyReport:
    """Check an export's digests, counts and shapes, and run the echo check.

    The echo check reads the files by the target's own loading rule and compares what every item
    finds with the checksum that was kept of its value when the export was made. Neither the store
    nor the target project is needed.

    Raises:
        UsageError: the folder is no export, or of a format that is not installed.
    """
    path = Path(folder)
    document = read_manifest(path)
    exporter = registry.get(document["format"])
    problems = _files(path, document)
    problems += _echo(path, document, exporter)
    present = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}
    unlisted = tuple(sorted(present - set(document["files"]) - {MANIFEST}))
    return VerifyReport(
        path, document["format"], len(document["files"]), document["items"], tuple(problems), unlisted
    )


def _files(path: Path, document: dict[str, Any]) -> list[Problem]:
    lost, changed = [], []
    for name, entry in document["files"].items():
        file = path / name
        if not file.is_file():
            lost.append(name)
        elif file.stat().st_size != entry["bytes"] or digest(file) != entry["sha256"]:
            changed.append(name)
    return _problem("file", "files are missing", lost) + _problem("file", "files are not as written", changed)


def _echo(path: Path, document: dict[str, Any], exporter: Exporter) -> list[Problem]:
    shapes = {role: entry["exported"] for role, entry in document["features"].items()}
    found: dict[str, list[str]] = {kind: [] for kind in ("shape", "stranger", "echo")}
    try:
        expected = read_checksums(path)
        waiting = {role: set(items) for role, items in expected.items()}
        for entry in exporter.read_back(path, read_map(path), document):
            named = f"{entry.role} of {entry.item_id!r}"
            if entry.item_id not in waiting.get(entry.role, ()):
                found["stranger"].append(named)
                continue
            waiting[entry.role].discard(entry.item_id)
            if not _has_shape(entry, shapes[entry.role]):
                found["shape"].append(named)
            elif checksum(entry.value) != expected[entry.role][entry.item_id]:
                found["echo"].append(named)
    # A damaged file may fail in any way that its library has; all of them mean the same.
    except Exception as error:
        return [
            Problem("unreadable", f"{exporter.title}'s rule cannot read it: {type(error).__name__}: {error}")
        ]
    lost = [f"{role} of {item_id!r}" for role, items in waiting.items() for item_id in sorted(items)]
    return [
        *_problem("shape", "values have another shape or number type", found["shape"]),
        *_problem("lost", "values are not found", lost),
        *_problem("stranger", "values belong to no item, or are there twice", found["stranger"]),
        *_problem("echo", "items find a value that is not their own", found["echo"]),
    ]


def _has_shape(entry: Entry, exported: dict[str, Any]) -> bool:
    if isinstance(entry.value, str):
        return bool(exported["dtype"] == "string")
    value = np.asarray(entry.value)
    wanted = exported["shape"]
    # Of any number of vectors, that number is null.
    shape = [None, *value.shape[1:]] if wanted[:1] == [None] else list(value.shape)
    return bool(shape == wanted and str(value.dtype) == exported["dtype"])


def _problem(kind: Any, message: str, things: list[str]) -> list[Problem]:
    return [Problem(kind, message, len(things), tuple(things[:MAX_EXAMPLES]))] if things else []

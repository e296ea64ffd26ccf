"""Looks at media files without decoding them: there, empty, the same as others'."""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmfeat.schemas.catalog import split_cell_location, split_zip_location

_EDGE = 4096

# What can be wrong with a file: a note's code and the rest of "these files ...".
Trouble = tuple[str, str]
_NOT_THERE = ("not_there", "are not there")
_BROKEN_LINK = ("broken_link", "are links to nothing")
_NOT_A_FILE = ("not_a_file", "are folders or devices")
_NO_ACCESS = ("no_access", "cannot be opened")
_EMPTY = ("empty_file", "are empty")


@dataclass
class MediaFindings:
    """What was found of the files of one column, each by its number.

    Attributes:
        unreadable: what is wrong to the numbers of the files; of a file in a table's cell, with the table.
        contents: number of a file to a key that files of the same bytes share, of those that were read.
        remote: numbers of those whose place is a URL, which is not asked for.
    """

    unreadable: dict[Trouble, list[int]] = field(default_factory=dict)
    contents: dict[int, Hashable] = field(default_factory=dict)
    remote: list[int] = field(default_factory=list)


def check_media(places: Sequence[str]) -> MediaFindings:
    """Looks at files; a file's number is where it stands in ``places``.

    Args:
        places: locations (see :func:`mmfeat.schemas.catalog.catalog_schema`).
    """
    findings = MediaFindings()
    files: dict[int, Hashable] = {}
    archives = _Archives()
    for number, place in enumerate(places):
        member = split_zip_location(place)
        if cell := split_cell_location(place):
            # Its content is not looked at: the table would have to be read whole.
            if trouble := _look(cell.table).trouble:
                findings.unreadable.setdefault(trouble, []).append(number)
            continue
        if member is None and "://" in place:
            findings.remote.append(number)
            continue
        found = archives.look(*member) if member else _look(place)
        if found.trouble:
            findings.unreadable.setdefault(found.trouble, []).append(number)
        elif member:
            findings.contents[number] = ("member", found.key)
        else:
            files[number] = found.key
    # Equal sizes are common and equal ends are not: few files have to be read whole.
    groups = _split(list(files), files.__getitem__)
    for read in (_edges, _digest):
        key = _key_by(read, places, findings)
        groups = [part for group in groups for part in _split(group, key)]
    shared = {number: ("file", group[0]) for group in groups for number in group}
    unreadable = {number for numbers in findings.unreadable.values() for number in numbers}
    for number in files:
        if number not in unreadable:
            findings.contents[number] = shared.get(number, ("file", number))
    return findings


def _key_by(
    read: Callable[[str], Hashable], places: Sequence[str], findings: MediaFindings
) -> Callable[[int], Hashable]:
    def key(number: int) -> Hashable:
        try:
            return read(places[number])
        except OSError:
            findings.unreadable.setdefault(_NO_ACCESS, []).append(number)
            return object()  # equal to no other

    return key


@dataclass(frozen=True)
class _Look:
    """What is wrong with a file, or a key that files of the same content share."""

    trouble: Trouble | None
    key: Hashable = None


def _look(place: str) -> _Look:
    try:
        found = os.stat(place)  # noqa: PTH116
    except PermissionError:
        return _Look(_NO_ACCESS)
    except OSError:
        return _Look(_BROKEN_LINK if os.path.islink(place) else _NOT_THERE)  # noqa: PTH114
    if not stat.S_ISREG(found.st_mode):
        return _Look(_NOT_A_FILE)
    if not os.access(place, os.R_OK):
        return _Look(_NO_ACCESS)
    return _Look(None if found.st_size else _EMPTY, found.st_size)


class _Archives:
    """Zip archives, each opened once."""

    def __init__(self) -> None:
        self._members: dict[str, dict[str, tuple[int, int]] | None] = {}

    def look(self, archive: str, member: str) -> _Look:
        if archive not in self._members:
            self._members[archive] = self._read(archive)
        members = self._members[archive]
        if members is None:
            return _Look(_NO_ACCESS)
        if member not in members:
            return _Look(_NOT_THERE)
        size, crc = members[member]
        return _Look(None if size else _EMPTY, (size, crc))

    @staticmethod
    def _read(archive: str) -> dict[str, tuple[int, int]] | None:
        try:
            with zipfile.ZipFile(archive) as opened:
                return {info.filename: (info.file_size, info.CRC) for info in opened.infolist()}
        except (OSError, zipfile.BadZipFile):
            return None


def _split(numbers: list[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """The numbers in groups of equal key; those that are alone are left out."""
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    for number in numbers:
        groups[key(number)].append(number)
    return [group for group in groups.values() if len(group) > 1]


def _edges(place: str) -> bytes:
    with Path(place).open("rb") as file:
        start = file.read(_EDGE)
        file.seek(max(0, file.seek(0, os.SEEK_END) - _EDGE))
        return start + file.read(_EDGE)


def _digest(place: str) -> str:
    with Path(place).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

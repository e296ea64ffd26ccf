"""Finds media of which an item may have several: ``ID_1.jpg`` and ``ID_2.jpg``, or a folder per item."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmfeat.datasets.base import Cell, Note, note_of
from mmfeat.datasets.media_files import (
    LITTER,
    MediaFiles,
    files_below,
    is_inside,
    is_safe_id,
    printable,
    split_name,
    zip_members,
)
from mmfeat.datasets.zip_names import NOTHING_TOLD, Telling
from mmfeat.schemas.catalog import Column
from mmfeat.schemas.suffixes import SUFFIXES

BETWEEN_WORDS = r"[_\-. ]"

_NUMBERED = re.compile(r"(.+)_(\d+)")
_DIGITS = re.compile(r"(\d+)")

# Where one of an item's files stands among the others.
_Place = tuple[int, tuple[object, ...]]


@dataclass(frozen=True)
class Listing:
    """The files in a folder or archive, before it is known which items they belong to.

    Attributes:
        names: paths in it, with ``/`` between folders.
        outside: entries that lead out of the root.
        encrypted: archive members that need a password.
        odd: notes on how they were listed.
        locate: a name to its location.
    """

    names: Sequence[str]
    locate: Callable[[str], str]
    outside: Sequence[str] = ()
    encrypted: Sequence[str] = ()
    odd: Sequence[Note] = ()


@dataclass
class MediaLists:
    """One column's files, by item.

    Attributes:
        column: as asked, ``several`` where a file is numbered or in a folder of its item's.
        locations: item id to location, or to the list of them.
        files: what was left out.
    """

    column: Column
    locations: dict[str, Cell] = field(default_factory=dict)
    files: MediaFiles = field(default_factory=lambda: MediaFiles(""))

    def notes(self) -> list[Note]:
        """What was refused, left out or decided while listing."""
        return self.files.notes()


def ends_with_word(name: str, word: str) -> bool:
    """Whether a folder's name is ``word`` or ends with it as a word; case does not matter."""
    head, tail = name[: -len(word)], name[-len(word) :]
    return tail.lower() == word.lower() and (not head or re.fullmatch(BETWEEN_WORDS, head[-1]) is not None)


def folder_listing(folder: Path, real_root: str, called: str) -> Listing:
    """The files in a folder and in all folders in it.

    Args:
        folder: absolute path; where it holds nothing but one folder of its own name, that is listed.
        real_root: real path of the folder that nothing may lead out of.
        called: what the column's folders are called.
    """
    inner = [entry for entry in folder.iterdir() if entry.name not in LITTER]
    if len(inner) == 1 and inner[0].is_dir() and ends_with_word(inner[0].name, called):
        folder = inner[0]
    if not is_inside(str(folder), real_root):
        return Listing([], str, [printable(folder.name)])
    names, outside = files_below(folder, real_root)
    return Listing(names, lambda name: os.path.join(folder, name), outside)  # noqa: PTH118


def zip_listing(archive: Path, called: str, telling: Telling = NOTHING_TOLD) -> Listing:
    """The files in a plain zip archive; a folder of the column's name that holds all of them is looked into.

    Args:
        called: what the column's folders are called.
        telling: what tells names that do not say their encoding.
    """
    members = zip_members(archive, telling)
    top = {name.partition("/")[0] for name in members.names}
    alone = top.pop() if len(top) == 1 and all("/" in name for name in members.names) else ""
    prefix = f"{alone}/" if alone and ends_with_word(alone, called) else ""
    return Listing(
        [name.removeprefix(prefix) for name in members.names],
        lambda name: members.locate(prefix + name),
        members.outside,
        members.encrypted,
        members.notes,
    )


def match_lists(listing: Listing, column: Column, known: Collection[str]) -> MediaLists:
    """Matches files to items: ``ID.jpg``, ``ID_1.jpg`` and so on, or ``ID/NAME.jpg``.

    An item's files stand in that order: the one without a number, then by number, then those in its
    folder by name, numbers in names by value.

    Args:
        known: ids of items; a name that is one of them ends in no number.
    """
    files = MediaFiles(column.name, outside=list(listing.outside), encrypted=list(listing.encrypted))
    files.odd = list(listing.odd)
    suffixes = SUFFIXES[column.modality]
    deep: list[str] = []
    claims: dict[str, dict[_Place, list[tuple[int, str]]]] = {}
    for name in listing.names:
        folder, _, own = name.rpartition("/")
        split = split_name(own, suffixes)
        if split is None:
            files.ignored.append(printable(name))
            continue
        if "/" in folder:
            deep.append(printable(name))
            continue
        item_id, place = (folder, (2, _natural(split[0]))) if folder else _numbered(split[0], known)
        if not is_safe_id(item_id):
            files.unsafe.append(printable(name))
            continue
        claims.setdefault(item_id, {}).setdefault(place, []).append((suffixes.index(split[1]), name))
    message = f"{column.name} files in a folder of a folder: not read, a folder is an item's"
    files.odd += note_of("warning", "too_deep", message, deep)
    several = any(place[0] for places in claims.values() for place in places)
    found = MediaLists(Column(column.name, column.modality, several), files=files)
    for item_id in sorted(claims):
        taken = []
        for place in sorted(claims[item_id]):
            names = [name for _, name in sorted(claims[item_id][place])]
            taken.append(listing.locate(names[0]))
            if len(names) > 1:
                files.clashes.append(f"{item_id}: {', '.join(names)}")
        found.locations[item_id] = taken if several else taken[0]
    return found


def _numbered(stem: str, known: Collection[str]) -> tuple[str, _Place]:
    """The item that a file belongs to, and its place among the item's."""
    number = None if stem in known else _NUMBERED.fullmatch(stem)
    return (stem, (0, ())) if number is None else (number[1], (1, (int(number[2]),)))


def _natural(stem: str) -> tuple[object, ...]:
    # Split at digits, so that texts and numbers alternate and are compared with their like.
    return tuple(int(part) if at % 2 else part for at, part in enumerate(_DIGITS.split(stem)))

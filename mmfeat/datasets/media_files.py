"""Finds media named by item id, in a folder or in a zip archive.

Media are found by listing, never by joining an id to a path, so an id cannot reach outside the
folder. Listing is linear in the number of files and opens none of them.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmfeat.datasets.base import Note, note_of
from mmfeat.datasets.zip_names import NOTHING_TOLD, Telling, names_of
from mmfeat.schemas.catalog import Column, zip_location
from mmfeat.schemas.errors import DatasetError
from mmfeat.schemas.suffixes import SUFFIXES

# What archivers and file managers leave behind.
LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX"})


@dataclass
class MediaFiles:
    """What a folder or archive holds of one column.

    Attributes:
        column: the column's name.
        locations: item id to location, sorted by id.
        clashes: ids that several files claim, as ``id: file, file``; the first file was taken.
        outside: entries that lead out of the root; none was taken.
        unsafe: names that no item id can be made of (not UTF-8, ``.``, ``..``); none was taken.
        encrypted: archive members that need a password; none was taken.
        ignored: files of other kinds.
        odd: notes of whoever listed them.
    """

    column: str
    locations: dict[str, str] = field(default_factory=dict)
    clashes: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    unsafe: list[str] = field(default_factory=list)
    encrypted: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    odd: list[Note] = field(default_factory=list)

    def notes(self) -> list[Note]:
        """What was refused, left out or decided while listing."""
        kind = self.column
        return [
            *note_of("warning", "media_clash", f"several files for one {kind}: first taken", self.clashes),
            *note_of(
                "error", "outside_root", f"{kind} files that lead out of the root: refused", self.outside
            ),
            *note_of("error", "unsafe_name", f"{kind} files whose name is no item id: refused", self.unsafe),
            *note_of("error", "encrypted", f"{kind} files that need a password: refused", self.encrypted),
            *note_of("info", "not_media", f"files among the {kind} files of another kind", self.ignored),
            *self.odd,
        ]


def split_name(name: str, extensions: Collection[str]) -> tuple[str, str] | None:
    """``(item id, extension)`` of a file name; None for another kind of file.

    Only a known extension at the end is taken off, so ``a.b.c.jpg`` names the item ``a.b.c``.
    """
    dot = name.rfind(".")
    if dot <= 0 or name[dot:].lower() not in extensions:
        return None
    return name[:dot], name[dot:].lower()


def is_safe_id(item_id: str) -> bool:
    """Whether an id can name a file inside a folder: no separator, no ``.`` or ``..``, valid Unicode."""
    if item_id in ("", ".", "..") or any(character in item_id for character in "/\\\0"):
        return False
    return not any("\ud800" <= character <= "\udfff" for character in item_id)


def printable(name: str) -> str:
    """A file name that can be shown and encoded, whatever bytes it is made of."""
    return name.encode("utf-8", "backslashreplace").decode()


def is_inside(path: str, real_root: str) -> bool:
    """Whether ``path``, symbolic links followed, lies in ``real_root`` (itself without links)."""
    return os.path.realpath(path).startswith(real_root.rstrip(os.sep) + os.sep)


def files_in(folder: Path, real_root: str) -> tuple[list[str], list[str]]:
    """Names of the files in a folder, sorted: those inside the root, and links that lead out of it."""
    inside, outside = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in LITTER or entry.name.startswith("._"):
                continue
            if entry.is_symlink() and not is_inside(entry.path, real_root):
                outside.append(printable(entry.name))
            elif entry.is_file():
                inside.append(entry.name)
    return sorted(inside), sorted(outside)


def files_below(folder: Path, real_root: str) -> tuple[list[str], list[str]]:
    """As :func:`files_in`, of the folder and of all folders in it: paths from it on, with ``/``."""
    inside: list[str] = []
    outside: list[str] = []
    seen: set[str] = set()
    left = [""]
    while left:
        below = left.pop()
        path = os.path.join(folder, below)  # noqa: PTH118
        # A link may lead back to a folder that was read.
        if (real := os.path.realpath(path)) in seen:
            continue
        seen.add(real)
        names, led_out = files_in(Path(path), real_root)
        inside += [f"{below}{name}" for name in names]
        outside += [f"{printable(below)}{name}" for name in led_out]
        left += [f"{below}{name}/" for name in _folders_in(path, real_root)]
    return sorted(inside), sorted(outside)


def _folders_in(path: str, real_root: str) -> list[str]:
    with os.scandir(path) as entries:
        folders = [e for e in entries if e.is_dir() and e.name not in LITTER and not e.name.startswith(".")]
    return sorted(e.name for e in folders if not e.is_symlink() or is_inside(e.path, real_root))


def folder_media(folder: Path, column: Column, real_root: str, ids: Collection[str] = ()) -> MediaFiles:
    """The files of one column in a folder, in whatever folder of it they lie.

    Args:
        folder: absolute path.
        real_root: real path of the folder that nothing may lead out of.
        ids: of items that are known from elsewhere.

    Raises:
        DatasetError: as :func:`refuse_folders_of_items`.
    """
    names, outside = files_below(folder, real_root)
    refuse_folders_of_items(names, column, ids)
    found = match_names(names, column)
    base = str(folder)
    found.locations = {i: os.path.join(base, name) for i, name in found.locations.items()}  # noqa: PTH118
    found.outside = outside
    return found


def match_names(names: Iterable[str], column: Column, suffixes: Sequence[str] = ()) -> MediaFiles:
    """Matches file names to item ids; the locations of the result are the names as given.

    Args:
        suffixes: those that are taken, where they are not all of the column's modality.
    """
    found = MediaFiles(column.name)
    claims: dict[str, list[tuple[int, str]]] = {}
    extensions = suffixes or SUFFIXES[column.modality]
    for name in names:
        split = split_name(name.rpartition("/")[2], extensions)
        if split is None:
            found.ignored.append(printable(name))
        elif not is_safe_id(split[0]):
            found.unsafe.append(printable(name))
        else:
            claims.setdefault(split[0], []).append((extensions.index(split[1]), name))
    for item_id in sorted(claims):
        files = [name for _, name in sorted(claims[item_id])]
        found.locations[item_id] = files[0]
        if len(files) > 1:
            found.clashes.append(f"{item_id}: {', '.join(files)}")
    return found


def refuse_folders_of_items(names: Iterable[str], column: Column, ids: Collection[str]) -> None:
    """Refuses files that belong to the items that their folders are named by, in a column of one file each.

    Args:
        names: paths with ``/`` between folders.
        ids: of items that are known from elsewhere.

    Raises:
        DatasetError: most files have the name of one in another folder, or more folders of files than files
            are named by ids.
    """
    files = [name for name in names if split_name(name.rpartition("/")[2], SUFFIXES[column.modality])]
    folders: dict[str, set[str]] = {}
    by_name = by_folder = 0
    for name in files:
        folder, _, own = name.rpartition("/")
        stem = own.rpartition(".")[0]
        folders.setdefault(stem, set()).add(folder)
        by_name += stem in ids
        by_folder += folder.rpartition("/")[2] in ids
    shared = [stem for stem, found in folders.items() if len(found) > 1 and "" not in found]
    alike = sum(len(folders[stem]) for stem in shared)
    if 2 * alike > len(files) or by_folder > by_name:
        raise DatasetError(
            f"The {column.name} files seem to lie in a folder per item, not to be named by item: "
            f"{', '.join(files[:3])}.",
            hint="List them in a table with a column of lists, or name them a column of their own: "
            "--column photos=image, with the folders of the items in the folder photos. "
            "Files that are named by item must each have a name of its own.",
        )


def zip_media(archive: Path, column: Column, telling: Telling = NOTHING_TOLD) -> MediaFiles:
    """The files of one column in a plain zip archive, in whatever folder of it they lie.

    Args:
        telling: what tells names that do not say their encoding.

    Raises:
        DatasetError: the archive is damaged, one volume of a split one, or its path holds ``::``; or as
            :func:`refuse_folders_of_items`.
    """
    members = zip_members(archive, telling, flat=True)
    refuse_folders_of_items(members.names, column, telling.ids)
    found = match_names(members.names, column)
    found.locations = {i: members.locate(name) for i, name in found.locations.items()}
    found.outside, found.encrypted, found.odd = members.outside, members.encrypted, members.notes
    return found


@dataclass(frozen=True)
class ZipMembers:
    """The files in an archive, by their paths in it, each list sorted.

    Attributes:
        archive: its path.
        stored: the paths of those that can be read, to what Python's zipfile calls them.
        outside: those whose path leads out of the archive's folder.
        encrypted: those that need a password.
        notes: how their names were told.
    """

    archive: str
    stored: dict[str, str]
    outside: list[str]
    encrypted: list[str]
    notes: list[Note]

    @property
    def names(self) -> list[str]:
        """The paths of those that can be read."""
        return list(self.stored)

    def locate(self, name: str) -> str:
        """The location of one of them."""
        return zip_location(self.archive, self.stored[name])


def zip_members(archive: Path, telling: Telling, *, flat: bool = False) -> ZipMembers:
    """What a plain zip archive holds; see :func:`zip_media` for the errors.

    Args:
        flat: whether the folders in it mean nothing.
    """
    if "::" in str(archive):
        raise DatasetError(f'{archive} has "::" in its path.', hint="Rename the folder or the archive.")
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [info for info in opened.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise DatasetError(
            f"Cannot read the archive {archive}: {error}.",
            hint="Extract it into a folder of the same name without .zip (7z x for split archives).",
        ) from None
    names, notes = names_of(members, telling, flat=flat)
    told = [(name, info) for name, info in zip(names, members, strict=True) if name is not None]
    named = sorted(told, key=lambda pair: pair[0])
    outside = [name for name, info in named if _leads_out(name)]
    encrypted = [name for name, info in named if info.flag_bits & 1]
    refused = {*outside, *encrypted}
    stored = {n: info.filename for n, info in named if n not in refused and not _is_litter(n)}
    return ZipMembers(str(archive), stored, outside, encrypted, notes)


def _leads_out(member: str) -> bool:
    return member.startswith("/") or ".." in member.replace("\\", "/").split("/")


def _is_litter(member: str) -> bool:
    parts = member.split("/")
    return parts[-1].startswith("._") or not LITTER.isdisjoint(parts)

"""Finds the parts of a dataset folder: one folder or zip archive of media per column."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mmfeat.datasets.base import Note, note_of
from mmfeat.datasets.media_files import LITTER, MediaFiles, folder_media, is_inside, printable, zip_media
from mmfeat.datasets.media_lists import BETWEEN_WORDS, Listing, ends_with_word, folder_listing, zip_listing
from mmfeat.datasets.zip_names import NOTHING_TOLD, Telling
from mmfeat.schemas.catalog import usual
from mmfeat.schemas.errors import DatasetError

# The last word of the name of a folder or archive of media: the usual column that it stands for.
_WORDS = {
    "cover": "cover",
    "covers": "cover",
    "image": "cover",
    "images": "cover",
    "video": "video",
    "videos": "video",
    "audio": "audio",
    "audios": "audio",
}
_ARCHIVE = re.compile(
    r"\.(zip(\.\d+)?|z\d+|7z(\.\d+)?|(part\d+\.)?rar|r\d+|tar|tgz|tar\.\w+)$", re.IGNORECASE
)


@dataclass
class MediaParts:
    """Where a dataset folder keeps its media.

    Attributes:
        files: usual column to what its folder or archive holds.
        listings: further column to the files in its folder or archive, not yet matched to items.
        used: names of the entries of the root that were read or stand for one that was.
        spare: archives beside a folder of the same column, which was read instead.
    """

    files: dict[str, MediaFiles] = field(default_factory=dict)
    listings: dict[str, Listing] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    spare: list[str] = field(default_factory=list)

    def notes(self) -> list[Note]:
        """What was refused, left out or decided while listing."""
        listed = [note for files in self.files.values() for note in files.notes()]
        return listed + note_of(
            "info", "spare_archive", "archives beside a folder of the same media: folder read", self.spare
        )


def media_parts(
    root: Path, further: Mapping[str, str] | None = None, telling: Telling = NOTHING_TOLD
) -> MediaParts:
    """Lists the media of every column that has a folder or a zip archive in ``root``.

    A folder or archive belongs to the column that the last word of its name says, ``covers`` or
    ``MicroLens-50k_covers.zip`` to ``cover``. A folder goes before an archive.

    Args:
        further: columns beside the usual ones, to what their folders are called.
        telling: what tells names in archives that do not say their encoding.

    Raises:
        DatasetError: several folders or archives of one column, a folder per item in that of a usual
            column, a folder that is a link out of the root, or media in archives that cannot be read
            without unpacking (split zip, rar, ...).
    """
    parts = MediaParts()
    real_root = str(root.resolve())
    further = further or {}
    for name, entries in _by_column(root, further).items():
        parts.used.update(entry.name for entry in entries)
        folders = [entry for entry in entries if entry.is_dir()]
        archives = [entry for entry in entries if not entry.is_dir()]
        if folders:
            parts.spare.extend(entry.name for entry in archives)
            folder = _only_folder(folders, real_root)
            if name in further:
                parts.listings[name] = folder_listing(folder, real_root, further[name])
            else:
                parts.files[name] = folder_media(folder, usual(name), real_root, telling.ids)
        elif name in further:
            parts.listings[name] = zip_listing(_only_zip(archives), further[name], telling)
        else:
            parts.files[name] = zip_media(_only_zip(archives), usual(name), telling)
    return parts


def column_of_folder(name: str, further: Mapping[str, str]) -> str | None:
    """The column that the end of a folder's name says; None if it says none.

    Args:
        further: columns beside the usual ones, to what their folders are called; they go before those,
            and of several that fit the one of the longest name is taken.
    """
    fitting = [column for column, called in further.items() if ends_with_word(name, called)]
    if fitting:
        return max(fitting, key=lambda column: len(further[column]))
    return _WORDS.get(re.split(BETWEEN_WORDS, name)[-1].lower())


def in_order(ids: Iterable[str]) -> list[str]:
    """Ids in a fixed order: numbers by value, then all others by their characters."""
    return sorted(ids, key=_order)


def unread(root: Path, used: Iterable[str]) -> list[str]:
    """Names of the entries of ``root`` that are not in ``used``, sorted; archivers' litter aside."""
    names = {entry.name for entry in root.iterdir() if not entry.name.startswith(".")}
    return sorted(printable(name) for name in names - set(used) - LITTER)


def _order(item_id: str) -> tuple[int, int, str, str]:
    if item_id.isascii() and item_id.isdigit():
        # Numbers of any length: the longer is the greater.
        value = item_id.lstrip("0")
        return (0, len(value), value, item_id)
    return (1, 0, "", item_id)


def _by_column(root: Path, further: Mapping[str, str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for entry in sorted(root.iterdir()):
        archive = _ARCHIVE.search(entry.name)
        if entry.is_dir() or archive:
            stem = entry.name[: archive.start()] if archive and not entry.is_dir() else entry.name
            column = column_of_folder(stem, further)
            if column:
                found.setdefault(column, []).append(entry)
    return found


def _only_folder(folders: list[Path], real_root: str) -> Path:
    _refuse_several(folders)
    if not is_inside(str(folders[0]), real_root):
        raise DatasetError(
            f"{folders[0]} is a link that leads out of {real_root}: refused.",
            hint="Move or mount the media there, or list them in a table: see the dataset 'table' "
            "and its option media_root.",
        )
    return folders[0]


def _only_zip(archives: list[Path]) -> Path:
    volumes = [entry for entry in archives if entry.suffix.lower() != ".zip"]
    if volumes:
        name = _ARCHIVE.sub("", volumes[0].name)
        # A split zip is opened by its .zip, the other kinds by their first volume.
        first = next((entry for entry in archives if entry not in volumes), volumes[0])
        raise DatasetError(
            f"{volumes[0]} is part of a split archive, or an archive of a kind that is not read in place.",
            hint=f"Extract it into a folder {name!r} beside it (7z x {first.name}), "
            "or move it elsewhere to go on without these media.",
        )
    _refuse_several(archives)
    return archives[0]


def _refuse_several(entries: list[Path]) -> None:
    if len(entries) > 1:
        raise DatasetError(
            f"{entries[0].parent} holds several folders or archives of the same kind of media: "
            f"{', '.join(entry.name for entry in entries)}.",
            hint="Keep one dataset per folder.",
        )

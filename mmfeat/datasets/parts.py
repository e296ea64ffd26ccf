"""Parts of a dataset: media in a folder of a known name, and what each part lacks."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from mmfeat.datasets.base import Note, note_of
from mmfeat.datasets.layout import in_order
from mmfeat.datasets.media_files import MediaFiles, folder_media, is_inside, zip_media
from mmfeat.schemas.catalog import Column
from mmfeat.schemas.errors import DatasetError


def named_media(root: Path, name: str, column: Column) -> MediaFiles | None:
    """The files of one column in the folder ``root/name``, else in ``root/name.zip``, else None.

    Raises:
        DatasetError: the folder is a link that leads out of the root, or the archive is damaged.
    """
    folder, archive = inner_folder(root, name), root / f"{name}.zip"
    if folder is not None:
        return folder_media(folder, column, str(root.resolve()))
    return zip_media(archive, column) if archive.is_file() else None


def inner_folder(root: Path, name: str) -> Path | None:
    """The folder ``root/name``; None if there is none.

    Raises:
        DatasetError: it is a link that leads out of the root.
    """
    folder = root / name
    if not folder.is_dir():
        return None
    if not is_inside(str(folder), str(root.resolve())):
        raise DatasetError(
            f"{folder} is a link that leads out of {root}: refused.",
            hint="Move or mount the files there, or list them in a table: see the dataset 'table' "
            "and its option media_root.",
        )
    return folder


def part_notes(ids: list[str], parts: dict[str, Collection[str]]) -> list[Note]:
    """What each part of a dataset lacks, and what it has of items that are not in the catalog."""
    known = set(ids)
    notes = []
    for part, named in parts.items():
        lacking = [item_id for item_id in ids if item_id not in named]
        others = in_order(item_id for item_id in named if item_id not in known)
        code = part.replace(" ", "_")
        notes += note_of("info", f"not_in_{code}", f"items that are not among the {part}", lacking)
        notes += note_of(
            "info", f"other_{code}", f"{part} of items that are not in this dataset: left out", others
        )
    return notes

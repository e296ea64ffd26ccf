"""Any folder of media whose files are named by item id."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmfeat.datasets.base import Dataset, Note, build_items, existing_folder, note_of
from mmfeat.datasets.folder_objects import load_objects
from mmfeat.datasets.layout import MediaParts, in_order, media_parts, unread
from mmfeat.datasets.media_files import EXTENSIONS, MediaFiles, files_in, match_names, split_name
from mmfeat.datasets.titles import read_titles
from mmfeat.schemas.errors import DatasetError

_WHAT = "a folder of media named by item id, or of subfolders covers, videos and audio"
_TITLES = "titles.csv"


def load(root: str | Path | None) -> Dataset:
    """A folder of images, clips or sounds named by item id, and perhaps a titles.csv.

    Media lie in ``root`` itself, each file's extension saying which source it is, or in its
    subfolders or plain zip archives ``covers`` (or ``images``), ``videos`` and ``audio``; where a
    source has both, its subfolder is read. Only a known extension is taken off a name, so
    ``1.5.jpg`` belongs to the item ``1.5``. ``titles.csv`` is read by
    :func:`mmfeat.datasets.titles.read_titles`; an item is whatever a file or a title names. A URL of
    an object store is read the same way, but for archives.

    Raises:
        DatasetError: the folder holds neither media nor titles.
    """
    if isinstance(root, str):
        return load_objects(root)
    folder = existing_folder(root, "folder", _WHAT)
    media = media_parts(folder)
    loose, refused = _loose_media(folder, media)
    files = {**loose, **media.files}
    titles = read_titles(folder / _TITLES) if (folder / _TITLES).is_file() else None
    texts = titles.texts if titles else {}
    ids = in_order({*texts, *(item_id for found in files.values() for item_id in found.locations)})
    if not ids:
        raise DatasetError(f"There are no media in {folder}.", hint=f"--root must be {_WHAT}.")
    columns: dict[str, Mapping[str, str | None]] = {
        source: found.locations for source, found in files.items()
    }
    return Dataset(
        name="folder",
        root=str(folder),
        items=build_items(ids, {**columns, "title": texts}),
        notes=[
            *media.notes(),
            *refused,
            *(note for found in loose.values() for note in found.notes()),
            *(titles.notes() if titles else []),
            *_not_read(folder, media, loose),
        ],
    )


def _loose_media(folder: Path, media: MediaParts) -> tuple[dict[str, MediaFiles], list[Note]]:
    """Media in the folder itself, of the sources that have no subfolder, and what was refused."""
    names, outside = files_in(folder, str(folder.resolve()))
    found = {}
    for source in EXTENSIONS:
        if source not in media.files:
            files = match_names(names, source)
            files.locations = {i: str(folder / name) for i, name in files.locations.items()}
            # Each source looks at every file: what none of them takes is noted once, by the caller.
            files.ignored = []
            found[source] = files
    refused = note_of("error", "outside_root", "files that lead out of the root: refused", outside)
    return found, refused


def _not_read(folder: Path, media: MediaParts, loose: dict[str, MediaFiles]) -> list[Note]:
    names = unread(folder, {*media.used, _TITLES})
    left = [name for name in names if not any(split_name(name, EXTENSIONS[source]) for source in loose)]
    return note_of("info", "not_read", "files and folders that are not read", left)

"""Any folder of media whose files are named by item id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from mmfeat.datasets.base import (
    MAX_EXAMPLES,
    Dataset,
    Note,
    Value,
    build_items,
    existing_folder,
    note_of,
    refusals,
)
from mmfeat.datasets.folder_columns import TITLES, folders_of, no_titles, refuse_lacking, written_in
from mmfeat.datasets.folder_objects import load_objects
from mmfeat.datasets.layout import MediaParts, in_order, media_parts, unread
from mmfeat.datasets.media_files import MediaFiles, files_in, match_names, split_name
from mmfeat.datasets.media_lists import match_lists
from mmfeat.datasets.own_interactions import with_interactions
from mmfeat.datasets.titles import Titles, read_titles
from mmfeat.datasets.zip_names import Telling
from mmfeat.schemas.catalog import USUAL_COLUMNS, Column, usual
from mmfeat.schemas.columns import ColumnConfig, ColumnConfigs
from mmfeat.schemas.errors import DatasetError
from mmfeat.schemas.interactions import InteractionsConfig
from mmfeat.schemas.suffixes import SUFFIXES, loose_suffixes

_WHAT = "a folder of media named by item id, or of subfolders covers, videos and audio"


def load(
    root: str | Path | None,
    *,
    zip_encoding: str | None = None,
    interactions: InteractionsConfig | None = None,
    columns: ColumnConfigs | None = None,
) -> Dataset:
    """A folder of images, clips or sounds named by item id, and perhaps a titles.csv.

    Media lie in ``root`` itself, each file's extension saying which column it is of, or in its
    subfolders or plain zip archives ``covers`` (or ``images``), ``videos`` and ``audio``, there in
    folders of any depth (``covers/2024/01/x1.png`` is the cover of ``x1``); where a
    column has both, its subfolder is read. Only a known extension is taken off a name, so
    ``1.5.jpg`` belongs to the item ``1.5``. ``titles.csv`` is read by
    :func:`mmfeat.datasets.titles.read_titles`; an item is whatever a file or a title names. A URL of
    an object store is read the same way, but for archives.

    Args:
        zip_encoding: of the names in archives that do not say it; told where not given, by the ids of
            ``titles.csv`` if need be.
        interactions: a file of interactions, see :func:`mmfeat.datasets.own_interactions.read_own`.
        columns: further columns. A text or number is the column of that name in ``titles.csv``. Media lie
            in the folder or archive whose name is the column's or ends with it as a word: ``photos`` or
            ``shop_photos.zip``. There an item has the file ``ID.jpg``; or several, which makes the
            column a list: ``ID_1.jpg``, ``ID_2.jpg`` and so on, or whatever is in the folder ``ID``.

    Raises:
        DatasetError: the folder holds neither media nor titles, or nothing of a column that is asked for.
    """
    asked = columns or {}
    clicks = None if interactions is None else Path(interactions.file).expanduser().resolve()
    if isinstance(root, str):
        dataset = load_objects(root, asked)
    else:
        dataset = _on_disk(root, asked, zip_encoding, clicks)
    return with_interactions(dataset, interactions)


def _on_disk(
    root: Path | None, asked: Mapping[str, ColumnConfig], zip_encoding: str | None, clicks: Path | None
) -> Dataset:
    folder = existing_folder(root, "folder", _WHAT)
    called = folders_of(asked)
    titles = _titles(folder, asked)
    media = media_parts(folder, called, Telling(zip_encoding, titles.texts.keys()))
    refuse_lacking(str(folder), called, media.listings, unread(folder, ()))
    loose, refused = _loose_media(folder, media)
    files = {**loose, **media.files}
    known = {*titles.texts, *(item_id for found in files.values() for item_id in found.locations)}
    lists = {
        name: match_lists(listing, Column(name, asked[name].modality), known)
        for name, listing in media.listings.items()
    }
    ids = in_order(known.union(*(found.locations for found in lists.values())))
    if not ids:
        left = ", ".join(unread(folder, media.used)[:MAX_EXAMPLES])
        not_read = f" Not read: {left}." if left else ""
        notes = [*media.notes(), *refused, *(note for found in lists.values() for note in found.notes())]
        raise DatasetError(
            f"There are no media in {folder}.{refusals(notes)}", hint=f"--root must be {_WHAT}.{not_read}"
        )
    values: dict[str, Mapping[str, Value]] = {
        **titles.columns,
        **{name: found.locations for name, found in files.items()},
        **{name: found.locations for name, found in lists.items()},
    }
    further = {**titles.further, **{name: found.column for name, found in lists.items()}}
    return Dataset(
        name="folder",
        root=str(folder),
        items=build_items(ids, values, [further[name] for name in asked]),
        notes=[
            *media.notes(),
            *refused,
            *(note for found in loose.values() for note in found.notes()),
            *(note for found in lists.values() for note in found.notes()),
            *titles.notes(),
            *_not_read(folder, media, loose, clicks),
        ],
    )


def _titles(folder: Path, asked: Mapping[str, ColumnConfig]) -> Titles:
    further = written_in(asked)
    path = folder / TITLES
    if path.is_file():
        return read_titles(path, further)
    return no_titles(str(folder), further)


def _loose_media(folder: Path, media: MediaParts) -> tuple[dict[str, MediaFiles], list[Note]]:
    """Media in the folder itself, of the usual columns that have no subfolder, and what was refused."""
    names, outside = files_in(folder, str(folder.resolve()))
    found = {}
    for column in USUAL_COLUMNS:
        if column.is_media and column.name not in media.files:
            files = match_names(names, column, loose_suffixes(column.modality))
            files.locations = {i: str(folder / name) for i, name in files.locations.items()}
            # Each column looks at every file: what none of them takes is noted once, by the caller.
            files.ignored = []
            found[column.name] = files
    refused = note_of("error", "outside_root", "files that lead out of the root: refused", outside)
    return found, refused


def _not_read(folder: Path, media: MediaParts, loose: Iterable[str], clicks: Path | None) -> list[Note]:
    names = unread(folder, {*media.used, TITLES})
    suffixes = [suffix for column in loose for suffix in SUFFIXES[usual(column).modality]]
    left = [n for n in names if not split_name(n, suffixes) and (folder / n).resolve() != clicks]
    return note_of("info", "not_read", "files and folders that are not read", left)

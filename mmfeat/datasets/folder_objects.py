"""The dataset ``folder`` on an object store, found by listing as on a disk; only titles are opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from mmfeat.datasets.base import Dataset, Value, build_items, note_of
from mmfeat.datasets.folder_columns import TITLES, folders_of, no_titles, refuse_lacking, written_in
from mmfeat.datasets.layout import column_of_folder, in_order
from mmfeat.datasets.media_files import LITTER, MediaFiles, match_names, refuse_folders_of_items, split_name
from mmfeat.datasets.media_lists import Listing, match_lists
from mmfeat.datasets.textfile import decode_text
from mmfeat.datasets.titles import Titles, parse_titles
from mmfeat.schemas.catalog import USUAL_COLUMNS, Column, usual
from mmfeat.schemas.columns import ColumnConfig
from mmfeat.schemas.errors import DatasetError
from mmfeat.schemas.objectstore import OBJECT_STORES, object_place
from mmfeat.schemas.suffixes import SUFFIXES, loose_suffixes

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


@dataclass
class _Found:
    """What lies under a prefix.

    Attributes:
        files: usual column to its media, by their names from the prefix on.
        listings: further column to the files in its folder.
        titles: as read.
        left: names of what is not read.
        folders: names of all folders.
    """

    titles: Titles
    files: dict[str, MediaFiles] = field(default_factory=dict)
    listings: dict[str, Listing] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)


def load_objects(root: str, asked: Mapping[str, ColumnConfig]) -> Dataset:
    """Media named by item id under a prefix or in the prefixes ``covers``, ``videos``, ``audio`` below it.

    Args:
        asked: further columns, read as on a disk.

    Raises:
        DatasetError: a URL of another kind, the store cannot be listed, or nothing is there.
    """
    url = root.rstrip("/")
    scheme = url.partition("://")[0].lower()
    if scheme not in OBJECT_STORES:
        raise DatasetError(
            f"Datasets are not read from {scheme}://.", hint=f"Give a path or one of {_kinds()}."
        )
    try:
        found = _found(url, asked)
    except OSError as error:
        cause = str(error).strip().partition("\n")[0]
        raise DatasetError(
            f"Cannot read {url}: {cause}.",
            hint="Check the URL, and the credentials and the endpoint in the environment.",
        ) from None
    refuse_lacking(url, folders_of(asked), found.listings, found.folders)
    titles = found.titles
    known = {*titles.texts, *(item_id for files in found.files.values() for item_id in files.locations)}
    lists = {
        name: match_lists(listing, Column(name, asked[name].modality), known)
        for name, listing in found.listings.items()
    }
    ids = in_order(known.union(*(files.locations for files in lists.values())))
    if not ids:
        raise DatasetError(
            f"There are no media in {url}.",
            hint="They are named by item id, in it or in its folders covers, videos or audio.",
        )
    values: dict[str, Mapping[str, Value]] = {
        **titles.columns,
        **{
            name: {item_id: f"{url}/{place}" for item_id, place in files.locations.items()}
            for name, files in found.files.items()
        },
        **{name: files.locations for name, files in lists.items()},
    }
    further = {**titles.further, **{name: files.column for name, files in lists.items()}}
    return Dataset(
        name="folder",
        root=url,
        items=build_items(ids, values, [further[name] for name in asked]),
        notes=[
            *(note for files in found.files.values() for note in files.notes()),
            *(note for files in lists.values() for note in files.notes()),
            *titles.notes(),
            *note_of("info", "not_read", "objects and folders that are not read", found.left),
        ],
    )


def _kinds() -> str:
    return ", ".join(f"{kind}://" for kind in OBJECT_STORES)


def _found(url: str, asked: Mapping[str, ColumnConfig]) -> _Found:
    system, path = object_place(url)
    called, texts = folders_of(asked), written_in(asked)
    loose, folders = _names(system, path)
    has_titles = TITLES in loose
    found = _Found(_titles(system, path, texts) if has_titles else no_titles(url, texts), folders=folders)
    for folder in folders:
        name = column_of_folder(folder, called)
        if name is None:
            found.left.append(folder)
        elif name in found.files or name in found.listings:
            raise DatasetError(
                f"{url} holds several folders of the same kind of media.", hint="Keep one dataset per folder."
            )
        elif name in called:
            found.listings[name] = _listing(system, url, f"{path}/{folder}", folder)
        else:
            names = _listing(system, url, f"{path}/{folder}", folder).names
            refuse_folders_of_items(names, usual(name), found.titles.texts.keys())
            found.files[name] = match_names((f"{folder}/{own}" for own in names), usual(name))
    columns = [column for column in USUAL_COLUMNS if column.is_media and column.name not in found.files]
    for column in columns:
        found.files[column.name] = match_names(loose, column, loose_suffixes(column.modality))
        # Each column looks at every object: what none of them takes is noted once, below.
        found.files[column.name].ignored = []
    suffixes = [suffix for column in columns for suffix in SUFFIXES[column.modality]]
    found.left += [name for name in loose if name != TITLES and not split_name(name, suffixes)]
    found.left.sort()
    return found


def _listing(system: FileSystem, url: str, path: str, folder: str) -> Listing:
    """The objects in a folder and in its folders."""
    from pyarrow import fs

    # One listing for all items' folders: there may be a million.
    found = system.get_file_info(fs.FileSelector(path, recursive=True))
    inside = (info.path.removeprefix(f"{path}/") for info in found if info.type == fs.FileType.File)
    names = (name for name in inside if LITTER.isdisjoint(name.split("/")) and "/." not in f"/{name}")
    return Listing(sorted(names), lambda name: f"{url}/{folder}/{name}")


def _names(system: FileSystem, path: str) -> tuple[list[str], list[str]]:
    """Names of the objects and of the folders in a folder, sorted."""
    from pyarrow import fs

    found = system.get_file_info(fs.FileSelector(path))
    kept = [info for info in found if info.base_name not in LITTER and not info.base_name.startswith(".")]
    return (
        sorted(info.base_name for info in kept if info.type == fs.FileType.File),
        sorted(info.base_name for info in kept if info.type == fs.FileType.Directory),
    )


def _titles(system: FileSystem, path: str, further: Mapping[str, ColumnConfig]) -> Titles:
    place = f"{path}/{TITLES}"
    with system.open_input_stream(place) as file:
        return parse_titles(decode_text(file.read(), place), PurePosixPath(place), further)

"""The dataset ``folder`` on an object store, found by listing as on a disk; only titles are opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from mmfeat.datasets.base import Dataset, build_items, note_of
from mmfeat.datasets.layout import in_order, source_of_folder
from mmfeat.datasets.media_files import EXTENSIONS, LITTER, MediaFiles, match_names, split_name
from mmfeat.datasets.textfile import decode_text
from mmfeat.datasets.titles import Titles, parse_titles
from mmfeat.schemas.errors import DatasetError
from mmfeat.schemas.objectstore import OBJECT_STORES, object_place

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_TITLES = "titles.csv"


def load_objects(root: str) -> Dataset:
    """Media named by item id under a prefix or in the prefixes ``covers``, ``videos``, ``audio`` below it.

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
        files, titles, left = _listed(url)
    except OSError as error:
        cause = str(error).strip().partition("\n")[0]
        raise DatasetError(
            f"Cannot read {url}: {cause}.",
            hint="Check the URL, and the credentials and the endpoint in the environment.",
        ) from None
    texts = titles.texts if titles else {}
    ids = in_order({*texts, *(item_id for found in files.values() for item_id in found.locations)})
    if not ids:
        raise DatasetError(
            f"There are no media in {url}.",
            hint="They are named by item id, in it or in its folders covers, videos or audio.",
        )
    columns: dict[str, Mapping[str, str | None]] = {
        source: {item_id: f"{url}/{name}" for item_id, name in found.locations.items()}
        for source, found in files.items()
    }
    return Dataset(
        name="folder",
        root=url,
        items=build_items(ids, {**columns, "title": texts}),
        notes=[
            *(note for found in files.values() for note in found.notes()),
            *(titles.notes() if titles else []),
            *note_of("info", "not_read", "objects and folders that are not read", left),
        ],
    )


def _kinds() -> str:
    return ", ".join(f"{kind}://" for kind in OBJECT_STORES)


def _listed(url: str) -> tuple[dict[str, MediaFiles], Titles | None, list[str]]:
    """The media of each source (names from ``url`` on), the titles, and the names of what is not read."""
    system, path = object_place(url)
    loose, folders = _names(system, path)
    files: dict[str, MediaFiles] = {}
    left = []
    for folder in folders:
        source = source_of_folder(folder)
        if source is None:
            left.append(folder)
            continue
        if source in files:
            raise DatasetError(
                f"{url} holds several folders of the same kind of media.", hint="Keep one dataset per folder."
            )
        files[source] = match_names((f"{folder}/{n}" for n in _names(system, f"{path}/{folder}")[0]), source)
    sources = [source for source in EXTENSIONS if source not in files]
    for source in sources:
        files[source] = match_names(loose, source)
        # Each source looks at every object: what none of them takes is noted once, below.
        files[source].ignored = []
    left += [n for n in loose if n != _TITLES and not any(split_name(n, EXTENSIONS[s]) for s in sources)]
    return files, _titles(system, path) if _TITLES in loose else None, sorted(left)


def _names(system: FileSystem, path: str) -> tuple[list[str], list[str]]:
    """Names of the objects and of the folders in a folder, sorted."""
    from pyarrow import fs

    found = system.get_file_info(fs.FileSelector(path))
    kept = [info for info in found if info.base_name not in LITTER and not info.base_name.startswith(".")]
    return (
        sorted(info.base_name for info in kept if info.type == fs.FileType.File),
        sorted(info.base_name for info in kept if info.type == fs.FileType.Directory),
    )


def _titles(system: FileSystem, path: str) -> Titles:
    place = f"{path}/{_TITLES}"
    with system.open_input_stream(place) as file:
        return parse_titles(decode_text(file.read(), place), PurePosixPath(place))

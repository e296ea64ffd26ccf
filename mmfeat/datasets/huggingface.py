"""A dataset of Hugging Face's on disk: as the library `datasets` saves it, or as Parquet files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from mmfeat.datasets.base import Dataset, existing_root
from mmfeat.datasets.locations import Locator
from mmfeat.datasets.media_files import is_inside
from mmfeat.datasets.own_interactions import with_interactions
from mmfeat.datasets.rows import joined, read_columns
from mmfeat.datasets.table import dataset_of, existing_media_root
from mmfeat.datasets.textfile import read_text
from mmfeat.schemas.columns import ColumnConfigs
from mmfeat.schemas.errors import DatasetError
from mmfeat.schemas.interactions import InteractionsConfig

_WHAT = "a folder that Dataset.save_to_disk wrote, a Parquet file, or a folder of Parquet files"
# What ``datasets`` writes into the folder of a dataset, and into that of a DatasetDict (its arrow_dataset.py
# and dataset_dict.py).
_STATE, _SPLITS = "state.json", "dataset_dict.json"
# Of a shard: train-00000-of-00003.parquet, with or without a hash at its end (its data_files.py).
_SHARD = re.compile(r"(?P<split>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})(-[0-9a-f]+)?")


def load(
    root: Path | None,
    *,
    split: str | None = None,
    id: str | None = None,
    title: str | None = None,
    description: str | None = None,
    cover: str | None = None,
    video: str | None = None,
    audio: str | None = None,
    media_root: Path | None = None,
    fields: Literal["all"] | None = None,
    interactions: InteractionsConfig | None = None,
    columns: ColumnConfigs | None = None,
) -> Dataset:
    """A Hugging Face dataset on disk: saved with save_to_disk, or Parquet files, media included.

    Everything is as in the dataset ``table``: how columns are found, what counts as none, what is refused.
    Pictures, clips and sounds are read from the cells that hold them. The library ``datasets`` is not
    needed. Rows are in the order of the files. A row that comes in several splits is taken once; one that has
    files in its cells is refused, for these are not compared.

    Args:
        root: the folder, or a Parquet file. The split of a file is what ``-00000-of-00003`` follows in its
            name, else the folder that it is in.
        split: the only split to read; all of them where not given.
        id, title, description, cover, video, audio, fields, columns: as in the dataset ``table``.
        interactions: a file of interactions, see :func:`mmfeat.datasets.own_interactions.read_own`. It may
            be in ``root`` and is no part of the dataset then.
        media_root: folder that paths without a file in the cell start from and must not leave; ``root``
            where not given.

    Raises:
        DatasetError: there is no such dataset or split, a shard is missing or damaged, splits have other
            columns; or as in the dataset ``table``.
    """
    path = existing_root(root, "huggingface", _WHAT)
    clicks = None if interactions is None else Path(interactions.file).expanduser().resolve()
    files = _files_of(path, _splits(path, clicks), split)
    folder = path if path.is_dir() else path.parent
    locator = Locator(folder if media_root is None else existing_media_root(media_root))
    given = {
        "id": id,
        "title": title,
        "description": description,
        "cover": cover,
        "video": video,
        "audio": audio,
    }
    table = joined(path, [read_columns(file) for file in files])
    dataset = dataset_of("huggingface", path, table, locator, given, columns or {}, fields)
    return with_interactions(dataset, interactions)


def _files_of(path: Path, splits: Mapping[str, list[Path]], split: str | None) -> list[Path]:
    """The files of one split, or of all."""
    if split is not None and split not in splits:
        there = ", ".join(filter(None, splits)) or "none"
        raise DatasetError(
            f"{path} has no split {split!r}.", hint=f"It has: {there}. All are read without one."
        )
    return [file for name, files in splits.items() if split in (None, name) for file in files]


def _splits(path: Path, other: Path | None) -> dict[str, list[Path]]:
    """Split to its files in their order; ``other`` is none of them."""
    if path.is_file():
        if path.suffix.lower() != ".parquet":
            raise DatasetError(f"{path} is not a Parquet file.", hint=f"--root must be {_WHAT}.")
        return {_split_of(path, path.parent): [path]}
    if (path / _STATE).is_file():
        return {"": _saved(path, path)}
    if (path / _SPLITS).is_file():
        names = _json(path / _SPLITS).get("splits")
        return {name: _saved(path / name, path) for name in _names(path / _SPLITS, names)}
    found = _in_splits(path, other)
    if not found:
        raise DatasetError(f"There is no Hugging Face dataset in {path}.", hint=f"--root must be {_WHAT}.")
    return found


def _saved(folder: Path, root: Path) -> list[Path]:
    """The Arrow files that a folder's state names."""
    place = folder / _STATE
    state = _json(place)
    if state.get("_indices_data_files"):
        raise DatasetError(
            f"{folder} was saved with an index of its rows, as old versions of datasets did.",
            hint="Load it, call flatten_indices() and save it again.",
        )
    listed = state.get("_data_files")
    entries = listed if isinstance(listed, list) else []
    names = [one.get("filename") for one in entries if isinstance(one, dict)]
    files = [folder / name for name in _names(place, names)]
    for file in files:
        # A state may come from a stranger.
        if file.suffix != ".arrow":
            raise DatasetError(f"{place} names {file}, which is no Arrow file: refused.")
        _refuse_outside(file, root)
        if not file.is_file():
            raise DatasetError(f"There is no {file}.", hint="Copy the whole folder, or save it again.")
    return files


def _refuse_outside(file: Path, root: Path) -> None:
    """DatasetError for a file that lies elsewhere, links followed.

    In the cache of huggingface_hub a snapshot is a folder of links into ``blobs`` beside ``snapshots``.
    """
    repository = root.parent.parent
    cached = root.parent.name == "snapshots" and (repository / "blobs").is_dir()
    if not is_inside(str(file), str((repository if cached else root).resolve())):
        raise DatasetError(
            f"{file} leads out of {root}: refused.", hint="Copy the dataset with its files: cp -rL."
        )


def _in_splits(root: Path, other: Path | None) -> dict[str, list[Path]]:
    """The Parquet files below a folder, but ``other``, by their split, each split whole."""
    found: dict[str, list[Path]] = {}
    for file in sorted(root.rglob("*.parquet")):
        if file.is_file() and file.resolve() != other:
            _refuse_outside(file, root)
            found.setdefault(_split_of(file, root), []).append(file)
    for split, files in found.items():
        _refuse_gaps(split, files)
    return found


def _refuse_gaps(split: str, files: Iterable[Path]) -> None:
    """DatasetError where a file says of how many it is one, and another of these is not there."""
    shards = [found for file in files if (found := _SHARD.fullmatch(file.stem))]
    there = {int(shard["number"]) for shard in shards}
    lacking = [n for shard in shards[:1] for n in range(int(shard["count"])) if n not in there]
    if lacking:
        raise DatasetError(
            f"Of the split {split!r} {len(lacking)} of {shards[0]['count'].lstrip('0')} files are not there, "
            f"among them number {lacking[0]:05}.",
            hint="Download the dataset whole.",
        )


def _split_of(file: Path, root: Path) -> str:
    shard = _SHARD.fullmatch(file.stem)
    if shard:
        return shard["split"]
    return file.parent.name if file.parent != root else file.stem


def _names(place: Path, names: Any) -> list[str]:
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise DatasetError(f"{place} does not list what there is.", hint="Save the dataset again.")
    return names


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is not JSON: {error}.", hint="Save the dataset again.") from None
    return found if isinstance(found, dict) else {}

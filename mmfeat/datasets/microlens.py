"""The dataset MicroLens in the layout of its 50k, 100k and 1M releases."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.datasets.base import Dataset, Note, Value, build_items, existing_folder, note_of
from mmfeat.datasets.delimited import first_row, first_values, read_delimited, with_ids
from mmfeat.datasets.layout import in_order, media_parts, unread
from mmfeat.datasets.pairs import read_pairs
from mmfeat.datasets.titles import read_titles
from mmfeat.schemas.catalog import NUMBER, Column
from mmfeat.schemas.errors import DatasetError

_WHAT = "the folder of one MicroLens release, with *_titles.csv, *_pairs.csv, *_covers and the like"
_TITLES = re.compile(r"(^|_)titles?(_[a-z]+)?\.csv$", re.IGNORECASE)
_PAIRS = re.compile(r"(^|_)pairs\.(csv|tsv)$", re.IGNORECASE)
_COUNTS = re.compile(r"(^|_)likes_and_views\.txt$", re.IGNORECASE)
_TAGS = re.compile(r"(^|_)tags_to_summary\.csv$", re.IGNORECASE)
_FIELDS = (Column("category", "text"), Column("likes", NUMBER), Column("views", NUMBER))


def load(root: Path | None, *, titles: str | None = None) -> Dataset:
    """MicroLens 50k, 100k or 1M: titles, covers, videos, audio and interactions.

    Any one part is enough to start. An item is whatever any part names, because every part of the
    releases lacks some: a recommender needs a row for each item of the interactions, and an item
    nobody interacted with yet can still be encoded. Notes say how many items each part lacks.

    Read from ``root``, with or without a prefix such as ``MicroLens-50k_``:

    - ``titles.csv``, ``title_en.csv`` and the like, see :func:`mmfeat.datasets.titles.read_titles`;
    - ``pairs.csv`` (``user,item,timestamp`` with header), else ``pairs.tsv``;
    - ``tags_to_summary.csv`` (``id,category``) and ``likes_and_views.txt`` (``item<TAB>likes<TAB>views``
      without a header): the fields ``category``, ``likes`` and ``views`` of items that are in other parts;
    - ``covers``, ``videos``, ``audio``: folders of ``{id}.jpg`` and so on, or plain zip archives.

    Args:
        root: the release's folder.
        titles: name of the titles file, where the folder holds several.

    Raises:
        DatasetError: no part of MicroLens is there, or a part is not as it should be.
    """
    folder = existing_folder(root, "microlens", _WHAT)
    titles_file = _titles_file(folder, titles)
    pairs_files = _pairs_files(folder)
    media = media_parts(folder)
    if titles_file is None and not pairs_files and not media.files:
        raise DatasetError(f"There is nothing of MicroLens in {folder}.", hint=_hint(folder))
    texts = read_titles(titles_file) if titles_file else None
    interactions, pairs_notes = read_pairs(pairs_files[0]) if pairs_files else (None, [])
    fields_files, fields, fields_notes = _fields(folder)
    columns: dict[str, Mapping[str, str | None]] = {
        name: files.locations for name, files in media.files.items()
    }
    if texts is not None:
        columns["title"] = texts.texts
    seen = [] if interactions is None else pc.unique(interactions["item_id"]).to_pylist()
    ids = in_order({*seen, *(item_id for column in columns.values() for item_id in column)})
    used = {*media.used, *(path.name for path in (titles_file, *pairs_files, *fields_files) if path)}
    return Dataset(
        name="microlens",
        root=str(folder),
        items=build_items(ids, {**columns, **fields}, [one for one in _FIELDS if one.name in fields]),
        interactions=interactions,
        notes=[
            *(texts.notes() if texts else []),
            *pairs_notes,
            *fields_notes,
            *media.notes(),
            *_coverage_notes(ids, columns),
            *note_of("info", "not_read", "files and folders that are not read", unread(folder, used)),
        ],
    )


def _titles_file(folder: Path, name: str | None) -> Path | None:
    if name is not None:
        if not (folder / name).is_file():
            raise DatasetError(f"There is no titles file {name!r} in {folder}.")
        return folder / name
    found = _matching(folder, _TITLES)
    if len(found) > 1:
        raise DatasetError(
            f"{folder} holds several titles files: {', '.join(path.name for path in found)}.",
            hint=f"Name one: --option titles={found[0].name}.",
        )
    return found[0] if found else None


def _pairs_files(folder: Path) -> list[Path]:
    """The interactions files, the one with times first."""
    found = _matching(folder, _PAIRS)
    if len({path.stem for path in found}) > 1:
        raise DatasetError(
            f"{folder} holds the interactions of several datasets: {', '.join(path.name for path in found)}.",
            hint="Keep one dataset per folder.",
        )
    return sorted(found, key=lambda path: path.suffix.lower() == ".tsv")


def _fields(folder: Path) -> tuple[list[Path], dict[str, dict[str, Value]], list[Note]]:
    """The files of fields, the fields by item, and notes."""
    tags, counts = _matching(folder, _TAGS), _matching(folder, _COUNTS)
    fields: dict[str, dict[str, Value]] = {}
    notes: list[Note] = []
    for path in tags:
        # Copies with and without a header are about.
        names = None if "category" in first_row(path, ",") else ["id", "category"]
        notes += _add_fields(fields, path, "id", names, ",", _FIELDS[:1])
    for path in counts:
        notes += _add_fields(fields, path, "item", ["item", "likes", "views"], "\t", _FIELDS[1:])
    return [*tags, *counts], fields, notes


def _add_fields(
    fields: dict[str, dict[str, Value]],
    path: Path,
    item: str,
    names: list[str] | None,
    delimiter: str,
    columns: Sequence[Column],
) -> list[Note]:
    """Reads ``columns`` of a file into ``fields``; notes on what was odd.

    Args:
        item: the column of ids.
        names: of all columns, where the file has no header.
    """
    types = dict.fromkeys([item, *(one.name for one in columns)], pa.string())
    try:
        table, odd = read_delimited(path, types, names, delimiter)
    except DatasetError as error:
        # Nobody asked for the fields: what is wrong with them keeps nothing else from being read.
        return [Note("warning", "unread_fields", f"the fields of {path.name} are not read: {error.message}")]
    named, lacking = with_ids(table, item, path.name)
    unusable: list[str] = []
    for one in columns:
        fields[one.name], bad = first_values(named, item, one.name, one.modality == NUMBER)
        unusable += bad
    message = f"cells of {path.name} that hold no number: read as none"
    return [*odd, *lacking, *note_of("warning", "unusable_cell", message, unusable)]


def _matching(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    return sorted(path for path in folder.iterdir() if pattern.search(path.name) and path.is_file())


def _hint(folder: Path) -> str:
    for inner in sorted(folder.iterdir()):
        if inner.is_dir() and (_matching(inner, _TITLES) or _matching(inner, _PAIRS)):
            return f"Did you mean --root {inner}?"
    return f"--root must be {_WHAT}."


def _coverage_notes(ids: Iterable[str], columns: Mapping[str, Mapping[str, str | None]]) -> list[Note]:
    """What items lack of the parts that are there, and ids that look wrong."""
    having = {source: {i for i, value in column.items() if value} for source, column in columns.items()}
    notes = []
    for source, those in having.items():
        without = [i for i in ids if i not in those]
        notes += note_of("info", f"no_{source}", f"items without {source}", without)
    bare = [i for i in ids if not any(i in those for those in having.values())]
    # In a file without quotes, a title that runs over two lines looks like one more item.
    odd = [i for i in ids if not (i.isascii() and i.isdigit())]
    return [
        *notes,
        *note_of("warning", "nothing_to_encode", "items that have interactions or an id alone", bare),
        *note_of("warning", "odd_id", "item ids that are not numbers, unlike MicroLens's", odd),
    ]

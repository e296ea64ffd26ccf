"""Any table of items: one row per item, with columns for its texts and the places of its media."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmfeat.datasets.base import MAX_EXAMPLES, Dataset, Note, build_items, existing_root, note_of
from mmfeat.datasets.locations import Locator
from mmfeat.datasets.rows import ColumnError, Columns, read_columns
from mmfeat.datasets.textfile import text_or_none
from mmfeat.schemas.catalog import MEDIA_SOURCES
from mmfeat.schemas.errors import DatasetError

_WHAT = "a table file: .csv, .tsv, .jsonl, .ndjson or .parquet"
# Column names that are looked for where none is given; case does not matter, the first one wins.
_DEFAULTS = {
    "id": ("item_id", "id", "item", "itemid", "asin", "parent_asin"),
    "title": ("title", "name"),
    "description": ("description",),
    "cover": ("cover", "cover_path", "cover_url", "image", "image_path", "image_url", "imurl"),
    "video": ("video", "video_path", "video_url"),
    "audio": ("audio", "audio_path", "audio_url"),
}

_SURROGATE = re.compile("[\ud800-\udfff]")


def load(
    root: Path | None,
    *,
    id: str | None = None,
    title: str | None = None,
    description: str | None = None,
    cover: str | None = None,
    video: str | None = None,
    audio: str | None = None,
    media_root: Path | None = None,
) -> Dataset:
    """A table of items (CSV, TSV, JSON lines or Parquet) with texts and paths or URLs of media.

    Ids are strings exactly as written. Blank texts and places count as none. A row that repeats
    another one is noted and taken once. CSV and TSV have a header and quote a value that holds a
    delimiter, a quote or a line break.

    Args:
        root: the table file; items keep the order of its rows.
        id, title, description, cover, video, audio: names of the columns; where not given, usual
            names are looked for (``item_id`` or ``id``, ``title``, ``image``, ``image_url``, ...).
        media_root: folder that paths start from and must not leave, symbolic links followed; the
            table's folder where not given. ``/`` lets the table name any file of this machine.

    Raises:
        DatasetError: the file is not such a table, a named column is not there or holds neither
            text nor whole numbers, a row has no id, or rows of one id differ.
    """
    path = existing_root(root, "table", _WHAT)
    if not path.is_file():
        raise DatasetError(f"{path} is not a file.", hint=f"--root must be {_WHAT}.")
    locator = Locator(path.parent if media_root is None else _media_root(media_root))
    table = read_columns(path)
    given = {
        "id": id,
        "title": title,
        "description": description,
        "cover": cover,
        "video": video,
        "audio": audio,
    }
    chosen = _choose(path, table, given)
    if "id" not in chosen:
        raise DatasetError(
            f"{path} has no column of item ids; its columns are: {', '.join(table.names)}.",
            hint="Name it: --option id=COLUMN.",
        )
    values, notes = _read(path, table, chosen, given)
    ids = _checked_ids(path, values.pop("id"))
    first_rows, repeated = _first_rows(path, ids, values)
    columns: dict[str, Mapping[str, str | None]] = {}
    for source, texts in values.items():
        kept = {item_id: text_or_none(texts[row]) for item_id, row in first_rows.items()}
        if source in MEDIA_SOURCES:
            columns[source] = {i: place for i, v in kept.items() if v and (place := locator.locate(v))}
        else:
            columns[source] = kept
    return Dataset(
        name="table",
        root=str(path),
        items=build_items(first_rows, columns),
        notes=[
            *notes,
            *note_of("info", "repeated_row", "rows that repeat another: taken once", repeated),
            *locator.notes(),
        ],
    )


def _media_root(folder: Path) -> Path:
    path = folder.expanduser().absolute()
    if not path.is_dir():
        raise DatasetError(
            f"media_root {folder} is not a folder.", hint="Give the folder that paths start from."
        )
    return path


def _choose(path: Path, table: Columns, given: Mapping[str, str | None]) -> dict[str, str]:
    """The column of each role, for the roles that have one."""
    by_lower = {name.lower(): name for name in reversed(table.names)}
    chosen = {}
    for role, name in given.items():
        if name is None:
            usual = [by_lower[n] for n in _DEFAULTS[role] if n in by_lower]
            if usual:
                chosen[role] = usual[0]
        elif name in table.names:
            chosen[role] = name
        else:
            raise DatasetError(
                f"{path} has no column {name!r} for {role}.", hint=f"It has: {', '.join(table.names)}."
            )
    return chosen


def _read(
    path: Path, table: Columns, chosen: Mapping[str, str], given: Mapping[str, str | None]
) -> tuple[dict[str, list[str | None]], list[Note]]:
    """The values of every role, and what each was read from."""
    values, unusable, broken = {}, [], []
    for role, column in chosen.items():
        try:
            texts = table.read(column)
        except ColumnError as error:
            if role == "id" or given[role] is not None:
                raise DatasetError(
                    f"{path}: the column {column!r} cannot be the {role}: {error}.",
                    hint=f"Name another: --option {role}=COLUMN.",
                ) from None
            # Nobody asked for a column that only happens to have a usual name.
            unusable.append(f"{column}: {error}")
            continue
        values[role] = [_encodable(text) for text in texts]
        broken += [
            f"{column}, row {n}"
            for n, (a, b) in enumerate(zip(texts, values[role], strict=True), 1)
            if a != b
        ]
    read = [f"{role} from {chosen[role]}" for role in values]
    return values, [
        *note_of("info", "columns", "columns that are read", read),
        *note_of(
            "warning", "unusable_column", "columns with a usual name that are no texts: not read", unusable
        ),
        *note_of("warning", "broken_text", "texts with half a character: shown as U+FFFD", broken),
    ]


def _encodable(text: str | None) -> str | None:
    """The text with U+FFFD for lone surrogates, which JSON escapes can hold and UTF-8 cannot."""
    return _SURROGATE.sub("\ufffd", text) if text else text


def _checked_ids(path: Path, ids: Sequence[str | None]) -> list[str]:
    lacking = [f"row {n}" for n, item_id in enumerate(ids, start=1) if not text_or_none(item_id)]
    if lacking:
        raise DatasetError(
            f"{path}: {len(lacking)} rows have no id: {_some(lacking)}.",
            hint="Give each row one, or remove it.",
        )
    return [item_id for item_id in ids if item_id]


def _first_rows(
    path: Path, ids: Sequence[str], values: Mapping[str, Sequence[str | None]]
) -> tuple[dict[str, int], list[str]]:
    """Each id's first row, and the ids of rows that repeat one."""
    first: dict[str, int] = {}
    repeated: list[str] = []
    clashing: list[str] = []
    for row, item_id in enumerate(ids):
        kept = first.setdefault(item_id, row)
        if kept != row:
            same = all(column[kept] == column[row] for column in values.values())
            (repeated if same else clashing).append(item_id)
    if clashing:
        raise DatasetError(
            f"{path}: rows of one id differ: {_some(list(dict.fromkeys(clashing)))}.",
            hint="Keep one row per item, or name the column that tells the items apart: --option id=COLUMN.",
        )
    return first, repeated


def _some(things: Sequence[str]) -> str:
    return ", ".join(things[:MAX_EXAMPLES]) + (", ..." if len(things) > MAX_EXAMPLES else "")

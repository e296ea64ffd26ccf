"""Any table of items: one row per item, with columns for its texts and the places of its media."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from mmfeat.datasets.base import MAX_EXAMPLES, Dataset, Value, build_items, existing_root, note_of
from mmfeat.datasets.cells import uniform
from mmfeat.datasets.locations import Locator
from mmfeat.datasets.own_interactions import with_interactions
from mmfeat.datasets.rows import CUT_WRONGLY, ColumnError, Columns, read_columns
from mmfeat.datasets.textfile import text_or_none
from mmfeat.schemas.catalog import ITEM_ID, NUMBER, USUAL_COLUMNS, Column, usual
from mmfeat.schemas.columns import ColumnConfig, ColumnConfigs
from mmfeat.schemas.errors import DatasetError
from mmfeat.schemas.interactions import InteractionsConfig
from mmfeat.schemas.validation import near

_WHAT = "a table file: .csv, .tsv, .jsonl, .ndjson or .parquet"
# Column names that are looked for if none is given; case does not matter, the first one wins.
_DEFAULTS = {
    "id": ("item_id", "id", "item", "itemid", "asin", "parent_asin"),
    "title": ("title", "name"),
    "description": ("description",),
    "cover": ("cover", "cover_path", "cover_url", "image", "image_path", "image_url", "imurl"),
    "video": ("video", "video_path", "video_url"),
    "audio": ("audio", "audio_path", "audio_url"),
}

# Names of a catalog's own columns: another column of the file may have been taken for one of them.
_RESERVED = {ITEM_ID, *(column.name for column in USUAL_COLUMNS)}

_UNUSABLE = "columns with a usual name that are no texts: not read"
_UNUSABLE_CELL = "cells that hold no text, or no number where one is asked for: read as none"
_BROKEN = "texts with half a character: shown as U+FFFD"
_NO_FIELD = "columns that are no fields: neither texts nor numbers, or of a name that no column can have"
_LISTS = "it holds lists of files, which are read where the column is named under [dataset.columns]"
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
    delimiter: str | None = None,
    fields: Literal["all"] | None = None,
    interactions: InteractionsConfig | None = None,
    columns: ColumnConfigs | None = None,
) -> Dataset:
    """A table of items (CSV, TSV, JSON lines or Parquet) with texts and paths or URLs of media.

    Ids are strings exactly as written. Blank texts and places count as none, and so does a cell that holds
    no text, which is noted by item. A row that repeats another one is noted and taken once. CSV and TSV
    have a header and quote a value that holds a delimiter, a quote or a line break. Media may also be
    cells of Parquet: files as they are, or ``struct<bytes, path>``.

    Args:
        root: the table file; items keep the order of its rows.
        id, title, description, cover, video, audio: names of the columns; if not given, usual
            names are looked for (``item_id`` or ``id``, ``title``, ``image``, ``image_url``, ...),
            but for those that ``columns`` reads.
        media_root: folder that paths start from and must not leave, symbolic links followed; the
            table's folder where not given. ``/`` lets the table name any file of this machine.
        delimiter: between the cells of CSV and TSV; told from the header and the first rows where not given.
        interactions: a file of interactions, see :func:`mmfeat.datasets.own_interactions.read_own`.
        fields: ``all`` reads every other column of texts or numbers too, under its own name; only those that
            ``columns`` names where not given.
        columns: further columns to read. One of texts or media is a list where any of its cells is: a list
            of JSON lines or Parquet, or in CSV and TSV a JSON array of texts.

    Raises:
        DatasetError: the file is not such a table, a named column is not there or holds neither
            text nor whole numbers, a column that is read is there twice, a row has no id, or rows of one id
            differ.
    """
    path = existing_root(root, "table", _WHAT)
    if not path.is_file():
        raise DatasetError(f"{path} is not a file.", hint=f"--root must be {_WHAT}.")
    locator = Locator(path.parent if media_root is None else existing_media_root(media_root))
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise DatasetError(f"{delimiter!r} cannot be a delimiter.", hint="Give one character, such as ';'.")
    given = {
        "id": id,
        "title": title,
        "description": description,
        "cover": cover,
        "video": video,
        "audio": audio,
    }
    table = read_columns(path, delimiter)
    dataset = dataset_of("table", path, table, locator, given, columns or {}, fields)
    return with_interactions(dataset, interactions)


def dataset_of(
    name: str,
    path: Path,
    table: Columns,
    locator: Locator,
    given: Mapping[str, str | None],
    asked: Mapping[str, ColumnConfig],
    fields: Literal["all"] | None,
) -> Dataset:
    """The dataset that a table of items holds.

    Args:
        name: of the adapter.
        path: of the table, for what is said of it.
        locator: takes or refuses the places of media that the table names.
        given: ``id`` and the usual columns to the names that they have in the table; None to look for them.
        asked: further columns.
        fields: whether all other columns of texts or numbers are asked for too.

    Raises:
        DatasetError: as :func:`load`, of the table's content.
    """
    chosen = _choose(path, table, given, {config.source(name) for name, config in asked.items()})
    if "id" not in chosen:
        raise DatasetError(
            f"{path} has no column of item ids; its columns are: {', '.join(table.names)}.",
            hint=f"Name it: --option id=COLUMN. {CUT_WRONGLY}",
        )
    left: list[str] = []
    if fields == "all":
        others, left = _others(table, {*chosen.values(), *(config.source(n) for n, config in asked.items())})
        asked = {**asked, **{name: config for name, config in others.items() if name not in asked}}
    read = _Reader(path, table, locator)
    values = read.roles(chosen, given)
    ids = _checked_ids(path, [cell if isinstance(cell, str) else None for cell in values.pop("id")])
    values |= read.further(asked)
    first_rows, repeated = _first_rows(path, ids, values)
    found = {column: usual(column) for column in values if column not in asked}
    cells: dict[str, dict[str, Value]] = {}
    for column, rows in values.items():
        kept = [rows[row] for row in first_rows.values()]
        if column in asked:
            kept, several = uniform(kept)
            found[column] = Column(column, asked[column].modality, several)
        if found[column].is_media and column not in read.located:
            kept = [_located(locator, cell) for cell in kept]
        cells[column] = dict(zip(first_rows, kept, strict=True))
    return Dataset(
        name=name,
        root=str(path),
        items=build_items(first_rows, cells, [found[column] for column in asked]),
        notes=[
            *note_of("info", "columns", "columns that are read", _sources(chosen, values, asked)),
            *note_of("info", "no_field", _NO_FIELD, left),
            *table.notes,
            *note_of("warning", "unusable_column", _UNUSABLE, read.unusable),
            *note_of("warning", "unusable_cell", _UNUSABLE_CELL, read.unusable_cells(ids)),
            *note_of("warning", "broken_text", _BROKEN, read.broken),
            *note_of("info", "repeated_row", "rows that repeat another: taken once", repeated),
            *locator.notes(),
        ],
    )


def existing_media_root(folder: Path) -> Path:
    """``media_root`` as an absolute path; DatasetError where it is no folder."""
    path = folder.expanduser().absolute()
    if not path.is_dir():
        raise DatasetError(
            f"media_root {folder} is not a folder.", hint="Give the folder that paths start from."
        )
    return path


def _choose(path: Path, table: Columns, given: Mapping[str, str | None], asked: set[str]) -> dict[str, str]:
    """The column of each role, for the roles that have one.

    Args:
        asked: columns that are read under names of their own: of them only the ids are read once more.
    """
    by_lower = {name.strip().lower(): name for name in reversed(table.names)}
    chosen = {}
    for role, name in given.items():
        if name is None:
            known = [by_lower[n] for n in _DEFAULTS[role] if n in by_lower]
            free = [n for n in known if role == "id" or n not in asked]
            if free:
                chosen[role] = free[0]
        elif name in table.names:
            chosen[role] = name
        else:
            raise _no_column(path, table, name, f" for {role}")
    return chosen


def _others(table: Columns, taken: set[str]) -> tuple[dict[str, ColumnConfig], list[str]]:
    """The columns that are not ``taken`` as fields of their own names, and those that cannot be fields."""
    fields: dict[str, ColumnConfig] = {}
    left = []
    for name in (name for name in table.names if name not in taken):
        kind = table.kind(name) if name.isidentifier() and name not in _RESERVED else None
        if kind is None:
            left.append(name)
        else:
            fields[name] = ColumnConfig.model_validate(kind)
    return fields, left


def _no_column(path: Path, table: Columns, name: str, role: str) -> DatasetError:
    return DatasetError(
        f"{path} has no column {name!r}{role}.",
        hint=f"{near(name, table.names)}It has: {', '.join(table.names)}.",
    )


class _Reader:
    """Reads the columns of a table that are wanted.

    Attributes:
        located: names of columns whose values are locations already: of files in the table itself.
        unusable: columns that nobody asked for and that hold no texts.
        broken: places of texts with half a character.
    """

    def __init__(self, path: Path, table: Columns, locator: Locator) -> None:
        self._path, self._table, self._locator = path, table, locator
        self.located: set[str] = set()
        self.unusable: list[str] = []
        self.broken: list[str] = []
        self._troubles: list[tuple[str, int, str]] = []

    def roles(self, chosen: Mapping[str, str], given: Mapping[str, str | None]) -> dict[str, list[Value]]:
        """The values of every role that has a column of texts or of files."""
        values: dict[str, list[Value]] = {}
        for role, column in chosen.items():
            try:
                values[role] = self._role(role, column)
            except ColumnError as error:
                if role == "id" or given[role] is not None:
                    raise DatasetError(
                        f"{self._path}: the column {column!r} cannot be the {role}: {error}.",
                        hint=f"Name another: --option {role}=COLUMN.",
                    ) from None
                # Nobody asked for a column that only happens to have a usual name.
                self.unusable.append(f"{column}: {error}")
        return values

    def further(self, asked: Mapping[str, ColumnConfig]) -> dict[str, list[Value]]:
        """The cells of every column that is asked for."""
        values: dict[str, list[Value]] = {}
        for name, config in asked.items():
            source = config.source(name)
            if source not in self._table.names:
                role = "" if source == name else f", asked for as {name!r}"
                raise _no_column(self._path, self._table, source, role)
            try:
                values[name] = self._further(name, source, config.modality)
            except ColumnError as error:
                raise DatasetError(f"{self._path}: the column {source!r} cannot be read: {error}.") from None
        return values

    def unusable_cells(self, ids: Sequence[str]) -> list[str]:
        """The cells that hold what their columns cannot, by item."""
        return [f"{ids[row]}: its {column} {held}" for column, row, held in self._troubles]

    def _role(self, role: str, column: str) -> list[Value]:
        if role != "id" and usual(role).is_media and (files := self._files(role, column)) is not None:
            if any(isinstance(cell, list) for cell in files):
                self.located.remove(role)
                raise ColumnError(_LISTS)
            return files
        texts, troubles = self._table.texts(column)
        if role == "id" and troubles:
            row, held = next(iter(troubles.items()))
            raise ColumnError(f"row {row + 1} {held}")
        self._note(column, troubles)
        clean: list[Value] = [_blank_none(text) for text in texts]
        self.broken += _changed(column, texts, clean)
        return clean

    def _further(self, name: str, source: str, modality: str) -> list[Value]:
        if modality == NUMBER:
            numbers, troubles = self._table.numbers(source)
            self._note(source, troubles)
            return list(numbers)
        if modality != "text" and (files := self._files(name, source)) is not None:
            return files
        cells, troubles = self._table.cells(source)
        self._note(source, troubles)
        clean: list[Value] = [
            [_encodable(text) for text in cell] if isinstance(cell, list) else _blank_none(cell)
            for cell in cells
        ]
        self.broken += _changed(source, cells, clean)
        return clean

    def _files(self, name: str, column: str) -> list[Value] | None:
        files = self._table.embedded(column, self._locator.locate)
        if files is None:
            return None
        self.located.add(name)
        return list(files)

    def _note(self, column: str, troubles: Mapping[int, str]) -> None:
        self._troubles += [(column, row, held) for row, held in troubles.items()]


def _blank_none(text: str | None) -> str | None:
    kept = text_or_none(text)
    return None if kept is None else _encodable(kept)


def _located(locator: Locator, cell: Value) -> Value:
    """The locations that a cell names; None if none of them is taken."""
    if isinstance(cell, list):
        return [place for value in cell if (place := locator.locate(value))] or None
    return locator.locate(cell) if isinstance(cell, str) else None


def _sources(
    chosen: Mapping[str, str], values: Mapping[str, object], asked: Mapping[str, ColumnConfig]
) -> list[str]:
    """What each column is read from."""
    usual_ones = [f"{role} from {name}" for role, name in chosen.items() if role == "id" or role in values]
    return [*usual_ones, *(f"{name} from {config.source(name)}" for name, config in asked.items())]


def _encodable(text: str) -> str:
    """The text with U+FFFD for lone surrogates, which JSON escapes can hold and UTF-8 cannot."""
    return _SURROGATE.sub("\ufffd", text)


def _changed(column: str, read: Sequence[Value], taken: Sequence[Value]) -> list[str]:
    """Where a text had to be changed; that a blank one is none is no change."""
    rows = enumerate(zip(read, taken, strict=True), start=1)
    return [f"{column}, row {n}" for n, (a, b) in rows if b is not None and a != b]


def _checked_ids(path: Path, ids: Sequence[str | None]) -> list[str]:
    lacking = [f"row {n}" for n, item_id in enumerate(ids, start=1) if not text_or_none(item_id)]
    if lacking:
        raise DatasetError(
            f"{path}: {len(lacking)} rows have no id: {_some(lacking)}.",
            hint="Give each row one, or remove it.",
        )
    return [item_id for item_id in ids if item_id]


def _first_rows(
    path: Path, ids: Sequence[str], values: Mapping[str, Sequence[Value]]
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

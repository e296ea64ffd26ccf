"""Reads table files (CSV, TSV, JSON lines, Parquet, Arrow) as columns of texts, numbers, and lists."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmfeat.datasets.base import Cell, Note
from mmfeat.datasets.cells import CellTrouble, is_plain, is_plain_number, listed, number_in, parsed
from mmfeat.datasets.delimited import HINT, Delimited, several_columns
from mmfeat.datasets.embedded import arrow_values, embedded_column, is_list, parquet_values, plain_type
from mmfeat.datasets.textfile import read_text
from mmfeat.schemas.catalog import NUMBER
from mmfeat.schemas.errors import DatasetError

CUT_WRONGLY = "Where cells are cut wrongly, name the mark between them: --option 'delimiter=;'."
# The numbers of rows with a cell that holds no text, to what it holds.
Troubles = dict[int, str]


@dataclass(frozen=True)
class Columns:
    """A table's columns.

    Attributes:
        names: every column that has a name, once each, in the file's order.
        texts: a column's name to its values, one per row, and the cells that hold something else: texts as
            written, whole numbers in decimal, None if there is none or something else; ColumnError where
            no cell holds a text.
        cells: the same for a column whose rows may hold lists of such values; blank values of a
            list are left out. In CSV and TSV a list is a JSON array.
        numbers: a column's name to the number in each row, None if there is none or something else;
            ColumnError where no cell holds a number.
        kind: a column's name to ``number`` where it holds nothing else and no digits that a number would
            lose (``007``), ``text`` where it holds texts or lists of them, None if it holds neither.
        embedded: a column that holds whole files to their locations, one per row; None for other columns.
            A file that is named and not there goes through the function, which locates it.
        notes: what was odd while reading.
    """

    names: list[str]
    texts: Callable[[str], tuple[list[str | None], Troubles]]
    cells: Callable[[str], tuple[list[Cell], Troubles]]
    numbers: Callable[[str], tuple[list[float | None], Troubles]]
    kind: Callable[[str], str | None]
    embedded: Callable[[str, Callable[[str], str | None]], list[Cell] | None] = lambda name, locate: None
    notes: list[Note] = field(default_factory=list)


class ColumnError(Exception):
    """A column holds nothing that can be read as it is asked for; says what it holds and where."""


def read_columns(path: Path, delimiter: str | None = None) -> Columns:
    """Opens a table; its extension says the format.

    Args:
        delimiter: between the cells of CSV and TSV; None to tell it from the header.

    Raises:
        DatasetError: an unknown extension, or a file that is not of the format it is named after. A column of
            a name that several have is one only where it is read.
    """
    kind = path.suffix.lower()
    if kind in _DELIMITED:
        return _read_delimited(path, delimiter)
    if delimiter is not None:
        raise DatasetError(
            f"{path} has no delimiter.", hint=f"The option delimiter is for {' and '.join(_DELIMITED)}."
        )
    reader = _READERS.get(kind)
    if reader is None:
        known = ", ".join([*_DELIMITED, *_READERS])
        raise DatasetError(f"{path} is not a kind of table that is known.", hint=f"Known are: {known}.")
    return reader(path)


def joined(path: Path, parts: Sequence[Columns]) -> Columns:
    """Files of the same columns as one table, the rows of each after those before.

    Args:
        path: what they are parts of.

    Raises:
        DatasetError: they have not the same columns.
    """
    if len(parts) == 1:
        return parts[0]
    names = parts[0].names
    if odd := next((part for part in parts if set(part.names) != set(names)), None):
        differing = sorted(set(odd.names) ^ set(names))
        raise DatasetError(
            f"The files of {path} have not the same columns: some lack {', '.join(differing)}.",
            hint="Read one of its splits alone: --option split=NAME.",
        )

    def texts(name: str) -> tuple[list[str | None], Troubles]:
        return _after_each_other(part.texts(name) for part in parts)

    def cells(name: str) -> tuple[list[Cell], Troubles]:
        return _after_each_other(part.cells(name) for part in parts)

    def numbers(name: str) -> tuple[list[float | None], Troubles]:
        return _after_each_other(part.numbers(name) for part in parts)

    def embedded(name: str, locate: Callable[[str], str | None]) -> list[Cell] | None:
        found = [part.embedded(name, locate) for part in parts]
        return None if None in found else [cell for cells in found for cell in cells or ()]

    def kind(name: str) -> str | None:
        found = {part.kind(name) for part in parts}
        return found.pop() if len(found) == 1 else "text" if found <= {"text", NUMBER} else None

    notes = [note for part in parts for note in part.notes]
    return Columns(names, texts, cells, numbers, kind, embedded, notes)


def _after_each_other(parts: Iterable[tuple[list[Any], Troubles]]) -> tuple[list[Any], Troubles]:
    """The values of all parts, and the troubles by their row in all of them."""
    values: list[Any] = []
    troubles: Troubles = {}
    for own, of_own in parts:
        troubles |= {len(values) + row: held for row, held in of_own.items()}
        values += own
    return values, troubles


def _read_delimited(path: Path, delimiter: str | None) -> Columns:
    text = read_text(path)
    rows = Delimited(io.StringIO(text, newline=""), path, delimiter=delimiter, hint=f"{HINT} {CUT_WRONGLY}")
    columns: list[list[str | None]] = [[] for _ in rows.names]
    for _, row in rows:
        for column, value in zip(columns, row, strict=True):
            column.append(value)

    def texts(name: str) -> tuple[list[str | None], Troubles]:
        return columns[rows.place_of(name)], {}

    def cells(name: str) -> tuple[list[Cell], Troubles]:
        return [parsed(value) for value in columns[rows.place_of(name)]], {}

    def numbers(name: str) -> tuple[list[float | None], Troubles]:
        return _each(columns[rows.place_of(name)], number_in)

    def kind(name: str) -> str | None:
        given = [text for value in columns[rows.place_of(name)] if (text := (value or "").strip())]
        return NUMBER if given and all(map(is_plain_number, given)) else "text"

    names = list(dict.fromkeys(filter(None, rows.names)))
    return Columns(names, texts, cells, numbers, kind, notes=rows.notes())


def _read_json_lines(path: Path) -> Columns:
    columns: dict[str, list[Any]] = {}
    n_rows = 0
    # Not str.splitlines: it also breaks at characters that JSON texts hold, such as U+2028.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.isspace() or not line:
            continue
        try:
            row = json.loads(line, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise _malformed(path, number, str(error)) from None
        if not isinstance(row, dict):
            raise _malformed(path, number, "it is not a JSON object")
        for name, value in row.items():
            column = columns.setdefault(name, [])
            column.extend([None] * (n_rows - len(column)))
            column.append(value)
        n_rows += 1

    def values(name: str) -> list[Any]:
        return columns[name] + [None] * (n_rows - len(columns[name]))

    return Columns(
        list(columns),
        lambda name: _each(values(name), _json_text),
        lambda name: _each(values(name), _json_cell),
        lambda name: _each(values(name), number_in),
        lambda name: _json_kind(values(name)),
    )


def _json_kind(values: Iterable[Any]) -> str | None:
    given = [value for value in values if value is not None]
    if given and all(isinstance(value, int | float) and not isinstance(value, bool) for value in given):
        return NUMBER
    try:
        _each(given, _json_cell)
    except ColumnError:
        return None
    return "text"


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, n in Counter(name for name, _ in pairs).items() if n > 1)
        raise ValueError(f"it has several values of the name {twice!r}")
    return found


def _each(values: Iterable[Any], read: Callable[[Any], Any]) -> tuple[list[Any], Troubles]:
    """What ``read`` makes of each value, None if it makes nothing, and what those hold.

    Raises:
        ColumnError: there are values, and it makes something of none.
    """
    cells: list[Any] = []
    troubles: Troubles = {}
    empty = 0
    for row, value in enumerate(values):
        try:
            cells.append(read(value))
            empty += cells[-1] is None
        except CellTrouble as trouble:
            cells.append(None)
            troubles[row] = str(trouble)
    if troubles and len(troubles) + empty == len(cells):
        row, held = next(iter(troubles.items()))
        raise ColumnError(f"row {row + 1} {held}")
    return cells, troubles


def _json_text(value: Any) -> str | None:
    # Python and pandas write a missing value of JSON as NaN.
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not is_plain(value):
        raise CellTrouble(f"holds {json.dumps(value, default=str)[:40]}, neither text nor a whole number")
    return str(value)


def _json_cell(value: Any) -> Cell:
    if not isinstance(value, list):
        return _json_text(value)
    return listed(_json_text(one) for one in value)


def _read_parquet(path: Path) -> Columns:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path} is not a Parquet file: {error}.") from None
    return _typed_columns(
        path,
        file.schema_arrow,
        file.metadata.num_rows,
        lambda name: file.read([name])[name],
        lambda name: parquet_values(path, file, name),
    )


def _read_arrow(path: Path) -> Columns:
    try:
        table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(
            f"{path} is no Arrow stream, or a damaged one: {str(error).rstrip('.')}.",
            hint="Save the dataset again.",
        ) from None
    return _typed_columns(
        path, table.schema, len(table), lambda name: table[name], lambda name: arrow_values(table[name])
    )


def _typed_columns(
    path: Path,
    schema: pa.Schema,
    n_rows: int,
    column: Callable[[str], pa.ChunkedArray],
    files: Callable[[str], Iterable[Any]],
) -> Columns:
    """The columns of a file that says of what type each is.

    Args:
        column: a name to the column; fails as pyarrow does where the file is damaged.
        files: a name to the column's values, without the bytes of whole files.
    """

    labels = _labels(schema)

    def kind_of(name: str) -> pa.DataType:
        if len(schema.get_all_field_indices(name)) > 1:
            raise several_columns(path, name)
        return plain_type(schema.field(name).type)

    def read(name: str) -> pa.ChunkedArray:
        try:
            return column(name)
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(
                f"{path}: the column {name!r} cannot be read: {str(error).rstrip('.')}.",
                hint="A file cut short or damaged must be downloaded again.",
            ) from None

    def texts(name: str) -> tuple[list[str | None], Troubles]:
        kind = kind_of(name)
        # A column of missing values alone may be of floats: it holds NaN.
        if pa.types.is_floating(kind) and pc.all(pc.is_null(read(name), nan_is_null=True)).as_py():
            return [None] * n_rows, {}
        if not _is_plain(kind):
            hint = (
                "; lists are read where the column is named under [dataset.columns]" if is_list(kind) else ""
            )
            raise ColumnError(f"it is of type {kind}, neither text nor whole numbers{hint}")
        if name in labels:
            return _labelled(read(name).to_pylist(), labels[name])
        values: list[str | None] = read(name).cast(kind).cast(pa.string()).to_pylist()
        return values, {}

    def cells(name: str) -> tuple[list[Cell], Troubles]:
        kind = kind_of(name)
        if not is_list(kind):
            values, troubles = texts(name)
            return list(values), troubles
        if not _is_plain(kind.value_type):
            raise ColumnError(f"it is of type {kind}, neither text nor whole numbers")
        lists = read(name).to_pylist()
        return [None if values is None else listed(values) for values in lists], {}

    def numbers(name: str) -> tuple[list[float | None], Troubles]:
        kind = kind_of(name)
        found = read(name)
        if pa.types.is_float32(kind):
            # The number that 32 bits stand for: 12.99, not 12.989999771118164.
            found = found.cast(pa.float32()).cast(pa.string()).cast(pa.float64())
        return _each(found.to_pylist(), number_in)

    def embedded(name: str, locate: Callable[[str], str | None]) -> list[Cell] | None:
        return embedded_column(path, kind_of(name), name, files(name), locate)

    def kind(name: str) -> str | None:
        found = kind_of(name)
        if name in labels:
            return "text"
        if pa.types.is_integer(found) or pa.types.is_floating(found) or pa.types.is_decimal(found):
            return NUMBER
        return "text" if _is_plain(found.value_type if is_list(found) else found) else None

    return Columns(list(dict.fromkeys(schema.names)), texts, cells, numbers, kind, embedded)


def _labels(schema: pa.Schema) -> dict[str, list[str]]:
    """The names of classes, by the columns that hold their numbers.

    Hugging Face's ``datasets`` keeps its own types as JSON beside those of Arrow (its features/features.py).
    """
    try:
        said = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = said["info"]["features"].items()
        found = {name: one["names"] for name, one in features if one.get("_type") == "ClassLabel"}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return {
        name: names
        for name, names in found.items()
        if isinstance(names, list)
        and all(isinstance(one, str) for one in names)
        and name in schema.names
        and pa.types.is_integer(schema.field(name).type)
    }


def _labelled(numbers: Sequence[int | None], names: Sequence[str]) -> tuple[list[str | None], Troubles]:
    """The names of classes, None if there is no class (-1), and the numbers of which there is none."""
    troubles = {
        row: f"holds the class {number}, and {len(names)} have a name"
        for row, number in enumerate(numbers)
        if number is not None and (number < -1 or number >= len(names))
    }
    values = [
        None if number is None or number < 0 or row in troubles else names[number]
        for row, number in enumerate(numbers)
    ]
    return values, troubles


def _is_plain(kind: pa.DataType) -> bool:
    return _is_text(kind) or bool(pa.types.is_integer(kind) or pa.types.is_null(kind))


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _malformed(path: Path, line: int, why: str) -> DatasetError:
    return DatasetError(f"{path}, line {line}: {why}.", hint="Mend the line, or write the table again.")


_DELIMITED = (".csv", ".tsv")
_READERS: dict[str, Callable[[Path], Columns]] = {
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
}

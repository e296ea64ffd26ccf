"""Reads table files (CSV, TSV, JSON lines, Parquet) as columns of texts, or of lists of texts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmfeat.datasets.base import Cell
from mmfeat.datasets.cells import is_plain, listed, parsed
from mmfeat.datasets.textfile import read_text
from mmfeat.schemas.errors import DatasetError


@dataclass(frozen=True)
class Columns:
    """A table's columns.

    Attributes:
        names: every column, in the file's order.
        read: a column's name to its values, one per row: texts as written, whole numbers in
            decimal, None where there is none; ColumnError for values of any other type.
        read_cells: the same for a column whose rows may hold lists of such values; blank values of a
            list are left out. In CSV and TSV a list is a JSON array.
    """

    names: list[str]
    read: Callable[[str], list[str | None]]
    read_cells: Callable[[str], list[Cell]]


class ColumnError(Exception):
    """A column holds what is neither text nor a whole number; says what and where."""


def read_columns(path: Path) -> Columns:
    """Opens a table; its extension says the format.

    Raises:
        DatasetError: an unknown extension, or a file that is not of the format it is named after.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DatasetError(
            f"{path} is not a kind of table that is known.", hint=f"Known are: {', '.join(_READERS)}."
        )
    return reader(path)


def _read_csv(path: Path, delimiter: str = ",") -> Columns:
    # Strict, so that an unbalanced quote is an error instead of many lines in one value.
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    start = 1
    try:
        names = next(reader, [])
        if len(set(names)) < len(names):
            raise DatasetError(f"{path} has several columns of one name: {', '.join(names)}.")
        columns: list[list[str | None]] = [[] for _ in names]
        start = reader.line_num + 1
        for row in reader:
            if row and len(row) != len(names):
                raise _malformed(path, start, f"it has {len(row)} columns instead of {len(names)}")
            for column, value in zip(columns, row, strict=False):
                column.append(value)
            start = reader.line_num + 1
    except csv.Error as error:
        raise _malformed(path, start, str(error)) from None
    by_name = dict(zip(names, columns, strict=True))
    return Columns(names, by_name.__getitem__, lambda name: [parsed(text) for text in by_name[name]])


def _read_tsv(path: Path) -> Columns:
    return _read_csv(path, delimiter="\t")


def _read_json_lines(path: Path) -> Columns:
    columns: dict[str, list[Any]] = {}
    n_rows = 0
    # Not str.splitlines: it also breaks at characters that JSON texts hold, such as U+2028.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.isspace() or not line:
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _malformed(path, number, str(error)) from None
        if not isinstance(row, dict):
            raise _malformed(path, number, "it is not a JSON object")
        for name, value in row.items():
            column = columns.setdefault(name, [])
            column.extend([None] * (n_rows - len(column)))
            column.append(value)
        n_rows += 1

    def values(name: str) -> Iterator[tuple[int, Any]]:
        return enumerate(columns[name] + [None] * (n_rows - len(columns[name])), start=1)

    return Columns(
        list(columns),
        lambda name: [_json_text(value, row) for row, value in values(name)],
        lambda name: [_json_cell(value, row) for row, value in values(name)],
    )


def _json_text(value: Any, row: int) -> str | None:
    if not is_plain(value):
        raise ColumnError(f"row {row} holds {json.dumps(value)[:40]}, neither text nor a whole number")
    return None if value is None else str(value)


def _json_cell(value: Any, row: int) -> Cell:
    if not isinstance(value, list):
        return _json_text(value, row)
    return listed(_json_text(one, row) for one in value)


def _read_parquet(path: Path) -> Columns:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path} is not a Parquet file: {error}.") from None
    schema = file.schema_arrow

    def read(name: str) -> list[str | None]:
        kind = schema.field(name).type
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not _is_plain(plain):
            raise ColumnError(f"it is of type {kind}, neither text nor whole numbers")
        texts: list[str | None] = file.read([name])[name].cast(plain).cast(pa.string()).to_pylist()
        return texts

    def read_cells(name: str) -> list[Cell]:
        kind = schema.field(name).type
        if not _is_list(kind):
            return list(read(name))
        if not _is_plain(kind.value_type):
            raise ColumnError(f"it is of type {kind}, neither text nor whole numbers")
        lists = file.read([name])[name].to_pylist()
        return [None if values is None else listed(values) for values in lists]

    return Columns(schema.names, read, read_cells)


def _is_plain(kind: pa.DataType) -> bool:
    return _is_text(kind) or bool(pa.types.is_integer(kind) or pa.types.is_null(kind))


def _is_list(kind: pa.DataType) -> bool:
    checks = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(check(kind) for check in checks)


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _malformed(path: Path, line: int, why: str) -> DatasetError:
    return DatasetError(f"{path}, line {line}: {why}.", hint="Mend the line, or write the table again.")


_READERS: dict[str, Callable[[Path], Columns]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}

"""Reads table files (CSV, TSV, JSON lines, Parquet) as columns of texts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmfeat.datasets.textfile import read_text
from mmfeat.schemas.errors import DatasetError


@dataclass(frozen=True)
class Columns:
    """A table's columns.

    Attributes:
        names: every column, in the file's order.
        read: a column's name to its values, one per row: texts as written, whole numbers in
            decimal, None where there is none; ColumnError for values of any other type.
    """

    names: list[str]
    read: Callable[[str], list[str | None]]


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
    return Columns(names, dict(zip(names, columns, strict=True)).__getitem__)


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

    def read(name: str) -> list[str | None]:
        values = columns[name] + [None] * (n_rows - len(columns[name]))
        return [_json_text(value, row) for row, value in enumerate(values, start=1)]

    return Columns(list(columns), read)


def _json_text(value: Any, row: int) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ColumnError(f"row {row} holds {json.dumps(value)[:40]}, neither text nor a whole number")


def _read_parquet(path: Path) -> Columns:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path} is not a Parquet file: {error}.") from None
    schema = file.schema_arrow

    def read(name: str) -> list[str | None]:
        kind = schema.field(name).type
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (_is_text(plain) or pa.types.is_integer(plain) or pa.types.is_null(plain)):
            raise ColumnError(f"it is of type {kind}, neither text nor whole numbers")
        texts: list[str | None] = file.read([name])[name].cast(plain).cast(pa.string()).to_pylist()
        return texts

    return Columns(schema.names, read)


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

"""Files of one row per event, read columnwise: CSV, TSV, JSON lines (each perhaps packed) and Parquet."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import json as arrow_json

from mmfeat.datasets.base import Note
from mmfeat.datasets.delimited import (
    first_row,
    line_of_row,
    lines_of,
    nothing_in,
    open_bytes,
    read_delimited,
    several_columns,
)
from mmfeat.datasets.embedded import plain_type
from mmfeat.schemas.errors import DatasetError

KINDS = ".csv, .tsv, .jsonl, .ndjson (each of these also with .gz) or .parquet"
_CUT = "A file cut short or damaged must be downloaded again."
# Lines of JSON whose keys say what columns there are, and of what type.
_AHEAD = 1_000
_BATCH = 100_000


@dataclass(frozen=True)
class LogFile:
    """A file's columns, before they are read.

    Attributes:
        names: of the columns.
        read: the columns of some names, and notes. Values are of the file's own types: texts as written, in
            JSON lines and Parquet also numbers and more. The second argument names columns of ids: there, a
            number of JSON that is not whole is an error.
        place: what an error calls a row, counted from 0: ``line 7``.
        open: whether there may be more columns than ``names``, which only the first lines say. One that no
            line has is read as null.
    """

    names: list[str]
    read: Callable[[Sequence[str], Collection[str]], tuple[pa.Table, list[Note]]]
    place: Callable[[int], str]
    open: bool = False


def open_log(path: Path) -> LogFile:
    """The columns of a file; its extension says the format.

    Raises:
        DatasetError: an unknown extension, or a file that is not of the format it is named after. While
            reading: a line or value that is none, with its line; a column that is there twice.
    """
    name = path.name.lower().removesuffix(".gz")
    opened = next((opens for ending, opens in _FORMATS.items() if name.endswith(ending)), None)
    if opened is None or (opened is _parquet and path.suffix.lower() == ".gz"):
        raise DatasetError(f"{path} is not a kind of file that is known.", hint=f"Known are: {KINDS}.")
    return opened(path)


def _delimited(path: Path) -> LogFile:
    def read(names: Sequence[str], ids: Collection[str]) -> tuple[pa.Table, list[Note]]:
        return read_delimited(path, dict.fromkeys(names, pa.string()))

    return LogFile(list(filter(None, first_row(path))), read, lambda row: f"line {line_of_row(path, row)}")


def _parquet(path: Path) -> LogFile:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path} is not a Parquet file: {str(error).rstrip('.')}.", hint=_CUT) from None
    schema = file.schema_arrow

    def read(names: Sequence[str], ids: Collection[str]) -> tuple[pa.Table, list[Note]]:
        for name in names:
            if len(schema.get_all_field_indices(name)) > 1:
                raise several_columns(path, name)
        try:
            table = file.read(list(names))
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{path} cannot be read: {str(error).rstrip('.')}.", hint=_CUT) from None
        plain = [table[name].cast(plain_type(schema.field(name).type)) for name in names]
        return pa.table(plain, names=list(names)), [] if len(table) else [nothing_in(path.name)]

    return LogFile(list(dict.fromkeys(schema.names)), read, lambda row: f"row {row + 1}")


def _json_lines(path: Path) -> LogFile:
    ahead = [record for _, record in islice(_records(path), _AHEAD)]

    def read(names: Sequence[str], ids: Collection[str]) -> tuple[pa.Table, list[Note]]:
        types = {name: _json_type(ahead, name) for name in names}
        # That an id is no whole number is said of its line.
        types |= {name: None for name in ids if types[name] == pa.float64()}
        table = _json_at_once(path, types)
        if table is None:
            table = _json_by_lines(path, names, ids)
        return table, [] if len(table) else [nothing_in(path.name)]

    def place(row: int) -> str:
        return f"line {next(islice(_records(path), row, None))[0]}"

    names = list(dict.fromkeys(key for record in ahead for key in record))
    return LogFile(names, read, place, open=len(ahead) == _AHEAD)


_FORMATS: dict[str, Callable[[Path], LogFile]] = {
    ".csv": _delimited,
    ".tsv": _delimited,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of JSON lines, each with its line; DatasetError names a line that is none."""
    for number, line in enumerate(lines_of(path), start=1):
        if line.isspace():
            continue
        try:
            record = json.loads(line, object_pairs_hook=_named_once)
        except (ValueError, RecursionError) as error:
            raise _malformed(path, number, str(error)) from None
        if not isinstance(record, dict):
            raise _malformed(path, number, "it is not a JSON object")
        yield number, record


def _named_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a key comes twice")
    return record


def _malformed(path: Path, line: int, why: str) -> DatasetError:
    return DatasetError(f"{path}, line {line}: {why}.", hint=f"Mend the line. {_CUT}")


def _json_type(records: Sequence[dict[str, Any]], name: str) -> pa.DataType | None:
    """The type of a column's values; None if they are of several, or of one that has no use here."""
    types = {type(value) for record in records if (value := record.get(name)) is not None}
    if not types:
        return pa.null()
    if types == {int, float}:
        return pa.float64()
    plain = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    return plain.get(types.pop()) if len(types) == 1 else None


def _json_at_once(path: Path, types: dict[str, pa.DataType | None]) -> pa.Table | None:
    """Columns of JSON lines; None if a value is not of its column's type, or a line is no object: then
    the lines are read one by one, which says where."""
    if None in types.values():
        return None
    parse = arrow_json.ParseOptions(
        explicit_schema=pa.schema(list(types.items())), unexpected_field_behavior="ignore"
    )
    try:
        with open_bytes(path) as file:
            return arrow_json.read_json(file, parse_options=parse).select(list(types))
    except (pa.ArrowInvalid, OSError, EOFError, zlib.error):
        return None


def _json_by_lines(path: Path, names: Sequence[str], ids: Collection[str]) -> pa.Table:
    """Columns of JSON lines as texts: numbers in decimal."""
    schema = pa.schema([(name, pa.string()) for name in names])
    batches: list[pa.RecordBatch] = []
    columns: list[list[str | None]] = [[] for _ in names]
    for count, (line, record) in enumerate(_records(path), start=1):
        for name, column in zip(names, columns, strict=True):
            try:
                column.append(_json_text(record.get(name), name in ids))
            except ValueError as error:
                raise _malformed(path, line, f"its {name} {error}") from None
        if count % _BATCH == 0:
            batches.append(pa.record_batch(columns, schema=schema))
            columns = [[] for _ in names]
    return pa.Table.from_batches([*batches, pa.record_batch(columns, schema=schema)])


def _json_text(value: Any, is_id: bool) -> str | None:
    """A value as text; ValueError where it has no use here."""
    if value is None or value != value:  # NaN, which Python and pandas write for a missing number
        return None
    if isinstance(value, bool):
        value = str(value).lower()
    if not isinstance(value, str | int) and (is_id or not isinstance(value, float)):
        kind = "neither text nor a whole number" if is_id else "neither text nor a number"
        raise ValueError(f"is {json.dumps(value)[:40]}, {kind}")
    text = str(value)
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("holds half a character")
    return text

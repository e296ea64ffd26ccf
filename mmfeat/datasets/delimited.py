"""Reads delimited text (CSV, TSV): with or without a header, gzip-compressed or not."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from mmfeat.datasets.textfile import text_or_none
from mmfeat.schemas.errors import DatasetError


def open_bytes(path: Path) -> gzip.GzipFile | io.BufferedReader:
    """The file's bytes, unpacked while reading where its name ends in ``.gz``."""
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")


def first_row(path: Path, delimiter: str = ",") -> list[str]:
    """The cells of the first line; empty for an empty file."""
    try:
        with open_bytes(path) as file:
            line = file.readline().decode("utf-8-sig")
        return next(csv.reader([line], delimiter=delimiter), [])
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from None


def read_delimited(
    path: Path, types: Mapping[str, pa.DataType], names: Sequence[str] | None = None, delimiter: str = ","
) -> pa.Table:
    """Some columns of a file, in the file's order of rows.

    Args:
        types: the columns to read and their types; texts are kept as written.
        names: the names of all columns, for a file without a header.

    Raises:
        DatasetError: a column is not there, a line has another number of columns, a value is not of
            its type, or the file is cut short or not UTF-8.
    """
    try:
        return arrow_csv.read_csv(
            path,
            read_options=arrow_csv.ReadOptions(column_names=names),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(column_types=types, include_columns=list(types)),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        raise _unreadable(path, error) from None


def first_texts(table: pa.Table, item: str, text: str) -> dict[str, str | None]:
    """Each item's text in its first row, None where blank; items in the order of the rows."""
    first = table.group_by(item, use_threads=False).aggregate([(text, "first")])
    texts = first[f"{text}_first"].to_pylist()
    return dict(zip(first[item].to_pylist(), map(text_or_none, texts), strict=True))


def repeated(column: pa.Array | pa.ChunkedArray) -> list[str]:
    """The values that come more than once."""
    counts = pc.value_counts(column)
    values: list[str] = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    return values


def _unreadable(path: Path, error: Exception) -> DatasetError:
    return DatasetError(
        f"Cannot read {path}: {str(error).rstrip('.')}.",
        hint="Each line must have the same columns, in UTF-8. A file cut short must be downloaded again.",
    )

"""Columns of Parquet and Arrow files that hold whole files, as Hugging Face's data sets hold pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmfeat.datasets.base import Cell
from mmfeat.schemas.catalog import CellPlace
from mmfeat.schemas.errors import DatasetError

# Only whether a file is there is asked, but its bytes have to be read for that.
_ROWS_AT_ONCE = 64
_BUFFER = 1 << 20


def embedded_column(
    path: Path, kind: pa.DataType, name: str, values: Iterable[Any], locate: Callable[[str], str | None]
) -> list[Cell] | None:
    """The location of each row's file, or of its files where the column is one of lists.

    Args:
        path: absolute path of the table's file.
        kind: the type of the column ``name``.
        values: of the column; bytes that are there may be empty.
        locate: the location of a file that a row names beside itself, or None if it is refused.

    Returns:
        None if the column is not of a binary type, ``struct<bytes, path>`` or lists of either.

    Raises:
        DatasetError: the file is damaged.
    """
    kind = plain_type(kind)
    several = is_list(kind)
    if not _holds_files(kind.value_type if several else kind):
        return None

    def location(value: Any, row: int, at: int | None) -> str | None:
        named = None
        if isinstance(value, dict):
            value, named = value["bytes"], value.get("path")
        if value is not None:
            return CellPlace(str(path), name, row, at).location
        return locate(named) if isinstance(named, str) and named else None

    try:
        cells: list[Cell] = []
        for row, value in enumerate(values):
            if several:
                places = [location(one, row, at) for at, one in enumerate(value or ())]
                cells.append([place for place in places if place] or None)
            else:
                cells.append(location(value, row, None))
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(
            f"{path}: the column {name!r} cannot be read: {str(error).rstrip('.')}.",
            hint="A file cut short or damaged must be downloaded again.",
        ) from None
    return cells


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of a column's values, where each is stored once and named by its number (categories) too."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of the type holds lists."""
    checks = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(check(kind) for check in checks)


def parquet_values(path: Path, file: pq.ParquetFile, name: str) -> Iterator[Any]:
    """A column's values, empty ones for a row group in which no row lacks its file: that is not read."""
    with pq.ParquetFile(path, buffer_size=_BUFFER) as buffered:
        for group in range(file.metadata.num_row_groups):
            if _is_full(file, group, name):
                yield from (b"" for _ in range(file.metadata.row_group(group).num_rows))
                continue
            batches = buffered.iter_batches(
                _ROWS_AT_ONCE, row_groups=[group], columns=[name], use_threads=False
            )
            for batch in batches:
                yield from batch.column(0).to_pylist()


def arrow_values(column: pa.ChunkedArray) -> Iterator[Any]:
    """A column's values with the bytes of each file left out: they are not read."""
    for chunk in column.chunks:
        yield from _emptied(chunk).to_pylist()


def _emptied(values: pa.Array) -> pa.Array:
    kind = values.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        made = pa.ListArray if pa.types.is_list(kind) else pa.LargeListArray
        return made.from_arrays(values.offsets, _emptied(values.values), mask=values.is_null())
    if pa.types.is_struct(kind):
        names = [name for name in ("bytes", "path") if kind.get_field_index(name) >= 0]
        fields = [_emptied(pc.struct_field(values, name)) for name in names]
        return pa.StructArray.from_arrays(fields, names)
    if _is_binary(kind):
        return pc.if_else(values.is_valid(), pa.scalar(b"", pa.binary()), pa.scalar(None, pa.binary()))
    return values


def _is_full(file: pq.ParquetFile, group: int, name: str) -> bool:
    """Whether a row group's own statistics say that no row lacks its file; not asked of lists."""
    meta = file.metadata.row_group(group)
    for n in range(meta.num_columns):
        chunk = meta.column(n)
        if chunk.path_in_schema in (name, f"{name}.bytes"):
            said = chunk.statistics
            return said is not None and said.has_null_count and said.null_count == 0
    return False


def _holds_files(kind: pa.DataType) -> bool:
    kind = plain_type(kind)
    if pa.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _is_binary(plain_type(kind.field(at).type))
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    types = pa.types
    checks = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return any(check(kind) for check in checks)

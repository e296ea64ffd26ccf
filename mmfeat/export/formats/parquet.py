"""Parquet: one table, ``item_id`` and a column per feature and per field that is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from mmfeat.export.base import Exporter, Kind, Policy
from mmfeat.export.content import BLOCK_ROWS, Content, Entry, ItemMap, Rows
from mmfeat.schemas.featureset.arrow import array_matrix, token_array, token_arrays, vector_array

FILE = "features.parquet"


class Parquet(Exporter):
    """``features.parquet``: ``item_id``, and a fixed-size list or string per feature, null if missing;
    of any number of vectors a list of fixed-size lists.

    ``--fields`` adds columns of the catalog: strings, doubles and lists of strings.
    """

    name = "parquet"
    title = "Parquet"
    systems = ("pandas", "Polars", "DuckDB", "Spark", "PyArrow")
    kinds: ClassVar[tuple[Kind, ...]] = ("vector", "vectors", "tokens", "codes", "text")
    missing: ClassVar[tuple[Policy, ...]] = ("mask", "mean", "zero", "empty", "drop", "error")
    id_base = None
    further = True

    def write(self, out: Path, content: Content) -> None:
        """A row group per batch, so that no column is whole in memory."""
        with pq.ParquetWriter(out / FILE, item_schema(content), use_dictionary=False) as writer:
            for batch in item_batches(content):
                writer.write_table(batch)

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """By the ``item_id`` of each row."""
        with pq.ParquetFile(out / FILE) as file:
            for batch in file.iter_batches(batch_size=BLOCK_ROWS):
                yield from entries(batch, list(manifest["features"]))


def item_schema(content: Content) -> pa.Schema:
    """``item_id`` and a column per feature and per field."""
    return _batch(content, 0, 0).schema


def item_batches(content: Content) -> Iterator[pa.Table]:
    """The export as tables of two thousand items."""
    for start in range(0, len(content.ids), 2 * BLOCK_ROWS):
        yield _batch(content, start, start + 2 * BLOCK_ROWS)


def entries(batch: pa.RecordBatch, roles: Sequence[str]) -> Iterator[Entry]:
    """What a batch of such a table holds."""
    ids = batch["item_id"].to_pylist()
    for role in roles:
        column = batch[role]
        if pa.types.is_string(column.type):
            found = zip(ids, column.to_pylist(), strict=True)
            yield from (Entry(role, i, text) for i, text in found if text is not None)
        elif pa.types.is_list(column.type):
            there = [i for i, ok in zip(ids, column.is_valid().to_pylist(), strict=True) if ok]
            own = token_arrays(column.drop_null())
            yield from (Entry(role, i, vectors) for i, vectors in zip(there, own, strict=True))
        else:
            matrix, mask = array_matrix(column)
            yield from (Entry(role, ids[k], matrix[k]) for k in mask.nonzero()[0])


def _batch(content: Content, start: int, stop: int) -> pa.Table:
    columns = {"item_id": pa.array(content.ids[start:stop], pa.string())}
    columns |= {name: _part(rows, start, stop) for name, rows in content.features.items()}
    if content.further is not None:
        fields = content.further.slice(start, stop - start)
        columns |= {name: fields[name] for name in fields.column_names}
    return pa.table(columns)


def _part(rows: Rows, start: int, stop: int) -> pa.Array:
    present = rows.present[start:stop]
    if rows.is_text:
        return pa.array(list(rows.texts(start, stop)), pa.string())
    if rows.is_tokens:
        return token_array(list(rows.tokens(start, stop)), rows.shape[1:], rows.dtype)
    return vector_array(rows.block(start, stop), present)

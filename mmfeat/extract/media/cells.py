"""Files in cells of Parquet and Arrow tables, as Hugging Face's data sets hold pictures."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

# What one batch of rows holds, about; a table's row group may hold gigabytes.
_BATCH_BYTES = 8 << 20
_MOST_ROWS = 1024
# Several threads ask for rows near each other, and not quite in order.
_KEPT = 4
_BUFFER = 1 << 20


class ParquetColumn:
    """One column of files. Rows that follow each other are read in one pass; threads may share it.

    Args:
        table: path of the Parquet file.
        column: of a binary type, of ``struct<bytes, ...>``, or of lists of either.

    Raises:
        OSError, pyarrow.ArrowException: the file is not Parquet or is damaged.
        KeyError: it has no such column.
    """

    def __init__(self, table: str, column: str) -> None:
        # With a buffer the pages of a row group are read one by one, and not all at once.
        self._file = pq.ParquetFile(table, buffer_size=_BUFFER)
        self._column = column
        meta = self._file.metadata
        sizes = [meta.row_group(n).num_rows for n in range(meta.num_row_groups)]
        self._starts = list(accumulate(sizes, initial=0))
        self._at_once = [self._rows_at_once(n) for n in range(meta.num_row_groups)]
        self._batches: OrderedDict[int, pa.Array] = OrderedDict()
        self._reader: Iterator[pa.RecordBatch] = iter(())
        self._next = self._end = 0
        self._damage: dict[int, tuple[int, Exception]] = {}
        self._lock = threading.Lock()

    def file(self, row: int, at: int | None = None) -> bytes | None:
        """The file in a row, or in the ``at``-th place of its list; None if there is none.

        Raises:
            IndexError: there is no such row.
            OSError, pyarrow.ArrowException: the table is damaged.
        """
        with self._lock:
            return _file_of(self._cell(row).as_py(), at)

    def _cell(self, row: int) -> pa.Scalar:
        if not 0 <= row < self._starts[-1]:
            raise IndexError(f"it has {self._starts[-1]:,} rows, and no row {row:,}")
        for start, batch in self._batches.items():
            if start <= row < start + len(batch):
                return batch[row - start]
        group = bisect_right(self._starts, row) - 1
        # What lies behind damage is lost: it is not looked for again for each row.
        if group in self._damage and row >= self._damage[group][0]:
            raise self._damage[group][1]
        if not self._next <= row < self._end:
            self._begin(group)
        while True:
            try:
                batch = next(self._reader).column(0)
            except (OSError, ValueError, pa.ArrowException) as error:
                self._damage[group] = (self._next, error)
                self._next = self._end = 0
                raise
            start, self._next = self._next, self._next + len(batch)
            self._batches[start] = batch
            if len(self._batches) > _KEPT:
                self._batches.popitem(last=False)
            if row < self._next:
                return batch[row - start]

    def _begin(self, group: int) -> None:
        self._next, self._end = self._starts[group], self._starts[group + 1]
        self._reader = self._file.iter_batches(
            batch_size=self._at_once[group], row_groups=[group], columns=[self._column], use_threads=False
        )

    def _rows_at_once(self, group: int) -> int:
        meta = self._file.metadata.row_group(group)
        chunks = [meta.column(n) for n in range(meta.num_columns)]
        own = [c for c in chunks if c.path_in_schema.partition(".")[0] == self._column.partition(".")[0]]
        if not own:
            raise KeyError(f"no column {self._column!r}")
        size = int(sum(chunk.total_uncompressed_size for chunk in own)) // max(1, int(meta.num_rows))
        return min(_MOST_ROWS, max(1, _BATCH_BYTES // max(1, size)))


class ArrowColumn:
    """One column of files in an Arrow stream, which is mapped into memory; threads may share it.

    Args:
        table: path of the Arrow file, as ``datasets.Dataset.save_to_disk`` writes it.
        column: as of a :class:`ParquetColumn`.

    Raises:
        OSError, pyarrow.ArrowException: the file is no Arrow stream or is damaged.
        KeyError: it has no such column.
    """

    def __init__(self, table: str, column: str) -> None:
        self._cells = pa.ipc.open_stream(pa.memory_map(table)).read_all()[column]

    def file(self, row: int, at: int | None = None) -> bytes | None:
        """As :meth:`ParquetColumn.file`."""
        if not 0 <= row < len(self._cells):
            raise IndexError(f"it has {len(self._cells):,} rows, and no row {row:,}")
        return _file_of(self._cells[row].as_py(), at)


def _file_of(cell: Any, at: int | None) -> bytes | None:
    """The file that a cell holds, or the ``at``-th of its list."""
    if at is not None:
        cell = cell[at] if cell is not None and at < len(cell) else None
    if isinstance(cell, dict):
        cell = cell["bytes"]
    return cell if isinstance(cell, bytes) else None

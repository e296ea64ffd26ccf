"""What the columns of a file of interactions hold, however they are written: converted whole, by Arrow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from mmfeat.datasets import moments
from mmfeat.datasets.delimited import first_that_fails
from mmfeat.datasets.log_files import LogFile
from mmfeat.schemas.errors import DatasetError
from mmfeat.schemas.interactions import NEEDED, Part

_TIMES = "seconds or milliseconds since 1970-01-01 UTC, or ISO 8601 such as 2024-05-01T18:30:00Z"
_MOST_SHOWN = 40


class LogColumns:
    """Converts a file's columns to what interactions hold.

    Args:
        table: the columns as the file has them.
        chosen: part to its column.
    """

    def __init__(self, path: Path, log: LogFile, table: pa.Table, chosen: Mapping[Part, str]) -> None:
        self._path, self._log, self._table, self._chosen = path, log, table, chosen

    def converted(self) -> dict[Part, pa.ChunkedArray]:
        """Each part's column: texts, milliseconds, or float64.

        Raises:
            DatasetError: a column or a value of another kind; names the line.
        """
        convert: dict[Part, Callable[[Part, pa.ChunkedArray], pa.ChunkedArray]] = {
            "user": self._ids,
            "item": self._ids,
            "time": self._times,
            "order": self._positions,
            "rating": self._numbers,
            "event": self._events,
        }
        return {part: convert[part](part, self._table[name]) for part, name in self._chosen.items()}

    def _ids(self, part: Part, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """As written; empty if blank or null, which names nothing."""
        if not (_is_text(column.type) or pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
            raise self._of_type(part, column.type, "neither text nor whole numbers")
        texts = pc.fill_null(column.cast(pa.string()), "")
        blank = pc.equal(pc.utf8_trim_whitespace(texts), "")
        return pc.if_else(blank, "", texts) if pc.any(blank).as_py() else texts

    def _times(self, part: Part, column: pa.ChunkedArray) -> pa.ChunkedArray:
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            return moments.of_type(column)
        if not _is_text(column.type):
            return moments.counted(self._path, self._numbers(part, column))
        texts = _given(column)
        if _begins_with_number(texts):
            return moments.counted(self._path, self._numbers(part, column))
        try:
            return moments.written(texts)
        except moments.NoMoment as none:
            raise self._unfit(part, none.row, texts, f"which is no time: give {_TIMES}") from None

    def _positions(self, part: Part, column: pa.ChunkedArray) -> pa.ChunkedArray:
        positions = self._numbers(part, column)
        if positions.null_count:
            row = pc.index(pc.is_null(positions), True).as_py()
            raise self._unfit(part, row, positions, "and without one it has no place among the others")
        return positions

    def _numbers(self, part: Part, column: pa.ChunkedArray) -> pa.ChunkedArray:
        kind = column.type
        texts = _given(column) if _is_text(kind) else column
        plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        if not (plain or _is_text(kind) or pa.types.is_null(kind)):
            raise self._of_type(part, kind, "no numbers")
        try:
            # Not all whole numbers beyond 2**53 are floats.
            numbers = texts.cast(pa.float64(), safe=not pa.types.is_integer(kind))
        except pa.ArrowInvalid:
            row = first_that_fails(texts, pa.float64())
            raise self._unfit(part, row, texts, "which is no number") from None
        return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)

    def _events(self, part: Part, column: pa.ChunkedArray) -> pa.ChunkedArray:
        kind = column.type
        plain = pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)
        if not (plain or _is_text(kind)):
            raise self._of_type(part, kind, "no names of events")
        texts = column.cast(pa.string())
        blank = pc.equal(pc.utf8_trim_whitespace(texts), "")
        return pc.if_else(blank, pa.scalar(None, pa.string()), texts)

    def _of_type(self, part: Part, kind: pa.DataType, what: str) -> DatasetError:
        return DatasetError(
            f"{self._path}: the column {self._chosen[part]!r} cannot be the {part}: "
            f"it is of type {kind}, {what}.",
            hint=f"Name another column{_or_none(part)}, or write this one as text.",
        )

    def _unfit(self, part: Part, row: int, values: pa.ChunkedArray, why: str) -> DatasetError:
        said = "nothing" if (value := values[row].as_py()) is None else repr(str(value)[:_MOST_SHOWN])
        return DatasetError(
            f"{self._path}, {self._log.place(row)}: its {self._chosen[part]} is {said}, {why}.",
            hint=f"Mend it, or name another column for {part}{_or_none(part)}.",
        )


def _or_none(part: Part) -> str:
    return "" if part in NEEDED else f" (none: {part} = '')"


def _given(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts without blanks around them, null if they stand for no value."""
    trimmed = pc.utf8_trim_whitespace(column.cast(pa.string()))
    none = pc.is_in(trimmed, value_set=pa.array(arrow_csv.ConvertOptions().null_values))
    return pc.if_else(none, pa.scalar(None, pa.string()), trimmed)


def _begins_with_number(texts: pa.ChunkedArray) -> bool:
    """Whether the first text that there is can be a number; true if there is none."""
    try:
        texts.drop_null().slice(0, 1).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.string_view())

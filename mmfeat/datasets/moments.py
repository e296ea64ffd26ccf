"""Points in time as datasets write them: numbers since 1970, ISO 8601 texts, and Arrow's own types."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.datasets.delimited import first_that_fails
from mmfeat.schemas.errors import DatasetError

# A time below is in seconds (it would be the year 5138), one above in milliseconds (from 1973 on).
_SECONDS_BELOW = 1e11
_MILLISECONDS_BELOW = 1e14
# Numbers from 1900 to 2100 that are dates without dashes, and else would be some days of August 1970.
_FIRST_DAY, _LAST_DAY = 19000101, 21001231
# A time of day and a zone after it: in a date alone, ``-05`` is a day.
_ZONED = r"\d[T ]\d.*(Z|[+-]\d\d(:?\d\d)?)$"
_NAIVE, _UTC = pa.timestamp("ns"), pa.timestamp("ns", "UTC")


class NoMoment(Exception):
    """A text is no time.

    Attributes:
        row: its place, from 0.
    """

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row


def counted(place: object, times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Milliseconds since 1970 (UTC) of numbers that count seconds or milliseconds: the largest says which.

    Args:
        place: what an error calls the file.

    Raises:
        DatasetError: numbers that are no times since 1970.
    """
    largest = pc.max(pc.abs(times)).as_py()
    if largest is None:
        return times.cast(pa.int64())
    smallest = pc.min(times).as_py()
    if smallest >= _FIRST_DAY and largest <= _LAST_DAY:
        raise DatasetError(
            f"{place} holds times such as {largest:.0f}: dates without dashes, or days of 1970.",
            hint="Write dates with dashes: 2024-05-01.",
        )
    if not largest < _MILLISECONDS_BELOW:
        raise DatasetError(
            f"{place} holds the time {largest:.0f}, which is neither in seconds nor in milliseconds.",
            hint="Times must count from 1970-01-01 UTC; convert them first.",
        )
    scale = 1000 if largest < _SECONDS_BELOW else 1
    return pc.round(pc.multiply(times, np.float64(scale))).cast(pa.int64())


def written(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Milliseconds of ISO 8601 texts; a time without a zone is one of UTC.

    Raises:
        NoMoment: of the first text that is none.
    """
    zoned = pc.match_substring_regex(texts, _ZONED)
    none = pa.scalar(None, pa.string())
    found = []
    for kind, own in ((_NAIVE, pc.if_else(zoned, none, texts)), (_UTC, pc.if_else(zoned, texts, none))):
        try:
            found.append(of_type(own.cast(kind)))
        except pa.ArrowInvalid:
            raise NoMoment(first_that_fails(own, kind)) from None
    return pc.coalesce(*found)


def of_type(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Milliseconds of dates and timestamps of any unit; one without a zone is one of UTC."""
    zone = getattr(times.type, "tz", None)
    return times.cast(pa.timestamp("ms", zone), safe=False).cast(pa.int64())

"""Reads interactions from delimited text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.datasets import moments
from mmfeat.datasets.base import Note
from mmfeat.datasets.delimited import read_delimited
from mmfeat.schemas.catalog import INTERACTIONS_SCHEMA

#: The codes of notes on interactions that no recommender can learn from.
UNUSED_INTERACTIONS = ("incomplete_interaction", "unknown_items")


def read_interactions(
    path: Path,
    *,
    user: str,
    item: str,
    timestamp: str | None,
    rating: str | None = None,
    names: Sequence[str] | None = None,
    delimiter: str | None = None,
) -> tuple[pa.Table, list[Note]]:
    """The interactions in the file's order, and notes.

    Times may be in seconds or milliseconds: the largest one of the file says which.

    Args:
        user, item, timestamp, rating: names of the columns; None if the file has no such thing.
        names: the names of all columns, for a file without a header.
        delimiter: None to tell it from the header.

    Returns:
        INTERACTIONS_SCHEMA table: ids as written, times in milliseconds; lines without a user or
        an item are left out and noted.

    Raises:
        DatasetError: as :func:`read_delimited`, or times that are no times since 1970.
    """
    numbers = {name: pa.float64() for name in (timestamp, rating) if name}
    table, odd = read_delimited(path, {user: pa.string(), item: pa.string(), **numbers}, names, delimiter)
    times = moments.counted(path, table[timestamp]) if timestamp else None
    ratings = table[rating] if rating else None
    interactions, notes = interactions_table(path.name, table[user], table[item], times, ratings)
    return interactions, [*odd, *notes]


def interactions_table(
    name: str,
    users: pa.Array | pa.ChunkedArray,
    items: pa.Array | pa.ChunkedArray,
    times: pa.Array | pa.ChunkedArray | None = None,
    ratings: pa.Array | pa.ChunkedArray | None = None,
    events: pa.Array | pa.ChunkedArray | None = None,
) -> tuple[pa.Table, list[Note]]:
    """INTERACTIONS_SCHEMA table without the rows that lack a user or an item, and notes on ``name``.

    Args:
        times, ratings, events: None if there are none.
    """
    columns = [
        pa.nulls(len(users), field.type) if column is None else column
        for field, column in zip(INTERACTIONS_SCHEMA, (users, items, times, ratings, events), strict=True)
    ]
    table = pa.table(columns, schema=INTERACTIONS_SCHEMA)
    kept = table.filter(pc.and_(pc.not_equal(table["user_id"], ""), pc.not_equal(table["item_id"], "")))
    notes = []
    if incomplete := len(table) - len(kept):
        message = f"lines of {name} without a user or without an item: left out"
        notes.append(Note("warning", "incomplete_interaction", message, incomplete))
    if timeless := kept["timestamp"].null_count:
        notes.append(Note("info", "no_timestamp", f"interactions in {name} without a time", timeless))
    return kept, notes


def items_in_item_column(table: pa.Table, known: pa.Array, name: str) -> tuple[pa.Table, list[Note]]:
    """Exchanges users and items where the known items stand in the column of users.

    A file without a header does not say which column is which, and releases of one dataset differ
    in it; the catalog tells.
    """
    found = {c: pc.sum(pc.is_in(table[c], value_set=known)).as_py() or 0 for c in ("user_id", "item_id")}
    if found["user_id"] <= found["item_id"]:
        return table, []
    others = [name for name in table.column_names if name not in found]
    exchanged = table.select(["item_id", "user_id", *others]).rename_columns(["user_id", "item_id", *others])
    return exchanged, [Note("info", "items_first", f"{name} names the item before the user")]

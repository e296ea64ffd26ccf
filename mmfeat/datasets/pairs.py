"""Reads MicroLens's interactions: ``*_pairs.csv`` with times, or ``*_pairs.tsv`` with an order."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from mmfeat.datasets.base import Note
from mmfeat.datasets.delimited import Delimited, lines_of, nothing_in, read_delimited
from mmfeat.datasets.interactions import interactions_table

_COLUMNS = {"user": pa.string(), "item": pa.string(), "timestamp": pa.int64()}
_HINT = "Expected: user<TAB>item item ... on each line. A file cut short must be downloaded again."


def read_pairs(path: Path) -> tuple[pa.Table, list[Note]]:
    """The interactions in the file's order, and notes.

    Returns:
        INTERACTIONS_SCHEMA table. Ids are kept as written; times of a ``.csv`` are in milliseconds, those of
        a ``.tsv`` are null. Lines without a user or an item are left out and noted.

    Raises:
        DatasetError: a line with another number of columns, a time that is no whole number, or a
            file that is not UTF-8; names the line.
    """
    if path.suffix.lower() == ".tsv":
        return _read_tsv(path)
    table, odd = read_delimited(path, _COLUMNS)
    interactions, notes = interactions_table(path.name, table["user"], table["item"], table["timestamp"])
    return interactions, [*odd, *notes]


def _read_tsv(path: Path) -> tuple[pa.Table, list[Note]]:
    users: list[str] = []
    items: list[str] = []
    rows = Delimited(lines_of(path), path, delimiter="\t", names=["user", "items"], quoted=False, hint=_HINT)
    for _, (user, listed) in rows:
        # A user of nothing is an incomplete line, as one without a user is.
        for item in listed.split() or [""]:
            users.append(user)
            items.append(item)
    columns = (pa.array(users, pa.string()), pa.array(items, pa.string()))
    interactions, notes = interactions_table(path.name, *columns)
    return interactions, notes if users else [nothing_in(path.name)]

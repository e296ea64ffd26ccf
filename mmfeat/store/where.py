"""Conditions on the fields of items, written as in SQL: ``brand = 'Nike' and price < 20``.

Lance's own reader of filters reads them. It takes one expression that is true or false of a row, knows no
statement, and only reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import lance
import pyarrow as pa

from mmfeat.schemas.catalog import ITEM_ID
from mmfeat.schemas.errors import UsageError
from mmfeat.store.database import Database, panics, said

_LONGEST = 10_000
# What Lance puts before what it has to say, and what of it is of its own columns.
_PREFIX = re.compile(r"^(Invalid user input: |Schema error: |External error: |Query Execution error: )+")
_ITS_COLUMNS = re.compile(r"\s*Valid fields are .*$")
# An error of the condition that shows only where values are looked at: a cast, a regular expression.
_OF_VALUES = "applying filter expression"


def ids_where(database: Database, name: str, condition: str, columns: Iterable[str]) -> pa.Array:
    """The ids of the items of which the condition is true; of those without a value it says nothing.

    Args:
        name: of the table of items.
        condition: such as ``price < 20``; strings in single quotes, a quote in them doubled.
        columns: that it may name, for what is said where it names others.

    Raises:
        UsageError: it is no condition, names something else, or compares what cannot be compared.
    """
    table = database.table(name)
    if table is None:
        return pa.array([], pa.string())
    _check(table, condition, columns)
    with database.errors(f"read {name}"):
        try:
            found = table.to_table(columns=[ITEM_ID], filter=condition)
        except ValueError as error:
            if _OF_VALUES not in str(error):
                raise
            raise _refused(condition, error, columns) from None
    return found[ITEM_ID].combine_chunks()


def _check(table: lance.LanceDataset, condition: str, columns: Iterable[str]) -> None:
    """UsageError for a condition that cannot be asked; reads no row."""
    if len(condition) > _LONGEST:
        raise UsageError(f"A condition has {_LONGEST:,} characters at most, and not {len(condition):,}.")
    try:
        with panics():
            table.scanner(columns=[ITEM_ID], filter=condition).explain_plan()
    except (ValueError, RuntimeError) as error:
        raise _refused(condition, error, columns) from None


def _refused(condition: str, error: Exception, columns: Iterable[str]) -> UsageError:
    why = _ITS_COLUMNS.sub("", _PREFIX.sub("", said(error))).rstrip(".:( ")
    there = ", ".join([ITEM_ID, *columns])
    return UsageError(
        f"{condition[:100]!r} is no condition that items can be asked for: {why}.",
        hint=f"Write it as in SQL: \"brand = 'Nike' and price < 20\". Columns are: {there}.",
    )

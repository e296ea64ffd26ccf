"""Kinds of items that a feature may find better or worse than others."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.schemas.catalog import media_columns

# Of all interactions that are learned from, those with the long tail's items.
_TAIL_SHARE = 0.2
_SHORT_WORDS = 3
_LANGUAGES = ("language", "lang")
_MOST_LANGUAGES = 5


def slices_of(items: pa.Table, popularity: np.ndarray) -> dict[str, np.ndarray]:
    """Items by the name of the slice that they are in: bool ``[items]``. One of no items or of all is left
    out.

    ``cold`` nobody took in what is learned from; the ``long tail`` are the least popular, a fifth of all
    interactions together; ``short text`` has a title of three words at most; ``with`` and ``without`` a
    column of media; and by language where the catalog has a column of that name.

    Args:
        items: of the catalog, in the order of ``popularity``.
    """
    found = {"cold": popularity == 0, "long tail": _tail(popularity)}
    if "title" in items.column_names:
        words = pc.count_substring_regex(pc.utf8_trim_whitespace(pc.fill_null(items["title"], "")), r"\S+")
        found["short text"] = _flags(pc.less_equal(words, _SHORT_WORDS))
    for name in media_columns(items.schema):
        there = _flags(pc.is_valid(items[name]))
        found |= {f"with {name}": there, f"without {name}": ~there}
    for name in _LANGUAGES:
        if name in items.column_names and pa.types.is_string(items.schema.field(name).type):
            found |= _by_value(items[name], name)
    return {name: within for name, within in found.items() if within.any() and not within.all()}


def _tail(popularity: np.ndarray) -> np.ndarray:
    order = np.argsort(popularity, kind="stable")
    within = np.zeros(len(popularity), bool)
    taken = np.cumsum(popularity[order])
    within[order[taken <= _TAIL_SHARE * popularity.sum()]] = True
    return within


def _by_value(column: pa.ChunkedArray, name: str) -> dict[str, np.ndarray]:
    counted = pc.value_counts(pc.drop_null(column)).to_pylist()
    common = sorted(counted, key=lambda one: -one["counts"])[:_MOST_LANGUAGES]
    return {f"{name} {one['values']}": _flags(pc.equal(column, one["values"])) for one in common}


def _flags(column: pa.ChunkedArray) -> np.ndarray:
    flags: np.ndarray = pc.fill_null(column, False).to_numpy().astype(bool)
    return flags

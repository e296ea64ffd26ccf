"""Interactions as arrays: who took what, in the order of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Log:
    """Interactions by position, user after user, each user's in the order of time.

    Only who took what, and when, is kept: ratings, events, and counts such as views say nothing of when they
    were known, and could tell a protocol what it is asked.

    Attributes:
        users: int64 ``[n]``, ascending.
        items: int64 ``[n]``.
        times: int64 ``[n]``, milliseconds; None if an interaction has none.
    """

    n_users: int
    n_items: int
    users: np.ndarray
    items: np.ndarray
    times: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def starts(self) -> np.ndarray:
        """int64 ``[n_users + 1]``: user ``u`` has the rows ``starts[u]`` to ``starts[u + 1]``."""
        return np.searchsorted(self.users, np.arange(self.n_users + 1))

    @cached_property
    def popularity(self) -> np.ndarray:
        """int64 ``[n_items]``: by how many users each item was taken."""
        return np.bincount(self.items, minlength=self.n_items)

    def where(self, rows: np.ndarray) -> Log:
        """The interactions for which ``rows`` (bool) is true."""
        times = None if self.times is None else self.times[rows]
        return Log(self.n_users, self.n_items, self.users[rows], self.items[rows], times)


def log_of(interactions: pa.Table, ids: Sequence[str]) -> Log:
    """The interactions with ``ids``, each pair of user and item once: the first time.

    Where any has no time, the dataset's order is that of time.

    Args:
        interactions: ``INTERACTIONS_SCHEMA``.
    """
    found = pc.index_in(interactions["item_id"], value_set=pa.array(ids, pa.string()))
    kept = interactions.select(["user_id", "timestamp"]).filter(pc.is_valid(found))
    items = pc.drop_null(found).to_numpy().astype(np.int64)
    users, n_users = _numbered(kept["user_id"])
    times = None if kept["timestamp"].null_count else kept["timestamp"].to_numpy()
    # lexsort is stable: equal times keep the dataset's order.
    order = np.lexsort((users,) if times is None else (times, users))
    users, items = users[order], items[order]
    first = np.sort(np.unique(users * max(len(ids), 1) + items, return_index=True)[1])
    times = None if times is None else times[order][first]
    return Log(n_users, len(ids), users[first], items[first], times)


def told_apart(tables: Mapping[int, pa.Table]) -> pa.Table:
    """Interactions of several datasets together: users of the same id in two of them are two users.

    Args:
        tables: by the dataset's number, at least one.
    """
    if len(tables) == 1:
        return next(iter(tables.values()))
    named = []
    for number, table in tables.items():
        users = pc.binary_join_element_wise(str(number), table["user_id"], " ")
        named.append(table.set_column(table.schema.get_field_index("user_id"), "user_id", users))
    return pa.concat_tables(named)


def _numbered(column: pa.ChunkedArray) -> tuple[np.ndarray, int]:
    """Numbers of texts in the order of their first appearance, and how many different ones there are."""
    if not len(column):
        return np.empty(0, np.int64), 0
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    return encoded.indices.to_numpy().astype(np.int64), len(encoded.dictionary)

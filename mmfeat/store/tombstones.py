"""Which items were forgotten and why: the record that keeps them from coming back.

A tombstone is written before anything is removed, as not done, and marked done after everything is: a
process that is killed in between leaves it to the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.schemas.errors import StoreError
from mmfeat.store import chain
from mmfeat.store.database import Database
from mmfeat.store.schema import TOMBSTONES_SCHEMA

TABLE = "_forgotten"


@dataclass(frozen=True)
class Tombstone:
    """An item that was forgotten.

    Attributes:
        created: UTC.
        done: whether all that there was of it is removed; False if that was cut short.
    """

    item_id: str
    reason: str
    created: datetime
    done: bool


class Tombstones:
    """The record of forgotten items in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Tombstone]:
        """All of them, oldest first."""
        found = [Tombstone(**row) for row in self._rows().to_pylist()]
        return sorted(found, key=lambda t: (t.created, t.item_id))

    def pending(self) -> list[str]:
        """Ids whose removal was begun and not finished."""
        return [tombstone.item_id for tombstone in self.all() if not tombstone.done]

    def add(self, ids: Sequence[str], reason: str) -> None:
        """Record that ``ids`` are to be forgotten: one transaction. The newest reason stays."""
        now = datetime.now(UTC)
        rows = [{"item_id": i, "reason": reason, "created": now, "done": False} for i in ids]
        self._put(pa.Table.from_pylist(rows, schema=TOMBSTONES_SCHEMA))

    def close(self, ids: Sequence[str]) -> None:
        """Record that nothing of ``ids`` is left."""
        rows = self._rows()
        rows = rows.filter(pc.is_in(rows["item_id"], value_set=pa.array(ids, pa.string())))
        done = pa.array([True] * len(rows), pa.bool_())
        self._put(rows.set_column(3, TOMBSTONES_SCHEMA.field("done"), done))

    def without(self, rows: pa.Table) -> pa.Table:
        """``rows`` but for those whose ``item_id`` was forgotten."""
        ids = self._rows()["item_id"]
        if not len(ids):
            return rows
        return rows.filter(pc.invert(pc.is_in(rows["item_id"], value_set=ids.combine_chunks())))

    def refuse(self, rows: pa.Table) -> None:
        """StoreError where a row is of a forgotten item."""
        if len(self.without(rows)) < len(rows):
            allowed = self.without(rows)["item_id"].combine_chunks()
            found = rows["item_id"].filter(pc.invert(pc.is_in(rows["item_id"], value_set=allowed)))
            raise StoreError(
                f"Item {found[0].as_py()!r} was forgotten: nothing of it is written to {self._database.uri}."
            )

    def _rows(self) -> pa.Table:
        return self._database.read_small(TABLE, TOMBSTONES_SCHEMA)

    def _put(self, rows: pa.Table) -> None:
        self._database.upsert(TABLE, rows, ["item_id"])
        self._database.tidy(TABLE)
        chain.record(self._database, [TABLE])

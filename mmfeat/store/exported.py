"""Which exports were made of a store, so that those that hold a forgotten item can be named."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmfeat.schemas.exports import ID_MAP
from mmfeat.store import chain
from mmfeat.store.database import Database
from mmfeat.store.schema import EXPORTS_SCHEMA

TABLE = "_exports"


@dataclass(frozen=True)
class Exported:
    """An export that was made of a store.

    Attributes:
        path: absolute folder, on the machine ``host``.
        features: role to ``name@fingerprint``.
        created: UTC.
        stale: when an item that it holds, or may hold, was forgotten, UTC; None if none was.
    """

    path: str
    host: str
    format: str
    items: int
    features: dict[str, str]
    snapshot: str | None
    created: datetime
    export_id: str
    stale: datetime | None = None

    def may_hold(self, ids: Collection[str]) -> bool:
        """Whether any of ``ids`` is in it, as far as can be seen from this machine."""
        try:
            found = pq.read_table(Path(self.path) / ID_MAP, columns=["item_id"])["item_id"].to_pylist()
        except (OSError, ValueError, KeyError):
            return True  # moved, changed, or on another machine: a copy of it may be anywhere
        return not set(ids).isdisjoint(found)


class Exports:
    """The record of exports in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self) -> list[Exported]:
        """All exports, oldest first."""
        rows = self._database.read(TABLE, EXPORTS_SCHEMA).to_pylist()
        found = [Exported(**{**row, "features": json.loads(row["features"])}) for row in rows]
        return sorted(found, key=lambda e: (e.created, e.export_id))

    def add(self, exported: Exported) -> None:
        """Record an export.

        Raises:
            StoreError: it cannot be written, or the list lost a part of itself: one that goes on from what
                is left would hide that.
        """
        for loss in chain.losses_of(self._database.uri, [TABLE]):
            raise chain.refusal(self._database.uri, loss, "the list of exports")
        row = asdict(exported) | {"features": json.dumps(exported.features)}
        self._database.append(TABLE, pa.Table.from_pylist([row], schema=EXPORTS_SCHEMA))
        self._database.tidy(TABLE)
        chain.record(self._database, [TABLE])

    def mark_stale(self, export_ids: Collection[str]) -> None:
        """Record that an item of these exports was forgotten; the first time stays."""
        now = datetime.now(UTC)
        rows = self._database.read(TABLE, EXPORTS_SCHEMA).to_pylist()
        stale = [{**row, "stale": row["stale"] or now} for row in rows if row["export_id"] in export_ids]
        if stale:
            self._database.upsert(TABLE, pa.Table.from_pylist(stale, schema=EXPORTS_SCHEMA), ["export_id"])
            chain.record(self._database, [TABLE])

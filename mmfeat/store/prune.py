"""Removing what the store still has of items that left their dataset.

Unlike what is forgotten, such an item may come back: it is extracted again then. Snapshots keep the rows
that they had.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from mmfeat.store import catalog, digests, maintenance
from mmfeat.store.catalog import Catalog
from mmfeat.store.database import Database
from mmfeat.store.purge import row_filters
from mmfeat.store.versions import FeatureVersion, Versions


@dataclass(frozen=True)
class Gone:
    """The items that a pruning removes.

    Attributes:
        items: their ids, in the catalog's order.
        rows: version to how many rows it has of them; those without any are left out.
        since: when the first of them was found to be gone, UTC; None if none is.
    """

    items: list[str]
    rows: dict[str, int]
    since: datetime | None

    def to_dict(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)


class Pruning:
    """Finds what the store has of items that are gone, and removes it.

    Args:
        catalog: of the store.
        versions: of the same.
        check_lease: raises where the process may not write.
    """

    def __init__(
        self, database: Database, catalog: Catalog, versions: Versions, check_lease: Callable[[], None]
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._versions = versions
        self._check_lease = check_lease

    def survey(self) -> Gone:
        """What would be removed; nothing is changed."""
        ids = self._catalog.gone_ids()
        rows = {v.version: n for v in self._versions.list() if (n := self._count(v, ids))}
        times = [int(time) for time in self._catalog.owned().gone if time]
        since = datetime.fromtimestamp(min(times) / 1e6, UTC) if times else None
        return Gone(ids.to_pylist(), rows, since)

    def remove(self) -> Gone:
        """Remove the rows of every item that is gone; what that was.

        The catalog comes last: of a removal that was cut short, the next one finds the rest by it.
        """
        self._check_lease()
        gone = self.survey()
        if not gone.items:
            return gone
        touched = [version for version in self._versions.list() if version.version in gone.rows]
        for version in touched:
            self._delete(version.table, gone.items)
            maintenance.finish(self._database, version)
        for table in (catalog.STAMPS, catalog.ITEMS):
            self._delete(table, gone.items)
        digests.record(self._database, [*(version.table for version in touched), *catalog.TABLES])
        return gone

    def _count(self, version: FeatureVersion, ids: pa.Array) -> int:
        table = self._database.table(version.table)
        if table is None or not len(ids):
            return 0
        with self._database.errors(f"read {version.version}"):
            return sum(table.count_rows(where) for where in row_filters("item_id", ids.to_pylist()))

    def _delete(self, table: str, ids: list[str]) -> None:
        for where in row_filters("item_id", ids):
            self._database.delete(table, where)

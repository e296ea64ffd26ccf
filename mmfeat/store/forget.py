"""Forgetting items: from every table, every version, every snapshot and every index of a database.

What stays: the tombstone (id and reason), ids in the records of runs, and what cannot be undone by
removing rows. What was fitted to an item's vector (codebooks, components) is removed with it, unless its
row says that it was not; the codes and vectors of other items, which were made with its help, stay.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pyarrow as pa

from mmfeat.schemas.errors import StoreError
from mmfeat.schemas.server import ANSWERS_FOLDER
from mmfeat.store import catalog, codebooks, digests, evaluations, folders, maintenance, rows
from mmfeat.store.database import Database, is_full
from mmfeat.store.purge import drop_old_versions, held, purge
from mmfeat.store.snapshots import Snapshot, Snapshots
from mmfeat.store.tombstones import Tombstone, Tombstones
from mmfeat.store.versions import FeatureVersion, Versions


class Forgetting:
    """The forgotten items of a store: what is recorded of them, and their removal.

    Args:
        snapshots: in the store's database.
        versions: of the same.
        check_lease: raises where the process may not write.
    """

    def __init__(self, snapshots: Snapshots, versions: Versions, check_lease: Callable[[], None]) -> None:
        self._snapshots = snapshots
        self._versions = versions
        self._check_lease = check_lease
        self._tombstones = Tombstones(snapshots.database)

    def tombstones(self) -> list[Tombstone]:
        """Every item that was forgotten, in the order of time."""
        return self._tombstones.all()

    def without(self, rows: pa.Table) -> pa.Table:
        """``rows`` without those whose ``item_id`` was forgotten."""
        return self._tombstones.without(rows)

    def refuse(self, rows: pa.Table) -> None:
        """StoreError where a row is of a forgotten item."""
        self._tombstones.refuse(rows)

    def begin(self, ids: Sequence[str], reason: str) -> None:
        """Record that items are to be forgotten: from now on nothing of them is written.

        :meth:`finish` must follow; where it does not come to that, it is due at any later time.
        """
        self._check_lease()
        try:
            self._tombstones.add(ids, reason)
        except StoreError as error:
            if not is_full(error):
                raise
            # A full disk: old states, which go with the items anyway, make room.
            for name in _touched(self._versions.list()):
                drop_old_versions(self._snapshots.database, name)
            self._tombstones.add(ids, reason)

    def finish(self, resumed: bool) -> Sequence[Snapshot]:
        """Remove all there is of the items that :meth:`begin` named; the snapshots rewritten for it.

        Args:
            resumed: a call before this one may have been cut short, anywhere.

        Raises:
            StoreError: a file still holds one of them after all; the removal stays unfinished.
        """
        self._check_lease()
        ids = self._tombstones.pending()
        rewritten = _remove_items(self._snapshots, self._versions.list(), ids, everywhere=resumed)
        self._refuse_remains(ids)
        self._tombstones.close(ids)
        return rewritten

    def _refuse_remains(self, ids: Sequence[str]) -> None:
        if left := self.remains(ids):
            table, there = next(iter(left.items()))
            raise StoreError(
                f"Forgetting is not finished: files of {table} in {self._snapshots.database.uri} still hold "
                f"{there[0]!r}" + (f" and {len(there) - 1} more items." if len(there) > 1 else "."),
                hint="Something keeps their old states, such as a tag that is not mmfeat's. Remove it and "
                "give the same command again; `mmfeat forget --verify` lists what is left.",
            )

    def remains(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Table to those of ``ids`` that any of its files holds, in whatever version; {} if none does."""
        tables = [*(version.table for version in self._versions.list()), *catalog.OF_ITEMS]
        found = {name: held(self._snapshots.database, name, "item_id", ids) for name in tables}
        return {name: left for name, left in found.items() if left}


def _remove_items(
    snapshots: Snapshots, versions: Sequence[FeatureVersion], ids: Sequence[str], everywhere: bool
) -> Sequence[Snapshot]:
    """Remove everything of ``ids``; the snapshots that were rewritten for it.

    Args:
        everywhere: this was begun before and cut short: leave out nothing that seems to be done.
    """
    database = snapshots.database
    folders.remove(database, ANSWERS_FOLDER)
    evaluations.clear(database)
    # While their rows still tell which of them were fitted to these items.
    fitted = [v for v in versions if v.spec.is_fitted and (everywhere or _may_be_fitted_to(database, v, ids))]
    prints = [version.fingerprint for version in fitted]
    purge(database, codebooks.TABLE, "fingerprint", prints, lambda: None, everywhere=False)
    for version in versions:

        def reindex(version: FeatureVersion = version) -> None:
            maintenance.rebuild_indices(database, version)

        purge(database, version.table, "item_id", ids, reindex, everywhere)
    for name in catalog.OF_ITEMS:
        purge(database, name, "item_id", ids, lambda: None, everywhere=False)
    followed = snapshots.follow_tags(catalog.ITEMS)
    # Only now: until it follows its tags, a snapshot is read at the versions that it had.
    touched = _touched(versions)
    for name in touched:
        drop_old_versions(database, name)
    digests.record(database, touched)
    return followed


def _touched(versions: Sequence[FeatureVersion]) -> list[str]:
    """The tables that items are removed from."""
    return [codebooks.TABLE, evaluations.TABLE, *(version.table for version in versions), *catalog.OF_ITEMS]


def _may_be_fitted_to(database: Database, version: FeatureVersion, ids: Sequence[str]) -> bool:
    """Whether codebooks may have learnt from any of ``ids``: whoever has, or had, a row that does not say no.

    Where fewer rows say yes than vectors were fitted to, an item of them was pruned: it may have come back,
    so that its row knows nothing of it.
    """
    there = held(database, version.table, "item_id", ids)
    if not there:
        return False
    found = codebooks.get(database, version.fingerprint)
    facts = rows.facts(database, version)
    said = {i: json.loads(told).get("fitted") for i, told in zip(*facts.to_pydict().values(), strict=True)}
    all_known = found is not None and found[1].get("vectors") == sum(map(bool, said.values()))
    return not all_known or any(said.get(item_id) is not False for item_id in there)

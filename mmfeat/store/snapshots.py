"""Snapshots: names for the state of every table at one moment.

A snapshot is one row of the table ``_snapshots``, which says the Lance version of every table, and a
Lance tag on each of these versions, which clean-up then keeps. The row is written after the tags and
removed before them: a process that is killed in between leaves tags that no row knows, and the next
one that creates or deletes a snapshot removes those. When an item is forgotten, a tag moves to a version
without it, and the row follows the tags.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import lance
import pyarrow as pa

from mmfeat.schemas.errors import StoreError, UsageError
from mmfeat.store import chain
from mmfeat.store.database import Database, Pin, quoted
from mmfeat.store.purge import remove_idle_branches
from mmfeat.store.schema import SNAPSHOTS_SCHEMA

TABLE = "_snapshots"
_TAG = "mmfeat-snapshot-"

# What Lance allows in a tag and every file system in a name.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,63}")


@dataclass(frozen=True)
class Snapshot:
    """A named state of a store.

    Attributes:
        created: UTC.
        items: number of items in its catalog.
        features: name to the ``name@fingerprint`` that the name alone means in it.
        tables: table to its Lance version, or to its branch and the version on it.
        rewritten: when items were last forgotten that it held, UTC; None if none was.
        forgotten: how many items of its catalog were.
    """

    name: str
    created: datetime
    items: int
    features: dict[str, str]
    tables: dict[str, Pin]
    rewritten: datetime | None = None
    forgotten: int = 0


class Snapshots:
    """The record of snapshots in one database, which is read at its latest state."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def list(self) -> list[Snapshot]:
        """All snapshots, oldest first."""
        rows = self.database.read_small(TABLE, SNAPSHOTS_SCHEMA).to_pylist()
        return sorted(map(_loaded, rows), key=lambda s: (s.created, s.name))

    def get(self, name: str) -> Snapshot:
        """The snapshot called ``name``; UsageError that says what there is if there is none."""
        found = {snapshot.name: snapshot for snapshot in self.list()}
        if name not in found:
            there = f"There are: {', '.join(found)}." if found else "There is none yet."
            raise UsageError(
                f"There is no snapshot {name!r} of {self.database.uri}.",
                hint=f"{there} Make one with `mmfeat snapshot create NAME`.",
            )
        return found[name]

    def create(self, name: str, tables: Sequence[str], items: int, features: Mapping[str, str]) -> Snapshot:
        """Pin ``tables`` as they are now; those that are not there are not in the snapshot.

        Raises:
            UsageError: the name is taken, or none that a snapshot can have.
        """
        _check_name(name)
        if name in {snapshot.name for snapshot in self.list()}:
            raise UsageError(
                f"There is a snapshot {name!r} of {self.database.uri} already.",
                hint="A snapshot never changes: choose another name, or delete it first.",
            )
        present = {table: found for table in tables if (found := self.database.table(table)) is not None}
        self.remove_unknown_tags(present.values())
        for table in present.values():
            with self.database.errors(f"make the snapshot {name}"):
                table.tags.create(f"{_TAG}{name}", table.version)
        snapshot = Snapshot(
            name, datetime.now(UTC), items, dict(features), {k: t.version for k, t in present.items()}
        )
        self._put(snapshot)
        return snapshot

    def delete(self, name: str, tables: Sequence[str]) -> None:
        """Forget a snapshot; what only it kept is removed by the next clean-up.

        Args:
            tables: every table that may hold a tag.
        """
        self.get(name)
        self.database.delete(TABLE, f"name = {quoted(name)}")
        chain.record(self.database, [TABLE])
        self.remove_unknown_tags(
            found for table in tables if (found := self.database.table(table)) is not None
        )

    def follow_tags(self, items: str) -> Sequence[Snapshot]:
        """Let every snapshot read what its tags name by now; those that changed.

        Args:
            items: the table whose rows are a snapshot's items.
        """
        followed = []
        for snapshot in self.list():
            tables = {table: self._tagged(table, snapshot) for table in snapshot.tables}
            if tables != snapshot.tables:
                catalog = Database(self.database.uri, tables).table(items)
                left = 0 if catalog is None else catalog.count_rows()
                snapshot = replace(
                    snapshot,
                    items=left,
                    tables=tables,
                    rewritten=datetime.now(UTC),
                    forgotten=snapshot.forgotten + snapshot.items - left,
                )
                self._put(snapshot)
                followed.append(snapshot)
        return followed

    def _tagged(self, name: str, snapshot: Snapshot) -> Pin:
        table = self.database.table(name)
        tag = None if table is None else table.tags.list().get(f"{_TAG}{snapshot.name}")
        if tag is None:
            return snapshot.tables[name]  # something removed it: reading the snapshot will say so
        return tag["version"] if tag["branch"] is None else (tag["branch"], tag["version"])

    def _put(self, snapshot: Snapshot) -> None:
        record = asdict(snapshot)
        row = {"name": record.pop("name"), "created": record.pop("created")}
        row["record"] = json.dumps(record, default=datetime.isoformat)
        self.database.upsert(TABLE, pa.Table.from_pylist([row], schema=SNAPSHOTS_SCHEMA), ["name"])
        self.database.tidy(TABLE)
        chain.record(self.database, [TABLE])

    def remove_unknown_tags(self, tables: Iterable[lance.LanceDataset]) -> None:
        """Remove the tags of deleted snapshots: they keep what nobody can read any more."""
        known = {f"{_TAG}{snapshot.name}" for snapshot in self.list()}
        for table in tables:
            with self.database.errors("remove the tags of a deleted snapshot"):
                for tag in table.tags.list():
                    if tag.startswith(_TAG) and tag not in known:
                        table.tags.delete(tag)
                remove_idle_branches(table)


def pinned(database: Database, snapshot: Snapshot) -> Database:
    """The database as it was; StoreError where a version it needs was removed all the same."""
    view = Database(database.uri, snapshot.tables)
    for table in snapshot.tables:
        if view.table(table) is None:
            raise StoreError(
                f"The snapshot {snapshot.name!r} cannot be read: version {snapshot.tables[table]} of "
                f"{table} is gone from {database.uri}.",
                hint="Something other than mmfeat removed it. Restore it, or delete the snapshot.",
            )
    return view


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name.endswith((".", ".lock")):
        raise UsageError(
            f"A snapshot cannot be called {name!r}.",
            hint="Take 1 to 64 letters (a-z, A-Z), digits, '-', '_' and single dots, the first a letter "
            "or digit; for example 2025-06-01.",
        )


def _loaded(row: dict[str, Any]) -> Snapshot:
    try:
        return _parsed(row["name"], row["created"].astimezone(UTC), json.loads(row["record"]))
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"The record of the snapshot {row['name']!r} cannot be read: {error}.",
            hint="It is damaged, or was written by a newer mmfeat.",
        ) from None


def _parsed(name: str, created: datetime, record: dict[str, Any]) -> Snapshot:
    tables = {name: tuple(pin) if isinstance(pin, list) else pin for name, pin in record["tables"].items()}
    rewritten = record.get("rewritten")
    changes = {"tables": tables, "rewritten": datetime.fromisoformat(rewritten) if rewritten else None}
    return Snapshot(name, created, **(record | changes))

"""Retention: which feature versions and snapshots may go, what they take, and their removal."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from lance import LanceDataset

from mmfeat.schemas.errors import StoreError
from mmfeat.schemas.server import ANSWERS_FOLDER
from mmfeat.store import canaries, codebooks, collisions, digests, evaluations, folders
from mmfeat.store.database import Database, clean_up, is_full
from mmfeat.store.promotion import Promotion
from mmfeat.store.snapshots import Snapshots
from mmfeat.store.versions import FeatureVersion, Versions

_TABLE_OF_VERSION = re.compile(r".+-[0-9a-f]{16}\.lance")


@dataclass(frozen=True)
class Retention:
    """What stays.

    Attributes:
        versions: how many of each feature: the current one and the newest others; at least 1.
        snapshots: the newest so many; all when None.
        older_than: whatever was made less long ago stays too.
    """

    versions: int
    snapshots: int | None = None
    older_than: timedelta = timedelta(0)


@dataclass(frozen=True)
class Garbage:
    """Something that may go.

    Attributes:
        kind: ``version``, ``snapshot``, or ``leftover`` of a removal or a run that was cut short.
        name: ``name@fingerprint``, the snapshot's name or the folder's.
        created: UTC; None of a leftover.
        folder: of its own files; empty for a snapshot, which shares all of them.
        bytes: that these take. What a snapshot alone keeps is known when it is gone.
    """

    kind: Literal["version", "snapshot", "leftover"]
    name: str
    created: datetime | None
    folder: str
    bytes: int


@dataclass(frozen=True)
class Survey:
    """What a retention means for a store.

    Attributes:
        garbage: what goes.
        kept: version that the number alone would not keep, to why it stays.
    """

    garbage: list[Garbage]
    kept: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)


class Retaining:
    """Finds what may go of a store, and removes it.

    Args:
        tables: gives the names of all tables that a snapshot may hold.
        check_lease: raises where the process may not write.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        versions: Versions,
        promotion: Promotion,
        tables: Callable[[], list[str]],
        check_lease: Callable[[], None],
    ) -> None:
        self._database: Database = snapshots.database
        self._snapshots = snapshots
        self._versions = versions
        self._promotion = promotion
        self._tables = tables
        self._check_lease = check_lease

    def survey(self, keep: Retention) -> Survey:
        """What goes and what stays all the same; nothing is changed."""
        until = datetime.now(UTC) - keep.older_than
        snapshots = self._old_snapshots(keep, until)
        versions, kept = self._old_versions(keep, until, {s.name for s in snapshots})
        return Survey([*snapshots, *versions, *self._leftovers()], kept)

    def collect(self, survey: Survey) -> int:
        """Remove what :meth:`survey` found, and old states of all tables; the bytes this freed.

        Readers that opened a table less than a day ago can read on, except in versions that went. A
        process that is killed in between leaves nothing that the next call does not find.
        """
        self._check_lease()
        try:
            self._remove_all(survey.garbage)
        except StoreError as error:
            if not is_full(error):
                raise
            # A full disk has no room for a record of what goes: its files make that first.
            self._make_room(survey.garbage)
            self._remove_all(survey.garbage)
        self._database.refresh()
        freed = sum(one.bytes for one in survey.garbage)
        # Also of a snapshot whose deletion was cut short.
        self._snapshots.remove_unknown_tags(self._there().values())
        freed += self._remove_old_states()
        self._database.refresh()
        return freed

    def _make_room(self, garbage: Sequence[Garbage]) -> None:
        """Remove what takes no writing: files of versions that go, leftovers, old states of tables."""
        for one in garbage:
            if one.folder:
                folders.remove(self._database, one.folder)
        self._database.refresh()
        self._remove_old_states()
        self._database.refresh()

    def _remove_old_states(self) -> int:
        freed = 0
        for name, table in self._there().items():
            with self._database.errors(f"remove old states of {name}"):
                freed += clean_up(table)
        return freed

    def _there(self) -> dict[str, LanceDataset]:
        return {name: table for name in self._tables() if (table := self._database.table(name)) is not None}

    def _remove_all(self, garbage: Sequence[Garbage]) -> None:
        """Remove what is still there of it."""
        versions = {_folder(version): version for version in self._versions.list()}
        snapshots = {snapshot.name for snapshot in self._snapshots.list()}
        for one in garbage:
            if one.kind == "snapshot" and one.name in snapshots:
                self._snapshots.delete(one.name, self._tables())
            elif one.kind == "version" and one.folder in versions:
                self._remove(versions[one.folder])
            elif _TABLE_OF_VERSION.fullmatch(one.folder):
                self._remove_table(one.folder.removesuffix(".lance"))
            elif one.folder:
                folders.remove(self._database, one.folder)
        evaluations.remove_others(self._database, {version.version for version in self._versions.list()})

    def _remove(self, version: FeatureVersion) -> None:
        """First the record, so that no reader finds a version whose table is gone."""
        self._versions.remove(version)
        folders.remove(self._database, _answers(version.fingerprint))
        self._remove_table(version.table)

    def _remove_table(self, table: str) -> None:
        """A version's table, after all that is known of it: a removal cut short is found by the folder."""
        digits = table.rpartition("-")[2]
        codebooks.remove(self._database, digits)
        collisions.remove(self._database, digits)
        canaries.remove(self._database, digits)
        digests.forget(self._database, table)
        folders.remove(self._database, f"{table}.lance")

    def _old_snapshots(self, keep: Retention, until: datetime) -> list[Garbage]:
        if keep.snapshots is None:
            return []
        newest_first = self._snapshots.list()[::-1]
        old = [s for s in newest_first[keep.snapshots :] if s.created <= until]
        return [Garbage("snapshot", s.name, s.created, "", 0) for s in reversed(old)]

    def _old_versions(
        self, keep: Retention, until: datetime, going: set[str]
    ) -> tuple[list[Garbage], dict[str, str]]:
        """Versions that go, and those that stay for another reason than their number."""
        versions = self._versions.list()
        by_number = self._newest(versions, keep.versions)
        reasons = {v.fingerprint: "" for v in by_number}
        for version in versions:
            if why := self._wanted(version, until, going):
                reasons.setdefault(version.fingerprint, why)
        self._add_what_they_read(versions, reasons)
        garbage = [
            Garbage("version", v.version, v.created, _folder(v), folders.size(self._database, _folder(v)))
            for v in versions
            if v.fingerprint not in reasons
        ]
        return garbage, {v.version: reason for v in versions if (reason := reasons.get(v.fingerprint))}

    def _newest(self, versions: Sequence[FeatureVersion], number: int) -> list[FeatureVersion]:
        """Of each feature the current version and its newest others, ``number`` in all."""
        current = self._versions.current()
        kept = []
        for name in {version.name for version in versions}:
            own = [v for v in reversed(versions) if v.name == name]
            own.sort(key=lambda v: v.fingerprint != current.get(v.name))
            kept += own[:number]
        return kept

    def _wanted(self, version: FeatureVersion, until: datetime, going: set[str]) -> str:
        """Why a version stays whatever the number; empty if nothing wants it."""
        pinning = [
            s.name for s in self._snapshots.list() if version.table in s.tables and s.name not in going
        ]
        if pinning:
            return f"in the snapshot {pinning[-1]}"
        if version.created > until:
            return "made too short a time ago"
        return "a candidate" if self._promotion.is_candidate(version) else ""

    def _add_what_they_read(self, versions: Sequence[FeatureVersion], reasons: dict[str, str]) -> None:
        """What a version that stays was made from stays with it."""
        known = {version.fingerprint: version for version in versions}
        waiting = list(reasons)
        while waiting:
            reader = known[waiting.pop()]
            for source in reader.spec.upstreams.values():
                if source in known and source not in reasons:
                    reasons[source] = f"read by {reader.version}"
                    waiting.append(source)

    def _leftovers(self) -> list[Garbage]:
        versions = self._versions.list()
        known = {_folder(version) for version in versions}
        known |= {f"{table}.lance" for s in self._snapshots.list() for table in s.tables}
        found = [
            name
            for name in folders.names(self._database)
            if _TABLE_OF_VERSION.fullmatch(name) and name not in known
        ]
        prints = {version.fingerprint for version in versions}
        found += [_answers(p) for p in folders.names(self._database, ANSWERS_FOLDER) if p not in prints]
        return [Garbage("leftover", f, None, f, folders.size(self._database, f)) for f in found]


def _folder(version: FeatureVersion) -> str:
    return f"{version.table}.lance"


def _answers(fingerprint: str) -> str:
    """Where answers of caption servers lie that no row holds yet."""
    return f"{ANSWERS_FOLDER}/{fingerprint}"

"""Feature versions: their specs beside the data, and which of them a name alone means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Any

import pyarrow as pa

from mmfeat.schemas.errors import StoreError, UnknownFeature
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import chain
from mmfeat.store.database import Database, quoted
from mmfeat.store.schema import CURRENT_SCHEMA, VERSIONS_SCHEMA, rows_schema

VERSIONS, CURRENT = "_versions", "_current"
TABLES = (VERSIONS, CURRENT)
_PREFIX = re.compile(r"[0-9a-f]{4,64}")


@dataclass(frozen=True)
class FeatureVersion:
    """One version of a feature in a store.

    Attributes:
        spec: what made its values.
        created: when it was first added to this store, UTC.
    """

    spec: FeatureSpec
    created: datetime

    @property
    def name(self) -> str:
        """The feature's name."""
        return self.spec.name

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 hex of the spec, 64 characters."""
        return self.spec.fingerprint

    @property
    def version(self) -> str:
        """``name@`` and the first 8 characters of the fingerprint."""
        return self.spec.version

    @property
    def table(self) -> str:
        """The table of its rows. Twice the digits of :attr:`version`: two specs must never share one."""
        return f"{self.name}-{self.fingerprint[:16]}"


class Versions:
    """The record of feature versions in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, spec: FeatureSpec) -> FeatureVersion:
        """Record ``spec`` and make its table; completes what a killed call began."""
        known = {v.fingerprint: v for v in self.list(spec.name)}.get(spec.fingerprint)
        version = FeatureVersion(spec, known.created if known else datetime.now(UTC))
        # The table first: a recorded version always has one.
        self._database.create(version.table, rows_schema(spec).empty_table())
        # Weights may have moved on this machine: the same fingerprint, another location.
        if known is None or known.spec != spec:
            row = {
                "name": version.name,
                "fingerprint": version.fingerprint,
                "spec": spec.model_dump_json(exclude_none=True),
                "created": version.created,
            }
            rows = pa.Table.from_pylist([row], schema=VERSIONS_SCHEMA)
            self._database.upsert(VERSIONS, rows, ["name", "fingerprint"])
            chain.record(self._database, [VERSIONS])
        return version

    def list(self, name: str | None = None) -> list[FeatureVersion]:
        """All versions (of one name), by name and then by age."""
        rows = self._database.read_small(VERSIONS, VERSIONS_SCHEMA).to_pylist()
        found = [self._loaded(row) for row in rows if name in (None, row["name"])]
        return sorted(found, key=lambda v: (v.name, v.created, v.fingerprint))

    def current(self) -> dict[str, str]:
        """Name to the fingerprint that the name alone means.

        That is the one last promoted; a name whose only version was not promoted yet means that
        version, so that an interrupted first run can be read.
        """
        versions: dict[str, list[FeatureVersion]] = {}
        for version in self.list():
            versions.setdefault(version.name, []).append(version)
        current = {name: only[0].fingerprint for name, only in versions.items() if len(only) == 1}
        return current | {name: row["fingerprint"] for name, row in self.promoted().items()}

    def resolve(self, ref: str) -> FeatureVersion:
        """The version that ``name`` or ``name@prefix`` (4 or more hex digits) means.

        Raises:
            UnknownFeature: none or several; the error says what there is.
        """
        name, at, prefix = ref.partition("@")
        versions = self.list(name)
        if not versions:
            raise UnknownFeature(f"There is no feature {name!r} in {self._database.uri}.", hint=self._names())
        if at and not _PREFIX.fullmatch(prefix.lower()):
            raise UnknownFeature(
                f"{ref!r} is not a feature version: after the @ come 4 or more digits of its fingerprint.",
                hint=f"There are: {_listed(versions)}.",
            )
        wanted = prefix.lower() if at else self.current().get(name)
        if wanted is None:
            raise UnknownFeature(
                f"{name!r} has {len(versions)} versions, and none of them was made current: "
                "no run completed, or gates fell short.",
                hint=f"Finish the run, `mmfeat promote` one of them, or name one: {_listed(versions)}.",
            )
        matches = [v for v in versions if v.fingerprint.startswith(wanted)]
        if len(matches) != 1:
            several = f"{ref!r} fits {len(matches)} versions" if matches else f"There is no version {ref!r}"
            raise UnknownFeature(
                f"{several} in {self._database.uri}.", hint=f"There are: {_listed(matches or versions)}."
            )
        return matches[0]

    def remove(self, version: FeatureVersion) -> None:
        """Forget a version; its table is the caller's to remove, and no longer found by anybody."""
        where = f"name = {quoted(version.name)} AND fingerprint = {quoted(version.fingerprint)}"
        self._database.delete(VERSIONS, where)
        chain.record(self._database, [VERSIONS])

    def promoted(self) -> dict[str, dict[str, Any]]:
        """Name to the row of ``CURRENT_SCHEMA`` on which of its versions was made current."""
        table = self._database.table(CURRENT)
        if table is None:
            return {}
        # Stores from before there was a history of it have the first two columns alone.
        known = pa.schema([field for field in CURRENT_SCHEMA if field.name in table.schema.names])
        return {row["name"]: row for row in self._database.read_small(CURRENT, known).to_pylist()}

    def _loaded(self, row: dict[str, Any]) -> FeatureVersion:
        try:
            return _parsed(row["spec"], row["fingerprint"], row["created"].astimezone(UTC))
        except ValueError as error:
            raise StoreError(
                f"This mmfeat cannot read the version {row['name']}@{row['fingerprint'][:8]} "
                f"in {self._database.uri}: {str(error).splitlines()[0]}.",
                hint="It was written by another mmfeat: use that one, or a newer one.",
            ) from error

    def _names(self) -> str:
        names = sorted({v.name for v in self.list()})
        return f"There are: {', '.join(names)}." if names else "The store holds no feature yet."


@lru_cache(maxsize=1024)
def _parsed(spec: str, fingerprint: str, created: datetime) -> FeatureVersion:
    version = FeatureVersion(FeatureSpec.model_validate_json(spec), created)
    if version.fingerprint != fingerprint:
        raise ValueError("its spec gives another fingerprint")
    return version


def _listed(versions: list[FeatureVersion]) -> str:
    """Versions with as many digits as tell them apart."""
    digits = 8
    while len({v.fingerprint[:digits] for v in versions}) < len(versions):
        digits += 4
    return ", ".join(f"{v.name}@{v.fingerprint[:digits]}" for v in versions)

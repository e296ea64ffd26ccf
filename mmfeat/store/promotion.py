"""Which version of a feature its name alone means, which it meant before, and the change of that.

All of it is one small table with a row per feature, which is replaced as a whole: versions that become
current together do so in one transaction, with the record of what they replace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from mmfeat.schemas.errors import UsageError
from mmfeat.store import chain
from mmfeat.store.database import Database
from mmfeat.store.schema import CURRENT_SCHEMA
from mmfeat.store.versions import CURRENT, FeatureVersion, Versions

# A state that no run changes.
ROLLED_BACK = "rolled back"


@dataclass(frozen=True)
class History:
    """What is recorded of one feature.

    Attributes:
        fingerprint: of the current version.
        previous: fingerprints that were current before and to which a rollback goes, the latest last.
        undone: fingerprints that a rollback took back: no run makes them current again.
    """

    fingerprint: str
    previous: tuple[str, ...] = ()
    undone: tuple[str, ...] = ()


class Promotion:
    """Makes versions current, and takes that back.

    Args:
        check_lease: raises where the process may not write.
    """

    def __init__(self, database: Database, versions: Versions, check_lease: Callable[[], None]) -> None:
        self._database = database
        self._versions = versions
        self._check_lease = check_lease

    def histories(self) -> dict[str, History]:
        """By feature; one that no version was ever promoted of is not in it."""
        there = {version.fingerprint for version in self._versions.list()}
        return {
            name: History(
                row["fingerprint"],
                tuple(f for f in row.get("previous") or () if f in there),
                tuple(f for f in row.get("undone") or () if f in there),
            )
            for name, row in self._versions.promoted().items()
        }

    def is_candidate(self, version: FeatureVersion) -> bool:
        """Whether a version is the newest of its feature and was never current."""
        newest = self._versions.list(version.name)[-1]
        was = self.histories().get(version.name, History(""))
        known = {was.fingerprint, *was.previous, *was.undone}
        return version.fingerprint == newest.fingerprint and version.fingerprint not in known

    def state_of(self, version: FeatureVersion) -> str:
        """``current``, ``candidate`` (the newest, never promoted), ``previous`` (what a rollback goes
        to), ``rolled back``, or ``old``."""
        was = self.histories().get(version.name, History(""))
        if version.fingerprint == was.fingerprint:
            return "current"
        if version.fingerprint in was.previous[-1:]:
            return "previous"
        if version.fingerprint in was.undone:
            return ROLLED_BACK
        return "candidate" if self.is_candidate(version) else "old"

    def promote(self, versions: Iterable[FeatureVersion]) -> list[FeatureVersion]:
        """Make versions of different features current, all at once; those that were not yet.

        Nothing is written where all are current already.
        """
        self._check_lease()
        histories = self.histories()
        changed = []
        for version in versions:
            was = histories.get(version.name)
            if was is None:
                histories[version.name] = History(version.fingerprint)
            elif was.fingerprint != version.fingerprint:
                histories[version.name] = _promoted(was, version.fingerprint)
            else:
                continue
            changed.append(version)
        if changed:
            self._write(histories)
        return changed

    def rollback(self, names: Sequence[str]) -> list[FeatureVersion]:
        """Make the versions current again that were so before the last promotion, all at once.

        Raises:
            UnknownFeature: there is no such feature.
            UsageError: a feature has no earlier version; nothing was changed then.
        """
        self._check_lease()
        histories = self.histories()
        for name in names:
            was = histories.get(name)
            if was is None or not was.previous:
                there = ", ".join(version.version for version in self._versions.list(name))
                if not there:
                    self._versions.resolve(name)
                raise UsageError(
                    f"{name!r} has no version to go back to in {self._database.uri}: "
                    "none was current before the present one, or it was removed.",
                    hint=f"There are: {there}. Make one current with `mmfeat promote NAME@FINGERPRINT`.",
                )
            histories[name] = History(was.previous[-1], was.previous[:-1], _with(was.undone, was.fingerprint))
        self._write(histories)
        return [self._versions.resolve(f"{name}@{histories[name].fingerprint}") for name in names]

    def _write(self, histories: Mapping[str, History]) -> None:
        rows = [
            {
                "name": name,
                "fingerprint": history.fingerprint,
                "previous": list(history.previous),
                "undone": list(history.undone),
            }
            for name, history in sorted(histories.items())
        ]
        self._database.overwrite(CURRENT, pa.Table.from_pylist(rows, schema=CURRENT_SCHEMA))
        chain.record(self._database, [CURRENT])


def _promoted(was: History, fingerprint: str) -> History:
    # A version is in the history once, at its latest place, so that the history stays short.
    previous = tuple(f for f in was.previous if f != fingerprint)
    return replace(
        was,
        fingerprint=fingerprint,
        previous=_with(previous, was.fingerprint),
        undone=tuple(f for f in was.undone if f != fingerprint),
    )


def _with(fingerprints: tuple[str, ...], one: str) -> tuple[str, ...]:
    return (*(f for f in fingerprints if f != one), one)

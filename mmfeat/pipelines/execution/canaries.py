"""The canaries of a run's versions: what is known of each, and what comes with the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract.canary import Canary, Change, changed, disagreement
from mmfeat.store import FeatureVersion, Store


class Canaries:
    """Holds the canaries of all processes against each other, and keeps those of versions that have none.

    A process that is given what is :attr:`known` compares it itself, before it computes a row.

    Args:
        store: the caller holds its writer lease.
        versions: of each feature, in the plans' order.
        accept: take what this run's models give in the place of what is known.

    Attributes:
        accepted: by feature, how its values differ from those of runs before.
    """

    def __init__(self, store: Store, versions: Sequence[FeatureVersion], accept: bool) -> None:
        self.accepted: dict[int, Change] = {}
        self._store = store
        self._versions = versions
        kept = {number: store.canary(version) for number, version in enumerate(versions)}
        read = {number: Canary.from_json(one) for number, one in kept.items() if one is not None}
        before = {number: canary for number, canary in read.items() if canary is not None}
        self._to_accept, self._known = (before, {}) if accept else ({}, before)

    @property
    def known(self) -> Mapping[int, Canary]:
        """What each process must come to."""
        return dict(self._known)

    @property
    def notices(self) -> list[str]:
        """What there is to be said of what was accepted."""
        return [_said(self._versions[number], change) for number, change in self.accepted.items()]

    def add(self, results: pa.Table) -> Iterator[str]:
        """Take in RESULTS_SCHEMA rows before they are committed; yields what is to be said.

        Raises:
            ValuesChanged: two processes of this run come to different values.
        """
        there = results.filter(pc.is_valid(results["canary"])).select(["feature", "canary"])
        for row in there.to_pylist():
            now = Canary.from_json(row["canary"])
            assert now is not None, "a process of this run made it"
            yield from self._add(row["feature"], row["canary"], now)

    def _add(self, number: int, stored: str, now: Canary) -> Iterator[str]:
        version = self._versions[number]
        if (then := self._known.get(number)) is not None:
            if change := changed(version.spec, then, now):
                raise disagreement(version.spec, change)
            return
        if (before := self._to_accept.get(number)) is not None:
            if change := changed(version.spec, before, now):
                self.accepted[number] = change
                yield _said(version, change)
            else:
                # A small turn that is no change must not become a large one, run by run.
                self._known[number] = before
                return
        self._known[number] = now
        self._store.put_canary(version, stored)


def _said(version: FeatureVersion, change: Change) -> str:
    """Of a change that a person has accepted."""
    return f"{version.version}: its model gives other values than before, which was accepted ({change})"

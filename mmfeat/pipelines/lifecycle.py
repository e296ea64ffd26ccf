"""Changes of what feature names mean, and removal of old versions; each leaves a record in the store."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from mmfeat.pipelines.record import Recording, recorded
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.validation import listed
from mmfeat.store import FeatureVersion, Gone, Retention, Store, Survey


class Lifecycle:
    """Says which versions of a store's features are current, and removes old ones."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def promote(self, versions: Sequence[str]) -> list[str]:
        """Make versions current, all at once: from then on their names alone mean them.

        Args:
            versions: ``name@fingerprint`` of different features.

        Returns:
            Those that were not current yet.

        Raises:
            UnknownFeature: there is no such version.
            UsageError: a name without a fingerprint, or two versions of one feature.
            StoreError: a run is writing to the store.
        """
        refs = listed(versions, "version")
        if bare := [ref for ref in refs if "@" not in ref]:
            raise UsageError(
                f"{bare[0]!r} names no version.", hint="Give NAME@FINGERPRINT; `mmfeat status` lists them."
            )
        found = [self._store.resolve(ref) for ref in refs]
        names = [version.name for version in found]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"One version of {twice[0]!r} can be current, and several are named.")
        with self._recorded("promote", found) as recording:
            promoted = [version.version for version in self._store.promotion.promote(found)]
            recording.report = {"promoted": promoted}
        return promoted

    def rollback(self, features: Sequence[str]) -> list[str]:
        """Undo the last promotion of features, all at once; the versions that are current then.

        Runs do not make a version current again that was rolled back; :meth:`promote` does.

        Raises:
            UnknownFeature: there is no such feature.
            UsageError: none of its versions was current before, or it was removed.
            StoreError: a run is writing to the store.
        """
        names = list(dict.fromkeys(listed(features, "feature")))
        if versions := [name for name in names if "@" in name]:
            raise UsageError(
                f"A rollback takes a feature's name, not the version {versions[0]!r}.",
                hint="`mmfeat promote NAME@FINGERPRINT` makes a given version current.",
            )
        with self._recorded("rollback", [self._store.resolve(name) for name in names]) as recording:
            current = [version.version for version in self._store.promotion.rollback(names)]
            recording.report = {"promoted": current}
        return current

    def old(self, keep: Retention) -> Survey:
        """What may go when so much is kept; changes nothing."""
        return self._store.retaining.survey(keep)

    def remove_old(self, keep: Retention) -> tuple[Survey, int]:
        """Remove, for good, what may go when so much is kept: what that was, and the bytes it freed.

        Raises:
            StoreError: a run is writing to the store.
        """
        with self._recorded("gc", [], makes_room=True) as recording:
            survey = self._store.retaining.survey(keep)
            freed = self._store.retaining.collect(survey)
            recording.report = {"removed": [one.name for one in survey.garbage], "bytes": freed}
        return survey, freed

    def prune(self) -> Gone:
        """Remove the rows of items that left their dataset; what that was.

        Raises:
            StoreError: a run is writing to the store.
        """
        with self._recorded("prune", []) as recording:
            gone = self._store.pruning.remove()
            # No ids: what is forgotten later must not live on in a record.
            recording.report = {"items": len(gone.items), "rows": gone.rows}
        return gone

    @contextmanager
    def _recorded(
        self, kind: str, versions: Sequence[FeatureVersion], makes_room: bool = False
    ) -> Iterator[Recording]:
        run_id, dataset = uuid.uuid4().hex[:12], self._store.dataset() or {}
        what: Mapping[str, Any] = {"dataset": dataset, "versions": [v.version for v in versions]}
        with (
            self._store.lease(f"{kind} {run_id}"),
            recorded(self._store, kind, run_id, datetime.now(UTC), what, makes_room) as recording,
        ):
            yield recording

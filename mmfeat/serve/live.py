"""The store as a service sees it: one pinned state at a time, and the next one when there is one."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from datetime import UTC, datetime
from functools import cached_property
from urllib.parse import quote

import pyarrow as pa

from mmfeat.feature_store import FeatureStore
from mmfeat.queries import QueryEncoders
from mmfeat.schemas.errors import StoreError, UsageError
from mmfeat.status import FeatureStatus
from mmfeat.store import Snapshot, Store

_KEPT_SNAPSHOTS = 4


class UnknownSnapshot(UsageError):
    """A snapshot that the store does not have."""


class View:
    """One state of the store. Everything of one answer is read from one view.

    Attributes:
        features: what is read.
        opened: when this state was first looked at, UTC.
    """

    def __init__(self, store: Store, encoders: QueryEncoders) -> None:
        self._store, self._encoders = store, encoders
        self.features = FeatureStore(store, encoders)
        self.opened = datetime.now(UTC)

    def changed(self) -> bool:
        """Whether the store has moved on since."""
        return self._store.changed()

    def at(self, snapshot: str) -> View:
        """The state that a snapshot names."""
        return View(self._store.at(snapshot), self._encoders)

    @cached_property
    def current(self) -> dict[str, str]:
        """Name to the ``name@fingerprint`` that it means."""
        return {name: self._store.resolve(name).version for name in sorted(self._store.current())}

    @cached_property
    def status(self) -> list[FeatureStatus]:
        """Every feature version with its counts; counted once."""
        return self.features.status()

    @cached_property
    def n_items(self) -> int:
        """Items in the catalog."""
        return len(self.features.ids)

    @cached_property
    def media_buckets(self) -> list[str]:
        """Buckets whose media may be shown."""
        return self._store.media_buckets()

    @cached_property
    def items(self) -> pa.Table:
        """The catalog; read once."""
        return self.features.items.combine_chunks()


class LiveStore:
    """Gives views of a store. May be used from several threads.

    Attributes:
        checked: when the store was last looked at with success, UTC.
        error: why it could not be looked at, None while it can.

    Raises:
        StoreError: there is no store at ``uri``.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.error: str | None = None
        self.checked = datetime.now(UTC)
        self._encoders = QueryEncoders()
        self._refreshing, self._snapshots_lock = threading.Lock(), threading.Lock()
        self._snapshots: OrderedDict[str, tuple[Snapshot, View]] = OrderedDict()
        self._view = self._opened()
        self._places = _spellings(self._view.features.uri)

    @property
    def refreshing(self) -> bool:
        """Whether the store is being looked at, which may hang."""
        return self._refreshing.locked()

    def view(self, snapshot: str | None = None) -> View:
        """The present state, or that of a snapshot.

        Raises:
            UnknownSnapshot: there is none of that name.
        """
        view = self._view
        if snapshot is None:
            return view
        found = {s.name: s for s in view.features.snapshots()}
        if snapshot not in found:
            there = f"There are: {', '.join(found)}." if found else "There is none yet."
            raise UnknownSnapshot(f"There is no snapshot {snapshot!r}.", hint=there)
        return self._snapshot_view(found[snapshot])

    def unplaced(self, text: str) -> str:
        """``text`` without where the store lies, which is no caller's business."""
        for place in self._places:
            text = text.replace(place, "the store")
        return text

    def refresh(self) -> None:
        """Move on to the store's latest state if it has one.

        Raises:
            StoreError: the store cannot be read; views given before go on to be given.
        """
        with self._refreshing:
            try:
                if self._has_changed():
                    self._view = self._opened()
            except StoreError as error:
                self.error = error.message
                raise
            self.error, self.checked = None, datetime.now(UTC)

    def _has_changed(self) -> bool:
        try:
            return self._view.changed()
        except StoreError:
            return True  # a table is gone; what is there now shows on opening

    def _opened(self) -> View:
        store = Store.open(self.uri)
        store.pin()
        # A version may become current between the two tables' reading.
        while not set(store.current().values()) <= {v.fingerprint for v in store.versions()}:
            store.refresh()
            store.pin()
        view = View(store, self._encoders)
        # Read here, in a thread: /metrics tells it from the event loop, which must wait for no store.
        view.current  # noqa: B018
        return view

    def _snapshot_view(self, snapshot: Snapshot) -> View:
        with self._snapshots_lock:
            kept, view = self._snapshots.get(snapshot.name, (None, None))
            # The name may have been deleted and given again.
            if view is None or kept != snapshot:
                view = self._view.at(snapshot.name)
                self._snapshots[snapshot.name] = (snapshot, view)
                if len(self._snapshots) > _KEPT_SNAPSHOTS:
                    self._snapshots.popitem(last=False)
            self._snapshots.move_to_end(snapshot.name)
            return view


def _spellings(uri: str) -> list[str]:
    """How errors may write where a store is, the longest first. Lance leaves out the first slash."""
    places = {uri} if "://" in uri else {uri, os.path.realpath(uri)}
    places |= {place.partition("://")[2].strip("/") or place.strip("/") for place in places}
    places |= {quote(place) for place in places}
    return sorted(places - {""}, key=len, reverse=True)


class Refresher:
    """A thread that refreshes a live store until it is stopped."""

    def __init__(self, live: LiveStore, seconds: float) -> None:
        self._live, self._seconds = live, seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go, name="mmfeat-refresh", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, without waiting for a store that does not answer."""
        self._stop.set()

    def _go(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self._live.refresh()
            except StoreError:
                continue  # said by LiveStore.error, and so by /readyz

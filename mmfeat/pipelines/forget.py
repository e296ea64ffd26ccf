"""Forgetting items for good: from a store with all its versions and snapshots, and from the URL cache."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmfeat.extract.media.webcache import WebCache, default_cache
from mmfeat.schemas.catalog import ITEM_ID, media_columns
from mmfeat.schemas.errors import UnknownItems, UsageError
from mmfeat.schemas.notebook import ShortRepr
from mmfeat.schemas.validation import listed
from mmfeat.store import Exported, Store, Tombstone


@dataclass(frozen=True, repr=False)
class ForgetReport(ShortRepr):
    """What :func:`forget` did.

    Attributes:
        forgotten: the ids, those included that an earlier call was cut short with.
        snapshots: names of the snapshots that held one of them and were rewritten without it.
        urls: how many addresses were removed from the URL cache.
        stale_exports: exports made of the store that hold one of them, or may.
    """

    store: str
    forgotten: list[str]
    reason: str
    snapshots: list[str]
    urls: int
    stale_exports: list[Exported]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)


@dataclass(frozen=True, repr=False)
class ForgottenReport(ShortRepr):
    """What :func:`verify` found.

    Attributes:
        forgotten: every tombstone, oldest first.
        pending: ids whose removal was begun and not finished.
        remains: table to the ids that one of its files still holds.
        stale_exports: exports that hold a forgotten item, or may.
    """

    store: str
    forgotten: list[Tombstone]
    pending: list[str]
    remains: dict[str, list[str]]
    stale_exports: list[Exported]

    @property
    def ok(self) -> bool:
        """Whether nothing is left in the store."""
        return not self.pending and not self.remains

    def to_dict(self) -> dict[str, Any]:
        """Plain types."""
        return {**asdict(self), "ok": self.ok}


def forget(store: Store, ids: Sequence[str], reason: str, cache: Path | None = None) -> ForgetReport:
    """Remove items from the store and from the URL cache, for good, and keep them from coming back.

    A tombstone with the id and the reason is written first. A process that is killed after that leaves
    the rest to the next call of this function or the next run.

    Args:
        ids: items of the store, or ones that were forgotten before.
        cache: the URL cache's folder; the user's default when None.

    Raises:
        UsageError: no reason is given, or a string for the list of ids.
        UnknownItems: an id that the store does not hold; nothing was forgotten then.
        StoreError: another process is writing, or the removal failed: it goes on with the next call.
    """
    if not reason.strip():
        raise UsageError("Forgetting needs a reason.", hint="For example --reason 'taken down by its owner'.")
    began, wanted = time.monotonic(), list(dict.fromkeys(listed(ids, "item id")))
    with store.lease(owner="forget"):
        _refuse_unknown(store, wanted)
        resumed = any(not tombstone.done for tombstone in store.forgetting.tombstones())
        store.forgetting.begin(wanted, reason)
        return _remove(store, reason, cache, began, resumed)


def finish(store: Store, cache: Path | None) -> ForgetReport | None:
    """Finish a removal that was cut short, under the caller's lease; None if there is none."""
    pending = [tombstone for tombstone in store.forgetting.tombstones() if not tombstone.done]
    return _remove(store, pending[0].reason, cache, time.monotonic(), resumed=True) if pending else None


def verify(store: Store) -> ForgottenReport:
    """Look for forgotten items in every file of every table of the store."""
    tombstones = store.forgetting.tombstones()
    return ForgottenReport(
        store=store.uri,
        forgotten=tombstones,
        pending=[t.item_id for t in tombstones if not t.done],
        remains=store.forgetting.remains([t.item_id for t in tombstones]),
        stale_exports=[exported for exported in store.exports.list() if exported.stale],
    )


def _remove(store: Store, reason: str, cache: Path | None, began: float, resumed: bool) -> ForgetReport:
    ids = [tombstone.item_id for tombstone in store.forgetting.tombstones() if not tombstone.done]
    # As long as the catalogs still tell what their addresses are.
    urls = _urls(store, set(ids))
    kept = WebCache(cache or default_cache(), 0)
    for url in urls:
        kept.forget(url)
    stale = [exported for exported in store.exports.list() if exported.may_hold(ids)]
    store.exports.mark_stale([exported.export_id for exported in stale])
    snapshots = store.forgetting.finish(resumed)
    return ForgetReport(
        store=store.uri,
        forgotten=ids,
        reason=reason,
        snapshots=[snapshot.name for snapshot in snapshots],
        urls=len(urls),
        stale_exports=stale,
        seconds=time.monotonic() - began,
    )


def _refuse_unknown(store: Store, ids: Sequence[str]) -> None:
    known = {tombstone.item_id for tombstone in store.forgetting.tombstones()}
    known.update(store.catalog()["item_id"].to_pylist())
    for version in store.versions():
        if known.issuperset(ids):
            return
        known.update(store.ledger(version)["item_id"].to_pylist())
    if unknown := [item_id for item_id in ids if item_id not in known]:
        raise UnknownItems(unknown, store.uri)


def _urls(store: Store, ids: set[str]) -> set[str]:
    """Addresses of the items' media, now and in every snapshot."""
    found: set[str] = set()
    for state in (store, *(store.at(snapshot.name) for snapshot in store.snapshots())):
        items = state.catalog()
        media = media_columns(items.schema)
        for row in items.select([ITEM_ID, *media]).to_pylist():
            if row[ITEM_ID] in ids:
                places = (place for name in media for place in _listed(row[name]))
                found.update(place for place in places if place.startswith("http"))
    return found


def _listed(cell: str | list[str] | None) -> list[str]:
    """The locations in a cell of a catalog."""
    if cell is None:
        return []
    return [cell] if isinstance(cell, str) else cell

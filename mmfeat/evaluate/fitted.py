"""Did a stored feature that was fitted see the items that are held out here?"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from mmfeat.evaluate.splits import Split
from mmfeat.store import FeatureVersion, Store


def held_out(split: Split) -> np.ndarray:
    """bool ``[n_items]``: items that were taken, and by nobody in what is learned from."""
    held: np.ndarray = (split.train.popularity == 0) & (split.test.popularity > 0)
    return held


def fitted_note(store: Store, version: FeatureVersion, ids: Sequence[str], held: np.ndarray) -> str:
    """How many of the held-out items a version was fitted to, in words; empty if there are none, or where
    it was not fitted to the store's items.

    Args:
        ids: of the items that are judged.
        held: bool ``[ids]``.
    """
    out = int(held.sum())
    if version.spec.weights.origin != "fitted" or not out:
        return ""
    if version.spec.form == "codes":
        return _of_codes(
            _learnt(store, version), {one for one, is_held in zip(ids, held, strict=True) if is_held}
        )
    kept = store.codebooks(version.fingerprint)
    many = kept[1].get("fitted_on") if kept is not None else None
    count = "items" if many is None else f"{many:,} items"
    if said := version.spec.options.get("split"):
        return (
            f"It was fitted to {count}, those for training by its own split, {said}; {out:,} are held out "
            "here, and it may have seen some of these."
        )
    return f"It was fitted to all items that had vectors then ({count}); {out:,} are held out here."


def _of_codes(learnt: set[str], held: set[str]) -> str:
    seen = len(learnt & held)
    return f"It was fitted to {len(learnt):,} items, {seen:,} of which are held out here." if seen else ""


def _learnt(store: Store, version: FeatureVersion) -> set[str]:
    """Items that the codebooks may have learnt from."""
    rows = store.facts(version)
    told = zip(rows["item_id"].to_pylist(), rows["facts"].to_pylist(), strict=True)
    return {item_id for item_id, facts in told if json.loads(facts).get("fitted")}

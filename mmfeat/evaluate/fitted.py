"""Was a stored feature, or one that it is made of, fitted to items that are held out here?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from mmfeat.evaluate.splits import Split
from mmfeat.store import FeatureVersion, Store


def held_out(split: Split) -> np.ndarray:
    """bool ``[n_items]``: items that were taken, and by nobody in what is learned from."""
    held: np.ndarray = (split.train.popularity == 0) & (split.test.popularity > 0)
    return held


def fitted_note(store: Store, version: FeatureVersion, ids: Sequence[str], held: np.ndarray) -> str:
    """How many of the held-out items a version was fitted to, or what it is made of, in words; empty if there
    are none, or where nothing was fitted to the store's items.

    Args:
        ids: of the items that are judged.
        held: bool ``[ids]``.
    """
    if not held.any():
        return ""
    known = {one.fingerprint: one for one in store.versions()}
    words = [_of_one(store, version, "It", ids, held)]
    for fingerprint, name in _above(version, known).items():
        if (one := known.get(fingerprint)) is None:
            words.append(
                f"It comes from {name}@{fingerprint[:8]}, which is not in the store: what that was fitted "
                "to is not known."
            )
        else:
            words.append(_of_one(store, one, f"It comes from {one.version}, which", ids, held))
    return " ".join(filter(None, words))


def _above(version: FeatureVersion, known: Mapping[str, FeatureVersion]) -> dict[str, str]:
    """All that a version is made of, fingerprint to name, the nearest first."""
    found: dict[str, str] = {}
    asked = [version]
    while asked:
        for name, fingerprint in asked.pop(0).spec.upstreams.items():
            if fingerprint not in found:
                found[fingerprint] = name
                asked += [known[fingerprint]] if fingerprint in known else []
    return found


def _of_one(store: Store, version: FeatureVersion, subject: str, ids: Sequence[str], held: np.ndarray) -> str:
    if not version.spec.is_fitted:
        return ""
    if version.spec.form == "codes":
        learnt, sought = _learnt(store, version), {ids[k] for k in np.flatnonzero(held).tolist()}
        seen = len(learnt & sought)
        words = f"{subject} was fitted to {len(learnt):,} items, {seen:,} of which are held out here."
        return words if seen else ""
    kept = store.codebooks(version.fingerprint)
    if kept is not None and _is_empty(kept[0]):
        return ""
    many = kept[1].get("fitted_on") if kept is not None else None
    out = int(held.sum())
    count = "items" if many is None else f"{many:,} items"
    if said := version.spec.options.get("split"):
        return (
            f"{subject} was fitted to {count}, those for training by its own split, {said}; {out:,} are "
            "held out here, and it may have seen some of these."
        )
    return f"{subject} was fitted to all items that had vectors then ({count}); {out:,} are held out here."


def _is_empty(state: bytes) -> bool:
    """Whether nothing was learnt: a safetensors file without an array. It begins with the length of its
    header, which names them."""
    length = int.from_bytes(state[:8], "little")
    return not set(json.loads(state[8 : 8 + length])) - {"__metadata__"}


def _learnt(store: Store, version: FeatureVersion) -> set[str]:
    """Items that the codebooks may have learnt from."""
    rows = store.facts(version)
    told = zip(rows["item_id"].to_pylist(), rows["facts"].to_pylist(), strict=True)
    return {item_id for item_id, facts in told if json.loads(facts).get("fitted")}

"""What changed between two states of a store: items, specs, contents, and how far vectors moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.schemas.featureset import OK
from mmfeat.schemas.spec import FeatureSpec

if TYPE_CHECKING:
    from mmfeat.store.store import Store
    from mmfeat.store.versions import FeatureVersion

QUANTILES = (0.01, 0.05, 0.25, 0.5)

# Items whose vectors are read at a time: 100 MiB a side of 768 float32.
_BLOCK = 32_768


@dataclass(frozen=True)
class Drift:
    """Cosine between an item's vector before and after, over the items that have both.

    Attributes:
        items: how many were compared.
        no_direction: items left out because one of their vectors is all zero.
        quantiles: linear interpolation, as ``np.quantile``; keys such as ``0.05``.
    """

    items: int
    no_direction: int
    mean: float
    minimum: float
    quantiles: dict[str, float]


@dataclass(frozen=True)
class FeatureDiff:
    """What changed in one feature, between the versions that its name alone means.

    Attributes:
        before, after: ``name@fingerprint``; None if there is no such feature.
        spec: field of the spec, with dots, to ``(before, after)``; empty if the specs are equal.
        added, gone: items with a row only after, only before; sorted.
        changed: items whose content hash differs; sorted.
        status: ``failed -> ok`` and the like to the number of items.
        drift: None if vectors cannot be compared; ``no_drift`` says why.
    """

    name: str
    before: str | None
    after: str | None
    spec: dict[str, tuple[Any, Any]]
    added: list[str]
    gone: list[str]
    changed: list[str]
    status: dict[str, int]
    drift: Drift | None
    no_drift: str = ""


@dataclass(frozen=True)
class StoreDiff:
    """What :func:`diff` found.

    Attributes:
        added, gone: items that only the later catalog has, or only the earlier one; in its order. What left
            its dataset is not in a catalog any more.
        features: by name.
    """

    added: list[str]
    gone: list[str]
    features: list[FeatureDiff]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def diff(before: Store, after: Store) -> StoreDiff:
    """Compare the catalogs and every feature's current version of two states of a store."""
    old, new = (pa.chunked_array([store.present_ids()]) for store in (before, after))
    was, is_ = before.current(), after.current()
    return StoreDiff(
        added=_without(new, old),
        gone=_without(old, new),
        features=[
            _feature(
                name,
                before,
                before.resolve(name) if name in was else None,
                after,
                after.resolve(name) if name in is_ else None,
            )
            for name in sorted({*was, *is_})
        ],
    )


def spec_changes(before: FeatureSpec, after: FeatureSpec) -> dict[str, tuple[Any, Any]]:
    """What decides values and differs, with dots; None if it is not set.

    Options are called as in a job file, inputs by what they read: ``normalize``, ``output.dims``,
    ``inputs.cover.prepare.view.height``.
    """
    old, new = (dict(_flat(_fields(spec))) for spec in (before, after))
    return {k: (old.get(k), new.get(k)) for k in sorted({*old, *new}) if old.get(k) != new.get(k)}


def cosines(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Row by row cosine of two ``[n, dims]`` arrays, float64 ``[n]``; NaN if a row is all zero."""
    a, b = before.astype(np.float64), after.astype(np.float64)
    dots, squares = (a * b).sum(axis=1), (a * a).sum(axis=1) * (b * b).sum(axis=1)
    # Of equal rows this is exactly 1: the root of a square is its base.
    with np.errstate(invalid="ignore"):
        return np.asarray(np.clip(dots / np.sqrt(squares), -1.0, 1.0))


def _feature(
    name: str, before: Store, old: FeatureVersion | None, after: Store, new: FeatureVersion | None
) -> FeatureDiff:
    was, is_ = _ledger(before, old), _ledger(after, new)
    both = was.join(is_, "item_id", right_suffix=" after", join_type="inner").sort_by("item_id")
    changed = pc.not_equal(both["content_hash"], both["content_hash after"])
    moves = Counter(
        f"{a} -> {b}"
        for a, b in zip(both["status"].to_pylist(), both["status after"].to_pylist(), strict=True)
        if a != b
    )
    drift, why = None, "it is in one of the two only"
    if old is not None and new is not None:
        why = _incomparable(old.spec, new.spec)
        if not why:
            have = pc.and_(pc.equal(both["status"], OK), pc.equal(both["status after"], OK))
            found = _cosines_of(before, old, after, new, both["item_id"].filter(have).to_pylist())
            drift, why = _summary(found), "" if len(found) else "no item has a vector in both"
    return FeatureDiff(
        name=name,
        before=None if old is None else old.version,
        after=None if new is None else new.version,
        spec={} if old is None or new is None else spec_changes(old.spec, new.spec),
        added=sorted(_without(is_["item_id"], was["item_id"])),
        gone=sorted(_without(was["item_id"], is_["item_id"])),
        changed=both["item_id"].filter(changed.fill_null(False)).to_pylist(),
        status=dict(sorted(moves.items())),
        drift=drift,
        no_drift=why,
    )


def _ledger(store: Store, version: FeatureVersion | None) -> pa.Table:
    names = ["item_id", "status", "content_hash"]
    if version is None:
        return pa.schema([(name, pa.string()) for name in names]).empty_table()
    return store.ledger(version).select(names)


def _incomparable(old: FeatureSpec, new: FeatureSpec) -> str:
    """Why two versions' values have no cosine; empty if they have one."""
    for spec in (old, new):
        if spec.kind != "vector":
            return f"{spec.version} is of the kind {spec.kind}"
    return "" if old.dims == new.dims else f"{old.version} has {old.dims} dims, {new.version} {new.dims}"


def _cosines_of(
    before: Store, old: FeatureVersion, after: Store, new: FeatureVersion, ids: list[str]
) -> np.ndarray:
    """Cosine per item of ``ids``, read block by block."""
    parts = [np.empty(0)]
    for start in range(0, len(ids), _BLOCK):
        some = ids[start : start + _BLOCK]
        a = before.lookup(some, [old.version], unknown="mask")[old.name].matrix
        b = after.lookup(some, [new.version], unknown="mask")[new.name].matrix
        parts.append(cosines(a, b))
    return np.concatenate(parts)


def _summary(found: np.ndarray) -> Drift | None:
    known = found[~np.isnan(found)]
    if not len(known):
        return None
    quantiles = {str(q): float(np.quantile(known, q)) for q in QUANTILES}
    return Drift(len(known), len(found) - len(known), float(known.mean()), float(known.min()), quantiles)


def _without(ids: pa.ChunkedArray, others: pa.ChunkedArray) -> list[str]:
    known = pc.is_in(ids, value_set=others.combine_chunks())
    found: list[str] = ids.filter(pc.invert(known)).to_pylist()
    return found


def _fields(spec: FeatureSpec) -> dict[str, Any]:
    """What decides values, the same for specs of all formats."""
    body = spec.model_dump(mode="json", exclude={"name", "inputs", "options"})
    body["weights"].pop("location")
    inputs = {one.source: one.identity() for one in spec.inputs}
    order = {} if len(inputs) == 1 else {"order": list(inputs)}
    return {**body, **spec.options, "inputs": {**inputs, **order}}


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item

"""What the pages say of the store: prepared here, drawn by the templates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmfeat.queries import reads
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import FeatureColumn, FeatureSet
from mmfeat.serve.live import View
from mmfeat.serve.ui import catalog
from mmfeat.serve.ui.catalog import Item
from mmfeat.status import FeatureStatus

NEIGHBOURS = 6
_SEARCHABLE = ("vector", "tokens")
STATES = ("ok", "missing", "failed", "absent")


@dataclass(frozen=True)
class Neighbour:
    """One item that is near another, or a query."""

    item: Item
    score: float


@dataclass(frozen=True)
class Neighbours:
    """The items nearest by one feature, or why there are none; and how many of them a search finds."""

    version: str
    found: tuple[Neighbour, ...] = ()
    why_none: str = ""
    recall: str = "exact"


@dataclass(frozen=True)
class Value:
    """What one feature holds for an item."""

    version: str
    kind: str
    is_text: bool
    status: str
    reason: str
    text: str = ""


def current(view: View) -> list[FeatureStatus]:
    """The current version of every feature."""
    return [feature for feature in view.status if feature.current]


def searchable(view: View) -> list[FeatureStatus]:
    """Current features that have distances."""
    return [feature for feature in current(view) if feature.kind in _SEARCHABLE]


def chosen(view: View, asked: str, modality: str) -> str:
    """The feature that a form begins with: the one asked for, else the first that can read such a query."""
    versions = [feature.version for feature in searchable(view)]
    able = [version for version in versions if reads(view.features.spec(version), modality)]
    return asked or next(iter([*able, *versions]), "")


def shares(feature: FeatureStatus) -> list[tuple[str, float, float]]:
    """``(status, where its part of a bar starts, its width)`` in percent."""
    counts = [getattr(feature, state) for state in STATES]
    total = sum(counts) or 1
    return [
        (state, 100 * sum(counts[:at]) / total, 100 * counts[at] / total) for at, state in enumerate(STATES)
    ]


def values(view: View, item_id: str) -> tuple[FeatureSet, list[Value]]:
    """All current features of an item."""
    found = view.features.lookup([item_id])
    return found, [_value(column) for column in found.values()]


def neighbours(view: View, found: FeatureSet) -> list[Neighbours]:
    """The nearest items of a single item, per current feature that has distances."""
    near = [column for column in found.values() if column.spec.kind in _SEARCHABLE]
    return [_near(view, found.ids[0], column) for column in near]


def search(view: View, feature: str, k: int, **query: Any) -> Neighbours:
    """The items nearest to a query: ``text``, ``item`` or ``image``."""
    version = view.features.spec(feature).version
    index = view.features.vector_index(version)
    recall = "exact" if index is None else str(index)
    return Neighbours(version, _hits(view, version, k, **query), recall=recall)


def _value(column: FeatureColumn) -> Value:
    spec, text = column.spec, ""
    if column.mask[0]:
        if spec.form == "text":
            text = str(column.texts[0])
        elif spec.form == "codes":
            text = " ".join(map(str, column.matrix[0].tolist()))
        elif (vectors := column.tokens[0] if spec.form == "tokens" else None) is not None:
            text = " x ".join(map(str, vectors.shape)) + f" {spec.store_dtype}"
        else:
            text = " x ".join(map(str, spec.shape)) + f" {spec.store_dtype}"
    is_text = spec.form == "text"
    return Value(spec.version, spec.kind, is_text, str(column.status[0]), str(column.reason[0]), text)


def _near(view: View, item_id: str, column: FeatureColumn) -> Neighbours:
    version = column.spec.version
    if not column.mask[0]:
        return Neighbours(version, why_none=str(column.reason[0]) or f"The item is {column.status[0]} here.")
    try:
        return Neighbours(version, _hits(view, version, NEIGHBOURS, item=item_id))
    except UsageError as error:
        return Neighbours(version, why_none=error.message)


def _hits(view: View, version: str, k: int, **query: Any) -> tuple[Neighbour, ...]:
    hits = view.features.search(version, k=k, **query)
    items = {item.item_id: item for item in catalog.some(view.items, [hit.item_id for hit in hits])}
    return tuple(Neighbour(items.get(h.item_id, Item(h.item_id, None)), h.score) for h in hits)

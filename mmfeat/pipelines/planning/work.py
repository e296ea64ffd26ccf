"""Units of work: each a content to compute once, with the features and the items that want it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.pipelines.planning.contents import Sources
from mmfeat.schemas.catalog import TEXT_SOURCES
from mmfeat.schemas.ids import whole
from mmfeat.schemas.spec import FeatureSpec

UNITS_SCHEMA = pa.schema(
    [
        pa.field("unit", pa.int64()),
        pa.field("item_id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("payload", pa.string()),  # a media location or a text
        pa.field("stamp", pa.string()),
        pa.field("features", pa.list_(pa.int32())),
        # What is read beside the payload: the item's texts that prompts of the unit's features name.
        pa.field("texts", pa.struct([pa.field(source, pa.string()) for source in TEXT_SOURCES])),
    ]
)

# Items whose content equals a unit's: each gets copies of the unit's rows of ``features``.
TWINS_SCHEMA = pa.schema(
    [
        pa.field("unit", pa.int64()),
        pa.field("item_id", pa.string()),
        pa.field("stamp", pa.string()),
        pa.field("features", pa.list_(pa.int32())),
    ]
)


def count_wanted(units: pa.Table) -> dict[int, int]:
    """How many UNITS_SCHEMA rows want each feature; of those that any wants."""
    counts = pc.value_counts(pc.list_flatten(units["features"]))
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))


# Clips are the longest work. Texts follow, by length, so that batches pad little.
_MEDIA_ORDER = ("video", "audio", "cover")


@dataclass(frozen=True)
class _Part:
    """Units of one source that were added together: the number of the first, their items, what they read."""

    source: str
    first: int
    items: np.ndarray
    payload: pa.Array


class Units:
    """The units of a plan under construction, by number in the order they were added.

    Args:
        sources: of the catalog; an item is its position there.
        specs: the features, an index into which is a feature's number.
    """

    def __init__(self, sources: Sources, specs: Sequence[FeatureSpec]) -> None:
        self._sources = sources
        self._specs = specs
        self._parts: list[_Part] = []
        self._count = 0

    def add(self, source: str, items: np.ndarray, payload: pa.Array) -> np.ndarray:
        """A new unit of each item's content; gives their numbers."""
        self._parts.append(_Part(source, self._count, items, payload))
        self._count += len(items)
        return np.arange(self._count - len(items), self._count, dtype=np.int32)

    def finished(self, assigned: Sequence[np.ndarray]) -> tuple[pa.Table, np.ndarray, pa.Table]:
        """The units in the order of processing, with the features that any item wants of them.

        Args:
            assigned: per feature, for each item the number of the unit that computes its value, -1 for none.

        Returns:
            UNITS_SCHEMA rows; ``[features, units]`` bool, what each unit's own item lacks; TWINS_SCHEMA rows
            in the order of their units.
        """
        ordered = _in_order(self._parts)
        rank = np.empty(self._count, dtype=np.int64)
        rank[np.concatenate([_NONE, *(group.numbers for group in ordered)])] = np.arange(self._count)
        items = np.concatenate([_NONE, *(group.items for group in ordered)])
        own = np.zeros((len(self._specs), self._count), dtype=bool)
        wanted = np.zeros_like(own)
        pairs = []
        for number, unit_of in enumerate(assigned):
            takers = np.flatnonzero(unit_of >= 0)
            units = rank[unit_of[takers]]
            is_own = items[units] == takers
            wanted[number, units] = True
            own[number, units[is_own]] = True
            pairs.append((units[~is_own], takers[~is_own]))
        return self._table(ordered, items, own, wanted), own, self._twins(ordered, pairs)

    def _table(
        self, ordered: Sequence[_Group], items: np.ndarray, own: np.ndarray, wanted: np.ndarray
    ) -> pa.Table:
        columns = {
            "unit": pa.array(np.arange(self._count)),
            "item_id": taken(self._sources.ids, items),
            "source": _chunked(pa.repeat(group.source, len(group.items)) for group in ordered),
            "payload": _chunked(group.payload for group in ordered),
            "stamp": _chunked(self._sources.stamps(group.source, group.items) for group in ordered),
            "features": _lists(wanted),
            "texts": self._texts(items, own),
        }
        return pa.table(columns, schema=UNITS_SCHEMA)

    def _texts(self, items: np.ndarray, own: np.ndarray) -> pa.Array:
        kind = UNITS_SCHEMA.field("texts").type
        read = {
            name: [n for n, spec in enumerate(self._specs) if name in spec.texts] for name in TEXT_SOURCES
        }
        if not any(read.values()):
            return pa.nulls(self._count, kind)
        reads = {name: own[readers].any(axis=0) for name, readers in read.items()}
        texts = [
            self._sources.of(name).payload.take(pa.array(items, mask=~reads[name]))
            if read[name]
            else pa.nulls(self._count, pa.string())
            for name in TEXT_SOURCES
        ]
        none = ~np.logical_or.reduce(list(reads.values()))
        return pa.StructArray.from_arrays(texts, fields=list(kind), mask=pa.array(none))

    def _twins(self, ordered: Sequence[_Group], pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> pa.Table:
        """Of ``(units, items)`` of each feature."""
        n_items = max(1, len(self._sources.ids))
        keys = [units * n_items + items for units, items in pairs]
        each = np.unique(np.concatenate([_NONE, *keys]))
        wanted = np.zeros((len(pairs), len(each)), dtype=bool)
        for number, key in enumerate(keys):
            wanted[number, np.searchsorted(each, key)] = True
        units, items = each // n_items, each % n_items
        ends = np.searchsorted(units, np.cumsum([len(group.items) for group in ordered]))
        stamps = _chunked(
            self._sources.stamps(group.source, part)
            for group, part in zip(ordered, np.split(items, ends), strict=False)
        )
        columns = [pa.array(units), self._sources.ids.take(pa.array(items)), stamps, _lists(wanted)]
        return pa.table(columns, schema=TWINS_SCHEMA)


_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class _Group:
    """All units of one source, in the order of processing: as :class:`_Part`, with each unit's number."""

    source: str
    numbers: np.ndarray
    items: np.ndarray
    payload: pa.Array


def _in_order(parts: Sequence[_Part]) -> list[_Group]:
    def key(source: str) -> tuple[int, str]:
        known = source in _MEDIA_ORDER
        return (_MEDIA_ORDER.index(source) if known else len(_MEDIA_ORDER), source)

    names = sorted({part.source for part in parts}, key=key)
    return [_group(name, [part for part in parts if part.source == name]) for name in names]


def _group(source: str, parts: Sequence[_Part]) -> _Group:
    numbers = np.concatenate([part.first + np.arange(len(part.items)) for part in parts])
    items = np.concatenate([part.items for part in parts])
    payload = whole(_chunked(part.payload for part in parts))
    if source in _MEDIA_ORDER:
        return _Group(source, numbers, items, payload)
    by_length = np.argsort(pc.utf8_length(payload).to_numpy(), kind="stable")
    return _Group(source, numbers[by_length], items[by_length], taken(payload, by_length))


def taken(column: pa.Array, rows: np.ndarray) -> pa.Array:
    """The values at ``rows``; the column itself, without a copy, where these are all of it in order."""
    if len(rows) == len(column) and np.array_equal(rows, np.arange(len(rows))):
        return column
    return column.take(pa.array(rows))


def _chunked(arrays: Iterable[pa.Array]) -> pa.ChunkedArray:
    return pa.chunked_array(list(arrays), pa.string())


def _lists(members: np.ndarray) -> pa.ListArray:
    """``[numbers, n]`` bool as n lists of the numbers that are in each."""
    offsets = np.concatenate([[0], np.cumsum(np.count_nonzero(members, axis=0))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.nonzero(members.T)[1].astype(np.int32)))

"""Units of work: each a content to compute once, with the features and the items that want it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from mmfeat.schemas.catalog import TEXT_SOURCES

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


@dataclass(frozen=True)
class Twin:
    """An item whose content equals a unit's: it gets copies of the unit's rows."""

    item_id: str
    stamp: str
    features: frozenset[int]


@dataclass
class _Unit:
    item_id: str
    source: str
    payload: str
    stamp: str
    texts: dict[str, str]
    features: set[int]
    own: set[int]
    twins: dict[str, tuple[str, set[int]]]


class Units:
    """The units of a plan under construction, by number in the order they were added."""

    def __init__(self) -> None:
        self._units: list[_Unit] = []

    def add(
        self, item_id: str, source: str, payload: str, stamp: str, texts: dict[str, str], features: set[int]
    ) -> int:
        """A new unit of the item's content; gives its number."""
        self._units.append(
            _Unit(item_id, source, payload, stamp, texts, set(features), set(features), twins={})
        )
        return len(self._units) - 1

    def add_twin(self, unit: int, item_id: str, stamp: str, features: set[int]) -> None:
        """Another item of the same content, which wants ``features``."""
        of_unit = self._units[unit]
        of_unit.features |= features
        of_unit.twins.setdefault(item_id, (stamp, set()))[1].update(features)

    def join(self, unit: int, item_id: str, feature: int) -> None:
        """A feature that reads what an item already gets from the unit: it follows in the same pass."""
        of_unit = self._units[unit]
        of_unit.features.add(feature)
        if of_unit.item_id == item_id:
            of_unit.own.add(feature)
        if item_id in of_unit.twins:
            of_unit.twins[item_id][1].add(feature)

    def finished(self) -> tuple[pa.Table, list[frozenset[int]], dict[int, list[Twin]]]:
        """In the order of processing: UNITS_SCHEMA rows, per unit what its own item lacks, and twins."""
        ordered = [self._units[k] for k in _processing_order(self._units)]
        table = pa.table(
            [
                pa.array(range(len(ordered)), pa.int64()),
                *(
                    pa.array([getattr(unit, column) for unit in ordered], pa.string())
                    for column in ("item_id", "source", "payload", "stamp")
                ),
                pa.array([sorted(unit.features) for unit in ordered], pa.list_(pa.int32())),
                pa.array([unit.texts or None for unit in ordered], UNITS_SCHEMA.field("texts").type),
            ],
            schema=UNITS_SCHEMA,
        )
        own = [frozenset(unit.own) for unit in ordered]
        twins = {
            position: [Twin(i, stamp, frozenset(features)) for i, (stamp, features) in unit.twins.items()]
            for position, unit in enumerate(ordered)
            if unit.twins
        }
        return table, own, twins


def _processing_order(units: Sequence[_Unit]) -> list[int]:
    """Clips first (the longest work), then covers, then texts by length, so batches pad little."""
    rank = {source: k for k, source in enumerate(("video", "audio", "cover"))}

    def key(k: int) -> tuple[int, str, int]:
        source = units[k].source
        is_media = source in rank
        return (rank.get(source, len(rank)), source, 0 if is_media else len(units[k].payload))

    return sorted(range(len(units)), key=key)

"""Work items: each the columns of one item that some features read, decoded and computed once.

A work item belongs to the item whose content it reads. Other items with the same content are its
duplicates: they get copies of its rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract import modalities
from mmfeat.pipelines.planning.contents import Contents
from mmfeat.pipelines.planning.groups import media_columns_of
from mmfeat.schemas.ids import whole
from mmfeat.schemas.spec import FeatureSpec

#: What every row of a table of work items has, beside ``payload.NAME`` (a location or a text) of each column
#: or feature that is read, and ``stamp.NAME`` of each media column.
WORK_SCHEMA = pa.schema(
    [
        pa.field("work", pa.int64()),
        pa.field("item_id", pa.string()),
        # Work of one group is alike: it reads the same columns. Blocks hold one group each.
        pa.field("group", pa.string()),
        pa.field("features", pa.list_(pa.int32())),
    ]
)
PAYLOAD, STAMP = "payload.", "stamp."

# Items whose content equals a work item's: each gets copies of the work item's rows of ``features``.
DUPLICATES_SCHEMA = pa.schema(
    [
        pa.field("work", pa.int64()),
        pa.field("item_id", pa.string()),
        pa.field("stamp", pa.string()),
        pa.field("features", pa.list_(pa.int32())),
    ]
)


def count_wanted(work: pa.Table) -> dict[int, int]:
    """How many work items want each feature; of those that any wants."""
    counts = pc.value_counts(pc.list_flatten(work["features"]))
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))


@dataclass
class _Group:
    """The work items of one group under construction.

    Attributes:
        number_of: ``[n_items]`` int32, the number of each item's work item, -1 for none.
        texts: of features that are read, the texts of items: ``[n_items]``, null if there is none.
    """

    number_of: np.ndarray
    texts: dict[str, pa.Array]


class Work:
    """The work items of a plan under construction, by number in the order they were added.

    Args:
        contents: of the catalog; an item is its position there.
        specs: the features, an index into which is a feature's number.
    """

    def __init__(self, contents: Contents, specs: Sequence[FeatureSpec]) -> None:
        self._contents = contents
        self._specs = specs
        self._groups: dict[str, _Group] = {}
        self._count = 0

    def of(self, group: str, items: np.ndarray) -> np.ndarray:
        """The numbers of the items' work items in a group; new ones if there are none."""
        numbers = self._group(group).number_of
        new = items[numbers[items] < 0]
        numbers[new] = np.arange(self._count, self._count + len(new), dtype=np.int32)
        self._count += len(new)
        return np.asarray(numbers[items])

    def read_texts(self, group: str, feature: str, texts: pa.Array) -> None:
        """The group's work items read these texts of a feature, ``[n_items]``."""
        known = self._group(group).texts
        known[feature] = pc.coalesce(known[feature], texts) if feature in known else texts

    def own(self, group: str) -> np.ndarray:
        """``[n_items]`` int32: each item's own work item in a group, -1 for none."""
        return self._group(group).number_of

    def finished(self, assigned: Sequence[np.ndarray]) -> tuple[pa.Table, np.ndarray, pa.Table]:
        """The work items in the order of processing, with the features that any item wants of them.

        Args:
            assigned: per feature, for each item the number of the work item that computes its value, -1 for
                none.

        Returns:
            WORK_SCHEMA rows; ``[features, work]`` bool, what each work item's own item lacks;
            DUPLICATES_SCHEMA rows in the order of their work items.
        """
        ordered = self._in_order()
        # rank: number of a work item -> its place in the order of processing.
        rank = np.empty(self._count, dtype=np.int64)
        rank[np.concatenate([_NONE, *(numbers for _, numbers, _ in ordered)])] = np.arange(self._count)
        items = np.concatenate([_NONE, *(items for _, _, items in ordered)])
        own = np.zeros((len(self._specs), self._count), dtype=bool)
        wanted = np.zeros_like(own)
        pairs = []
        for number, work_of in enumerate(assigned):
            takers = np.flatnonzero(work_of >= 0)
            work = rank[work_of[takers]]
            is_own = items[work] == takers
            wanted[number, work] = True
            own[number, work[is_own]] = True
            pairs.append((work[~is_own], takers[~is_own]))
        return self._table(ordered, items, wanted), own, self._duplicates(pairs)

    def _group(self, name: str) -> _Group:
        if name not in self._groups:
            self._groups[name] = _Group(np.full(len(self._contents.ids), -1, dtype=np.int32), {})
        return self._groups[name]

    def _in_order(self) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """Each group with its work items' numbers and items, the longest work first; items of media in the
        catalog's order, texts by length, so that batches pad little."""
        named = [(name, group) for name, group in self._groups.items() if (group.number_of >= 0).any()]
        ordered = []
        for name, group in sorted(named, key=lambda one: (-self._covers(one[0]), one[0])):
            items = np.flatnonzero(group.number_of >= 0)
            if not self._media(name):
                items = items[np.argsort(self._lengths(name, items), kind="stable")]
            ordered.append((name, group.number_of[items], items))
        return ordered

    def _covers(self, group: str) -> int:
        """The work of one item of a group, in covers' worth; 0 of texts."""
        columns = self._media(group)
        reads = (one for spec in self._specs for one in spec.inputs if one.key in columns)
        return max((modalities.modality(one.modality).cost(one.prepare).covers for one in reads), default=0)

    def _media(self, group: str) -> list[str]:
        return [name for name in group.split("+") if self._contents.is_media(name)]

    def _lengths(self, group: str, items: np.ndarray) -> np.ndarray:
        """``[len(items)]`` characters of all texts that are read."""
        total = np.zeros(len(items), dtype=np.int64)
        for name in self._texts_read(group):
            texts = self._payload(group, name, items)
            total += pc.fill_null(pc.utf8_length(texts), 0).to_numpy(zero_copy_only=False)
        return total

    def _texts_read(self, group: str) -> list[str]:
        """The columns of text and the features that a group's work items read."""
        columns = {name for name in group.split("+") if self._contents.is_text(name)}
        return sorted(columns | set(self._groups[group].texts))

    def _table(
        self, ordered: Sequence[tuple[str, np.ndarray, np.ndarray]], items: np.ndarray, wanted: np.ndarray
    ) -> pa.Table:
        columns: dict[str, pa.Array | pa.ChunkedArray] = {
            "work": pa.array(np.arange(self._count)),
            "item_id": taken(self._contents.ids, items),
            "group": _chunked(pa.repeat(name, len(rows)) for name, _, rows in ordered),
            "features": _lists(wanted),
        }
        reads = {name: self._read_by(name, wanted, ordered) for name, _, _ in ordered}
        for name in sorted({name for read in reads.values() for name in read}):
            columns[PAYLOAD + name] = _chunked(
                self._payload(group, name, rows) if name in reads[group] else pa.nulls(len(rows), pa.string())
                for group, _, rows in ordered
            )
            if self._contents.is_media(name):
                columns[STAMP + name] = _chunked(
                    self._contents.of(name).stamps(rows)
                    if name in reads[group]
                    else pa.nulls(len(rows), pa.string())
                    for group, _, rows in ordered
                )
        return pa.table(columns)

    def _read_by(
        self, group: str, wanted: np.ndarray, ordered: Sequence[tuple[str, np.ndarray, np.ndarray]]
    ) -> set[str]:
        """The columns and features that work items of a group read from their payload."""
        start = 0
        for name, numbers, _ in ordered:
            if name == group:
                features = np.flatnonzero(wanted[:, start : start + len(numbers)].any(axis=1)).tolist()
                break
            start += len(numbers)
        columns = {one.key for n in features for one in self._specs[n].inputs if one.upstream is None}
        return columns | set(self._groups[group].texts)

    def _payload(self, group: str, name: str, rows: np.ndarray) -> pa.Array:
        texts = self._groups[group].texts
        return taken(texts[name] if name in texts else self._contents.of(name).payload, rows)

    def _duplicates(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> pa.Table:
        """Of each feature's ``(work, items)``. Features that read the same media share a row of an item."""
        by_media: dict[tuple[str, ...], list[int]] = {}
        for number, spec in enumerate(self._specs):
            by_media.setdefault(media_columns_of(spec), []).append(number)
        tables = [
            self._duplicates_of(media, {n: pairs[n] for n in numbers}) for media, numbers in by_media.items()
        ]
        return pa.concat_tables([DUPLICATES_SCHEMA.empty_table(), *tables]).sort_by("work")

    def _duplicates_of(
        self, media: Sequence[str], pairs: Mapping[int, tuple[np.ndarray, np.ndarray]]
    ) -> pa.Table:
        n_items = max(1, len(self._contents.ids))
        keys = {number: work * n_items + items for number, (work, items) in pairs.items()}
        each = np.unique(np.concatenate([_NONE, *keys.values()]))
        wanted = np.zeros((len(self._specs), len(each)), dtype=bool)
        for number, key in keys.items():
            wanted[number, np.searchsorted(each, key)] = True
        work, items = each // n_items, each % n_items
        columns = [
            pa.array(work),
            self._contents.ids.take(pa.array(items)),
            self._contents.stamps(media, items),
            _lists(wanted),
        ]
        return pa.table(columns, schema=DUPLICATES_SCHEMA)


_NONE = np.zeros(0, dtype=np.int64)


def payload_of(work: pa.Table, name: str) -> pa.Array:
    """The locations or texts that work items read of a column or a feature; nulls if none does."""
    column = PAYLOAD + name
    return whole(work[column]) if column in work.column_names else pa.nulls(len(work), pa.string())


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

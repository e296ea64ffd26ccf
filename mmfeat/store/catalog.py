"""What the store knows besides features: items, interactions, file stamps and runs."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.schemas.catalog import (
    CATALOG_SCHEMA,
    INTERACTIONS_SCHEMA,
    ITEM_ID,
    STAMPS_SCHEMA,
    Column,
    as_interactions,
    catalog_schema,
    columns_of,
)
from mmfeat.schemas.errors import DatasetError
from mmfeat.schemas.ids import Places, id_hashes, whole
from mmfeat.store.belonging import Owned, Place, place_of, refuse_clashing_columns
from mmfeat.store.database import Database
from mmfeat.store.schema import RUNS_SCHEMA
from mmfeat.store.where import ids_where

ITEMS, INTERACTIONS, STAMPS, RUNS = "_items", "_interactions", "_stamps", "_runs"
_DATASET_KEY = b"mmfeat.dataset"
# Number to dataset, where there is more to say than that all items are of that one.
_DATASETS_KEY = b"mmfeat.datasets"
# Beside a catalog's columns, and none of them: the number of an item's dataset, and since when it is gone.
# Lacking in a table whose rows are all of dataset 0 and present, as in stores of older formats.
NUMBER = pa.field("_mmfeat_dataset", pa.int32())
GONE = pa.field("_mmfeat_gone", pa.timestamp("us", "UTC"))
_BELONGING = (NUMBER, GONE)
# Columns of interactions that are written where one of them has a value, as in stores of older formats.
_SAID_OF_SOME = ("rating", "event")
OF_ITEMS = (ITEMS, INTERACTIONS, STAMPS)
TABLES = (*OF_ITEMS, RUNS)


class Catalog:
    """Items, interactions, stamps and run records of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def items(self) -> pa.Table:
        """All items with all columns, those among them that are gone; the schema says what they are."""
        # Tables of format 1 do not say it, and have the usual columns.
        schema = catalog_schema(self._columns().values())
        return self._database.read(ITEMS, schema).cast(schema)

    def present(self) -> pa.Table:
        """The items that a dataset has, with all columns."""
        if self._is_simple(ITEMS):
            return self.items()
        return self.items().filter(pa.array(self.owned().present()))

    def ids(self) -> pa.Array:
        """All item ids, without reading the other columns."""
        schema = pa.schema([CATALOG_SCHEMA.field(ITEM_ID)])
        return self._database.read(ITEMS, schema)[ITEM_ID].combine_chunks()

    def present_ids(self, number: int | None = None) -> pa.Array:
        """The ids of the items that a dataset has, or that the dataset ``number`` has."""
        owned = self.owned()
        return owned.ids.filter(pa.array(owned.present(number)))

    def ids_where(self, condition: str) -> pa.Array:
        """The ids of the items that a dataset has and of which a condition is true; see
        :func:`mmfeat.store.where.ids_where`."""
        found = ids_where(self._database, ITEMS, condition, self._columns())
        return found.filter(pc.invert(pc.is_in(found, value_set=self.gone_ids())))

    def gone_ids(self) -> pa.Array:
        """The ids of the items that no dataset has any more."""
        if self._is_simple(ITEMS):
            return pa.array([], pa.string())
        owned = self.owned()
        return owned.ids.filter(pa.array(~owned.present()))

    def owned(self) -> Owned:
        """Whose each item is, and since when it is gone."""
        datasets = self.datasets()
        if self._is_simple(ITEMS):
            ids = self.ids()
            return Owned(ids, np.zeros(len(ids), np.int32), np.zeros(len(ids), np.int64), datasets)
        read = self._database.read_small(ITEMS, pa.schema([CATALOG_SCHEMA.field(ITEM_ID), *_BELONGING]))
        numbers, gone = (read[field.name].combine_chunks() for field in _BELONGING)
        return Owned(
            read[ITEM_ID].combine_chunks(),
            numbers.fill_null(0).to_numpy(zero_copy_only=False),
            gone.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False),
            datasets,
        )

    def _columns(self) -> dict[str, Column]:
        table = self._database.table(ITEMS)
        if table is None:
            return columns_of(CATALOG_SCHEMA)
        own = {field.name for field in _BELONGING}
        return columns_of(pa.schema([field for field in table.schema if field.name not in own]))

    def _is_simple(self, name: str) -> bool:
        """Whether all rows of a table are of the store's first dataset, and none is gone."""
        table = self._database.table(name)
        return table is None or NUMBER.name not in table.schema.names

    def dataset(self) -> dict[str, Any] | None:
        """What :meth:`put_items` was last told of the dataset."""
        return self._said(_DATASET_KEY)

    def datasets(self) -> dict[int, dict[str, Any]]:
        """Number to what is known of every dataset that the store has; one until others are added."""
        several = self._said(_DATASETS_KEY)
        if several is not None:
            return {int(number): said for number, said in several.items()}
        return {} if self._database.table(ITEMS) is None else {0: self.dataset() or {}}

    def _said(self, key: bytes) -> dict[str, Any] | None:
        table = self._database.table(ITEMS)
        found = (table.schema.metadata or {}).get(key) if table is not None else None
        return None if found is None else dict(json.loads(found))

    def place_of(self, items: pa.Table, said: dict[str, Any], add: bool, replace: bool) -> Place:
        """Where a dataset goes; see :func:`mmfeat.store.belonging.place_of`."""
        owned, uri = self.owned(), self._database.uri
        known, changed, rewritten = self._compared(items)
        place = place_of(owned, items, rewritten, said, add, replace, uri)
        if len(place.datasets) > 1:
            refuse_clashing_columns(owned, self.items(), items, place, uri)
        return dataclasses.replace(place, known=int(known.sum()), changed=int(changed.sum()))

    def _compared(self, items: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which items of the store a dataset names, which of these have another text in it, and which have
        texts and none of them the same: each ``[n]`` bool. A text that only one side has does not count."""
        own, places = self._columns(), Places(whole(items[ITEM_ID]))
        texts = [
            name
            for name, column in columns_of(items.schema).items()
            if column.modality == "text" and not column.several and own.get(name) == column
        ]
        parts = [np.zeros((3, 0), dtype=bool)]
        for batch in self._database.batches(ITEMS, [ITEM_ID, *texts]):
            at = places.of(batch.column(ITEM_ID))
            known, other, same = part = np.zeros((3, len(batch)), dtype=bool)
            known[:] = at >= 0
            for name in texts:
                given = whole(items[name]).take(pa.array(at, mask=at < 0))
                equal = pc.equal(batch.column(name).cast(given.type), given)
                same |= equal.fill_null(False).to_numpy(zero_copy_only=False)
                other |= pc.invert(equal).fill_null(False).to_numpy(zero_copy_only=False)
            parts.append(part)
        known, other, same = np.concatenate(parts, axis=1)
        return known, other, other & ~same

    def put_items(self, items: pa.Table, place: Place, whole_dataset: bool) -> None:
        """Bring the catalog up to date with a dataset; writes nothing if it already is.

        Items that are known keep their place and take the new values, new ones follow in the
        dataset's order, and items that the dataset no longer names stay; of a whole dataset, they are
        gone from then on. A column that it no longer has stays for these, and is null for the others; one
        that it has another way (another modality, one value instead of a list) is as it says, and null for
        items that it does not name.
        """
        items = _conformed(items, catalog_schema(columns_of(items.schema).values()))
        _refuse_repeated_ids(items)
        metadata = _metadata(place)
        same_dataset = metadata == {
            key: json.loads(found) for key in (_DATASET_KEY, _DATASETS_KEY) if (found := self._raw(key))
        }
        simple = place.number == 0 and self._is_simple(ITEMS)
        if (
            same_dataset
            and simple
            and self._columns() == columns_of(items.schema)
            and self._holds(ITEMS, items)
        ):
            return
        present, owned = self.items(), self.owned()
        merged, numbers, gone = _merged(present, owned, items, place, whole_dataset)
        changed = (
            not same_dataset
            or not merged.equals(present, check_metadata=True)
            or not np.array_equal(numbers, owned.numbers)
            or not np.array_equal(gone, owned.gone)
        )
        if changed:
            written = {key: json.dumps(value).encode() for key, value in metadata.items()}
            rows = _belonging_to(merged, numbers, gone)
            self._database.overwrite(ITEMS, rows.replace_schema_metadata(written))

    def _raw(self, key: bytes) -> bytes | None:
        table = self._database.table(ITEMS)
        return None if table is None else (table.schema.metadata or {}).get(key)

    def interactions(self) -> pa.Table | None:
        """The interactions of the store's datasets, INTERACTIONS_SCHEMA; None if they have none."""
        datasets = self.datasets()
        if self._is_simple(INTERACTIONS) and (0 in datasets or not datasets):
            found = self._read_interactions()
        else:
            # Those of a dataset that was replaced are nobody's until the next run writes anew.
            rows = self._numbered_interactions()
            known = pa.array(list(datasets), pa.int32())
            found = rows.filter(pc.is_in(rows[NUMBER.name], value_set=known)).drop_columns([NUMBER.name])
        return found if len(found) else None

    def interactions_by_dataset(self) -> dict[int, pa.Table]:
        """The same by the number of their dataset: of two datasets, users of one id are two users."""
        datasets = self.datasets()
        if self._is_simple(INTERACTIONS) and (0 in datasets or not datasets):
            found = {0: self._read_interactions()}
        else:
            rows = self._numbered_interactions()
            found = {
                number: rows.filter(pc.equal(rows[NUMBER.name], number)).drop_columns([NUMBER.name])
                for number in datasets
            }
        return {number: table for number, table in found.items() if len(table)}

    def count_interactions(self, number: int) -> int:
        """How many interactions the dataset ``number`` has in the store."""
        table = self._database.table(INTERACTIONS)
        if table is None:
            return 0
        with self._database.errors(f"read {INTERACTIONS}"):
            if self._is_simple(INTERACTIONS):
                return int(table.count_rows()) if number == 0 else 0
            return int(table.count_rows(f"{NUMBER.name} = {number}"))

    def put_interactions(self, interactions: pa.Table | None, place: Place) -> None:
        """Replace the interactions of a dataset; writes nothing if they are the same."""
        new = INTERACTIONS_SCHEMA.empty_table() if interactions is None else as_interactions(interactions)
        new = _conformed(new, INTERACTIONS_SCHEMA)
        if self._is_simple(INTERACTIONS) and set(place.datasets) <= {0}:
            rows = _without_unsaid(new)
            if not self._holds(INTERACTIONS, rows):
                self._database.overwrite(INTERACTIONS, rows)
            return
        before = self._numbered_interactions()
        others = [number for number in place.datasets if number != place.number]
        kept = before.filter(pc.is_in(before[NUMBER.name], value_set=pa.array(others, pa.int32())))
        after = pa.concat_tables([kept, _numbered(new, place.number)])
        if not after.equals(before):
            self._database.overwrite(INTERACTIONS, _without_unsaid(after))

    def _numbered_interactions(self) -> pa.Table:
        if self._is_simple(INTERACTIONS):
            return _numbered(self._read_interactions(), 0)
        return self._read_interactions(NUMBER)

    def _read_interactions(self, *more: pa.Field) -> pa.Table:
        """All interactions, INTERACTIONS_SCHEMA and ``more``."""
        table = self._database.table(INTERACTIONS)
        said = [f for f in INTERACTIONS_SCHEMA if table is None or f.name in table.schema.names]
        return as_interactions(self._database.read(INTERACTIONS, pa.schema([*said, *more])))

    def _holds(self, name: str, rows: pa.Table) -> bool:
        """Whether a table is exactly ``rows``; never holds all of it in memory."""
        table = self._database.table(name)
        if table is None or table.count_rows() != len(rows):
            return table is None and not len(rows)
        if set(table.schema.names) != set(rows.schema.names):
            return False
        start = 0
        for batch in self._database.batches(name, rows.schema.names):
            if not pa.Table.from_batches([batch]).equals(rows.slice(start, len(batch))):
                return False
            start += len(batch)
        return True

    def stamps(self) -> pa.Table:
        """Known stamps of files, STAMPS_SCHEMA."""
        return self._database.read(STAMPS, STAMPS_SCHEMA)

    def put_stamps(self, stamps: pa.Table) -> None:
        """Add stamps, each in the place of the one known for the same item and column."""
        self._database.upsert(STAMPS, _conformed(stamps, STAMPS_SCHEMA), ["item_id", "source"])
        self._database.tidy(STAMPS)

    def runs(self) -> list[dict[str, Any]]:
        """All run records, oldest first."""
        return [json.loads(r) for r in self._database.read(RUNS, RUNS_SCHEMA)["record"].to_pylist()]

    def record_run(self, record: dict[str, Any]) -> None:
        """Add a record, as JSON."""
        row = {"record": json.dumps(record, ensure_ascii=False)}
        self._database.append(RUNS, pa.Table.from_pylist([row], schema=RUNS_SCHEMA))
        self._database.tidy(RUNS)


def _merged(
    present: pa.Table, owned: Owned, items: pa.Table, place: Place, whole_dataset: bool
) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """The catalog with a dataset's items in it, and of each item its dataset and since when it is gone.

    Args:
        whole_dataset: whether items of the dataset that are not named are gone.
    """
    given = Places(whole(items[ITEM_ID])).of(present[ITEM_ID])
    known = Places(whole(present[ITEM_ID])).of(items[ITEM_ID])
    new = np.flatnonzero(known < 0)
    leaves = place.replaces | (whole_dataset & (owned.numbers == place.number))
    now = int(datetime.now(UTC).timestamp() * 1e6)
    gone = np.where(leaves & (owned.gone == 0), now, owned.gone)
    gone[given >= 0] = 0
    numbers = np.where(given >= 0, np.int32(place.number), owned.numbers)
    numbers = np.concatenate([numbers, np.full(len(new), place.number, np.int32)])
    gone = np.concatenate([gone, np.zeros(len(new), np.int64)])
    return _with_values(present, items, given, new), numbers, gone


def _with_values(present: pa.Table, items: pa.Table, given: np.ndarray, new: np.ndarray) -> pa.Table:
    """The catalog with the values of ``items``.

    Args:
        given: of each present item, its row in ``items``, -1 if it has none.
        new: the rows of ``items`` that are not present.
    """
    if not len(present):
        return items
    # Places in both tables put one after the other: of each present item its new row where it has one.
    old = np.where(given >= 0, len(present) + given, np.arange(len(present)))
    own, others = columns_of(items.schema), columns_of(present.schema)
    gone = [column for name, column in others.items() if name not in own]
    schema = catalog_schema([*own.values(), *gone])
    both = pa.concat_tables([_with_columns(present, schema), _with_columns(items, schema)])
    merged = both.take(pa.array(np.concatenate([old, len(present) + new])))
    # What no item has any more is no column.
    return merged.drop_columns([c.name for c in gone if merged[c.name].null_count == len(merged)])


def _belonging_to(items: pa.Table, numbers: np.ndarray, gone: np.ndarray) -> pa.Table:
    """The rows as they are written: what there is to say of nothing but one dataset's items is not said."""
    if not numbers.any() and not gone.any():
        return items
    times = pa.array(gone, pa.int64(), mask=gone == 0).cast(GONE.type)
    return items.append_column(NUMBER, pa.array(numbers, NUMBER.type)).append_column(GONE, times)


def _without_unsaid(interactions: pa.Table) -> pa.Table:
    """Interactions as they are written: what the datasets say of none of them is no column."""
    unsaid = [name for name in _SAID_OF_SOME if interactions[name].null_count == len(interactions)]
    return interactions.drop_columns(unsaid)


def _numbered(interactions: pa.Table, number: int) -> pa.Table:
    numbers = pa.array(np.full(len(interactions), number), NUMBER.type)
    return interactions.append_column(NUMBER, numbers)


def _metadata(place: Place) -> dict[bytes, dict[str, Any]]:
    """What the catalog's schema says of its datasets."""
    said: dict[bytes, dict[str, Any]] = {_DATASET_KEY: place.said}
    if set(place.datasets) != {0}:
        said[_DATASETS_KEY] = {str(number): one for number, one in place.datasets.items()}
    return said


def _with_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the columns of ``schema``; null if it has none of that name, modality and type."""
    columns, wanted = columns_of(table.schema), columns_of(schema)
    arrays = [
        table[field.name]
        if field.name == ITEM_ID or columns.get(field.name) == wanted[field.name]
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)


def _conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    if not table.schema.equals(schema):
        raise DatasetError(f"A table has the columns {table.schema.names}, not those of {schema.names}.")
    return table.cast(schema)


def _refuse_repeated_ids(items: pa.Table) -> None:
    hashes = np.sort(id_hashes(items["item_id"]))
    if (hashes[1:] != hashes[:-1]).all():
        return
    counts = pc.value_counts(items["item_id"].combine_chunks())
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if repeated:
        shown = ", ".join(map(repr, repeated[:10]))
        raise DatasetError(f"{len(repeated)} item ids come more than once in the dataset: {shown}.")

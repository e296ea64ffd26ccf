"""What the store knows besides features: items, interactions, file stamps and runs."""

from __future__ import annotations

import json
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
    catalog_schema,
    columns_of,
)
from mmfeat.schemas.errors import DatasetError
from mmfeat.schemas.ids import Places, id_hashes, whole
from mmfeat.store.database import Database
from mmfeat.store.schema import RUNS_SCHEMA

ITEMS, INTERACTIONS, STAMPS, RUNS = "_items", "_interactions", "_stamps", "_runs"
_DATASET_KEY = b"mmfeat.dataset"
OF_ITEMS = (ITEMS, INTERACTIONS, STAMPS)
TABLES = (*OF_ITEMS, RUNS)


class Catalog:
    """Items, interactions, stamps and run records of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def items(self) -> pa.Table:
        """All items with all columns; the schema says what they are."""
        # Tables of format 1 do not say it, and have the usual columns.
        schema = catalog_schema(self._columns().values())
        return self._database.read(ITEMS, schema).cast(schema)

    def ids(self) -> pa.Array:
        """All item ids, without reading the other columns."""
        schema = pa.schema([CATALOG_SCHEMA.field(ITEM_ID)])
        return self._database.read(ITEMS, schema)[ITEM_ID].combine_chunks()

    def _columns(self) -> dict[str, Column]:
        table = self._database.table(ITEMS)
        return columns_of(CATALOG_SCHEMA if table is None else table.schema)

    def dataset(self) -> dict[str, Any] | None:
        """What :meth:`put_items` was last told of the dataset."""
        table = self._database.table(ITEMS)
        found = (table.schema.metadata or {}).get(_DATASET_KEY) if table is not None else None
        return None if found is None else dict(json.loads(found))

    def put_items(self, items: pa.Table, dataset: dict[str, Any]) -> None:
        """Bring the catalog up to date with a dataset; writes nothing where it already is.

        Items that are known keep their place and take the new values, new ones follow in the
        dataset's order, and items that the dataset no longer names stay. A column that it no longer
        has stays for these, and is null for the others; one that it has another way (another modality,
        one value instead of a list) is as it says, and null for items that it does not name.
        """
        items = _conformed(items, catalog_schema(columns_of(items.schema).values()))
        _refuse_repeated_ids(items)
        same_dataset = dataset == self.dataset()
        if same_dataset and self._columns() == columns_of(items.schema) and self._holds(ITEMS, items):
            return
        present = self.items()
        merged = _merged(present, items)
        if not same_dataset or not merged.equals(present, check_metadata=True):
            metadata = {_DATASET_KEY: json.dumps(dataset).encode()}
            self._database.overwrite(ITEMS, merged.replace_schema_metadata(metadata))

    def interactions(self) -> pa.Table | None:
        """The dataset's interactions, INTERACTIONS_SCHEMA; None where it has none."""
        found = self._database.read(INTERACTIONS, INTERACTIONS_SCHEMA)
        return found if len(found) else None

    def put_interactions(self, interactions: pa.Table | None) -> None:
        """Replace all interactions; writes nothing where they are the same."""
        new = INTERACTIONS_SCHEMA.empty_table() if interactions is None else interactions
        new = _conformed(new, INTERACTIONS_SCHEMA)
        if not self._holds(INTERACTIONS, new):
            self._database.overwrite(INTERACTIONS, new)

    def _holds(self, name: str, rows: pa.Table) -> bool:
        """Whether a table is exactly ``rows``; never holds all of it in memory."""
        table = self._database.table(name)
        if table is None or table.count_rows() != len(rows):
            return table is None and not len(rows)
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


def _merged(present: pa.Table, items: pa.Table) -> pa.Table:
    if not len(present):
        return items
    given = Places(whole(items[ITEM_ID])).of(present[ITEM_ID])
    # Places in both tables put one after the other: of each present item its new row where it has one.
    old = np.where(given >= 0, len(present) + given, np.arange(len(present)))
    known = Places(whole(present[ITEM_ID])).of(items[ITEM_ID])
    new = len(present) + np.flatnonzero(known < 0)
    own, others = columns_of(items.schema), columns_of(present.schema)
    gone = [column for name, column in others.items() if name not in own]
    schema = catalog_schema([*own.values(), *gone])
    both = pa.concat_tables([_with_columns(present, schema), _with_columns(items, schema)])
    merged = both.take(pa.array(np.concatenate([old, new])))
    # What no item has any more is no column.
    return merged.drop_columns([c.name for c in gone if merged[c.name].null_count == len(merged)])


def _with_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the columns of ``schema``; null where it has none of that name, modality and type."""
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

"""The rows of one feature version: commit, ledger, counts, and rows by item id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.schemas.errors import ConservationError, StoreError
from mmfeat.schemas.featureset import FAILED, MISSING, OK
from mmfeat.store.database import READ_AHEAD_BYTES, Database, quoted
from mmfeat.store.schema import RULES, rows_schema, value_column
from mmfeat.store.versions import FeatureVersion

# One filter's list of ids; the planner's time grows with it, the index look-ups per query with its
# inverse.
_IDS_PER_FILTER = 1000

# Above this share of a table's rows, reading all of it is quicker than looking rows up.
_SCAN_SHARE = 0.2

# Read ahead of a scan for values must not be more than the matrix that is being filled.
_SCAN_BATCH_ROWS = 1024


def commit(database: Database, version: FeatureVersion, rows: pa.Table, replace: bool) -> None:
    """Write ``rows`` in one transaction: appended, or with ``replace`` upserted by item id.

    Raises:
        ConservationError: an id comes twice, or the rows are not those of the version's schema.
    """
    _check(version, rows)
    # Tables of format 1 lack it.
    database.add_column(version.table, RULES)
    if replace:
        database.upsert(version.table, rows, ["item_id"])
    else:
        database.append(version.table, rows)


def ledger(database: Database, version: FeatureVersion) -> pa.Table:
    """``item_id, status, content_hash, stamp`` (and ``text`` of a text feature) of every row."""
    columns = ["item_id", "status", "content_hash", "stamp"]
    if version.spec.form == "text":
        columns.append("text")
    with database.errors(f"read {version.version}"):
        return table_of(database, version).to_table(columns=columns)


def ledger_batches(
    database: Database, version: FeatureVersion, columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Columns of every row, a bounded number of rows at a time."""
    table = table_of(database, version)
    return _with_rules(database.batches(version.table, _there(table, columns)), columns)


def counts(database: Database, version: FeatureVersion, ids: pa.Array | None = None) -> dict[str, int]:
    """Rows by status, of ``ids`` alone where they are given."""
    columns = ["status"] if ids is None else ["status", "item_id"]
    with database.errors(f"read {version.version}"):
        rows = table_of(database, version).to_table(columns=columns)
    if ids is not None:
        rows = rows.filter(pc.is_in(rows["item_id"], value_set=ids))
    found = pc.value_counts(rows["status"].combine_chunks())
    return dict(zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True))


def failures(database: Database, version: FeatureVersion) -> pa.Table:
    """``item_id, stage, reason`` of every failed row, by item id."""
    with database.errors(f"read {version.version}"):
        rows = table_of(database, version).to_table(
            columns=["item_id", "stage", "reason"], filter=f"status = '{FAILED}'"
        )
    return rows.sort_by("item_id")


def marked(database: Database, version: FeatureVersion) -> pa.Table:
    """``item_id, reason`` of every ok row that is marked, by item id; the reason says by what."""
    with database.errors(f"read {version.version}"):
        rows = table_of(database, version).to_table(
            columns=["item_id", "reason"], filter=f"status = '{OK}' AND reason != ''"
        )
    return rows.sort_by("item_id")


def facts(database: Database, version: FeatureVersion) -> pa.Table:
    """``item_id, facts`` of every row that has any, by item id; facts are JSON."""
    with database.errors(f"read {version.version}"):
        rows = table_of(database, version).to_table(columns=["item_id", "facts"], filter="facts IS NOT NULL")
    return rows.sort_by("item_id")


def full_rows(database: Database, version: FeatureVersion, ids: Sequence[str]) -> pa.Table:
    """The rows of ``ids`` in their order, ``rows_schema``; StoreError when one has none."""
    schema = rows_schema(version.spec)
    asked = pa.array(ids, pa.string())
    batches = list(batches_of(database, version, asked.unique(), schema.names))
    found = pa.Table.from_batches(batches, schema=schema)
    positions = pc.index_in(asked, value_set=found["item_id"].combine_chunks())
    if positions.null_count:
        lacking = asked.filter(pc.is_null(positions)).to_pylist()
        raise StoreError(
            f"{version.version} has no row of {len(lacking)} items, the first being {lacking[0]!r}."
        )
    return found.take(positions)


def batches_of(
    database: Database, version: FeatureVersion, ids: pa.Array, columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Batches that together hold every row of the distinct ``ids``, and perhaps others."""
    table = table_of(database, version)
    with database.errors(f"read {version.version}"):
        if len(ids) > _SCAN_SHARE * table.count_rows():
            scan = table.to_batches(
                columns=_there(table, columns), batch_size=_SCAN_BATCH_ROWS, io_buffer_size=READ_AHEAD_BYTES
            )
            yield from _with_rules(scan, columns)
            return
        for start in range(0, len(ids), _IDS_PER_FILTER):
            some = ids.slice(start, _IDS_PER_FILTER).to_pylist()
            where = f"item_id IN ({', '.join(map(quoted, some))})"
            yield from _with_rules(table.to_batches(columns=_there(table, columns), filter=where), columns)


def table_of(database: Database, version: FeatureVersion) -> lance.LanceDataset:
    """The version's open table."""
    table = database.table(version.table)
    if table is None:
        raise StoreError(
            f"The table of {version.version} is gone from {database.uri}.",
            hint=f"Something removed {version.table}.lance. Restore it, or run `mmfeat extract` again.",
        )
    return table


def matrix_of(vectors: pa.FixedSizeListArray) -> np.ndarray:
    """``[n, list size]`` array of lists, none of them null."""
    flat = vectors.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat.reshape(len(vectors), vectors.type.list_size))


def _there(table: lance.LanceDataset, columns: Sequence[str]) -> list[str]:
    """Those of ``columns`` that can be read: ``rules`` cannot of a table of format 1."""
    return [name for name in columns if name in table.schema.names or name != RULES.name]


def _with_rules(batches: Iterable[pa.RecordBatch], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Batches of ``columns``; where they lack ``rules``, it is null."""
    for batch in batches:
        if RULES.name in columns and RULES.name not in batch.schema.names:
            place = list(columns).index(RULES.name)
            yield batch.add_column(place, RULES, pa.nulls(len(batch), RULES.type))
        else:
            yield batch


def _check(version: FeatureVersion, rows: pa.Table) -> None:
    schema = rows_schema(version.spec)
    if not rows.schema.equals(schema):
        raise ConservationError(
            f"{version.version}: rows of another schema were to be committed: {rows.schema}"
        )
    if pc.count_distinct(rows["item_id"], mode="all").as_py() != len(rows):
        raise ConservationError(f"{version.version}: an item id came twice in one group of rows.")
    if not pc.all(pc.is_in(rows["status"], value_set=pa.array([OK, MISSING, FAILED])), min_count=0).as_py():
        raise ConservationError(f"{version.version}: a row has an unknown status.")
    has_value = pc.is_valid(rows[value_column(version.spec)])
    if not pc.all(pc.equal(has_value, pc.equal(rows["status"], OK)), min_count=0).as_py():
        raise ConservationError(f"{version.version}: a row has a value and is not ok, or is ok without one.")

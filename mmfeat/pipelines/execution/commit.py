"""The one committer: results stream in, bounded groups of rows go to the store, one transaction each.

What is done is read from the committed rows and from nowhere else, so there is no second ledger that
could run ahead of them.

A failed row of an item that has an ``ok`` one is held back until it is known how many failed: a folder that
was half copied would else cost the rows that were made of the whole one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.pipelines.planning.plan import Plan
from mmfeat.pipelines.planning.rules import rules_of
from mmfeat.schemas.errors import ConservationError
from mmfeat.schemas.featureset import FAILED, MISSING, OK
from mmfeat.schemas.ids import id_hashes, whole
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import FeatureVersion, Store, rows_schema, value_column

# A group is committed when it holds this many rows or bytes or its oldest row is this old: what a crash
# can cost is bounded by work as well as by time, and so is the memory of wide features.
GROUP_ROWS = 8192
GROUP_BYTES = 128 << 20
GROUP_SECONDS = 15.0


class Committer:
    """Collects results per feature and commits them in groups.

    Args:
        store: where rows go; the caller holds its writer lease.
        versions: the version of each feature, in the plan's order.
        plan: what this run must commit; every row is checked against it.
        committed: called with ``(feature, rows)`` after each transaction.
        holds_back: hold back failed rows that would replace an ``ok`` one, for :meth:`settle` to decide.
    """

    def __init__(
        self,
        store: Store,
        versions: Sequence[FeatureVersion],
        plan: Plan,
        committed: Callable[[int, int], None] = lambda feature, rows: None,
        holds_back: bool = True,
    ) -> None:
        self.store = store
        self.versions = list(versions)
        self.plan = plan
        self.committed = committed
        by_name = {version.name: number for number, version in enumerate(self.versions)}
        self.above = [[by_name[n] for n in v.spec.upstreams if n in by_name] for v in self.versions]
        self.groups: list[list[pa.Table]] = [[] for _ in versions]
        self.since: list[float | None] = [None] * len(versions)
        self.unsure = [False] * len(versions)
        self.items = whole(plan.work["item_id"])
        self.duplicates = [_duplicates_of(plan.duplicates, feature) for feature in range(len(versions))]
        self.replaced = [np.sort(id_hashes(ids)) for ids in plan.replaced]
        self.valued = [np.sort(id_hashes(ids if holds_back else ids[:0])) for ids in plan.valued]
        self.held: list[list[pa.Table]] = [[] for _ in versions]
        self.kept = [0] * len(versions)
        # Rows to copy are read as they were planned: this run may replace them before their turn comes.
        self.origins = store
        if len(plan.copies):
            self.origins = Store.open(store.uri)
            self.origins.pin()
        self.seen = np.zeros((len(versions), len(plan.work)), dtype=bool)
        self.tally: list[dict[str, int]] = [{OK: 0, MISSING: 0, FAILED: 0} for _ in versions]
        self.reasons: list[dict[str, int]] = [{} for _ in versions]
        self.marks: list[dict[str, int]] = [{} for _ in versions]
        self.seconds = [0.0] * len(versions)

    def add_known(self, known: pa.Table) -> None:
        """KNOWN_SCHEMA rows: they need no model."""
        for feature, group in _groups(known):
            self._add(feature, known_rows(self.versions[feature].spec, group))

    def add_copies(self, copies: pa.Table) -> None:
        """COPIES_SCHEMA rows: their content was computed before for another item."""
        for feature, group in _groups(copies):
            rows = self.origins.full_rows(self.versions[feature], group["origin"].to_pylist())
            for name in ("item_id", "stamp"):
                place, column = rows.schema.get_field_index(name), rows.schema.field(name)
                rows = rows.set_column(place, column, group[name])
            self._add(feature, rows)

    def confirm(self, confirmed: Sequence[pa.Array]) -> None:
        """Per feature, the ids of items whose row is right by the rules of now: it says so from now on."""
        for feature, ids in enumerate(confirmed):
            version = self.versions[feature]
            for start in range(0, len(ids), GROUP_ROWS):
                rows = self.store.full_rows(version, ids.slice(start, GROUP_ROWS).to_pylist())
                at, field = rows.schema.get_field_index("rules"), rows.schema.field("rules")
                now = pa.repeat(pa.scalar(rules_of(version.spec), field.type), len(rows))
                self.store.commit(version, rows.set_column(at, field, now), replace=True)

    def add_results(self, results: pa.Table) -> None:
        """RESULTS_SCHEMA rows as they come; the duplicates of each work item get the same values."""
        for feature in pc.unique(results["feature"]).to_pylist():
            part = results.filter(pc.equal(results["feature"], feature))
            self._add_feature_results(feature, part)

    def pending_work(self) -> list[int]:
        """Work items with a feature that no result has come for."""
        wanted = whole(self.plan.work["features"])
        work, features = wanted.value_parent_indices().to_numpy(), wanted.flatten().to_numpy()
        found: list[int] = np.unique(work[~self.seen[features, work]]).tolist()
        return found

    def held_back(self, feature: int) -> int:
        """How many failed rows wait for :meth:`settle`."""
        return sum(map(len, self.held[feature]))

    def settle(self, feature: int, accept: bool) -> None:
        """Let what was held back take the place of ``ok`` rows, or give it up: these are kept then.

        A row that is kept says of what content it was made, so that the next run plans its item again.
        """
        held, rows = self.held[feature], self.held_back(feature)
        self.held[feature] = []
        if not accept:
            self.tally[feature][FAILED] -= rows
            self.kept[feature] += rows
            return
        schema = rows_schema(self.versions[feature].spec)
        for part in held:
            columns = [
                part[field.name] if field.name in part.column_names else pa.nulls(len(part), field.type)
                for field in schema
            ]
            self._collect(feature, pa.table(columns, schema=schema))

    def flush(self) -> None:
        """Commit everything that is waiting, but for what is held back."""
        for feature in range(len(self.groups)):
            self._flush(feature)

    def _add_feature_results(self, feature: int, part: pa.Table) -> None:
        work = part["work"].to_numpy()
        if self.seen[feature, work].any() or len(np.unique(work)) != len(work):
            raise ConservationError(
                f"{self.versions[feature].version}: a work item's result came twice; it was committed once."
            )
        self.seen[feature, work] = True
        self.seconds[feature] += pc.sum(part["seconds"]).as_py() or 0.0
        takes, ids, stamps = self._fan_out(feature, work, part["stamp"].combine_chunks())
        # One work item may have any number of duplicates.
        for start in range(0, len(ids), GROUP_ROWS):
            some = slice(start, start + GROUP_ROWS)
            rows = part.take(pa.array(takes[some]))
            self._add(feature, computed_rows(self.versions[feature].spec, rows, ids[some], stamps[some]))

    def _fan_out(
        self, feature: int, work: np.ndarray, stamps: pa.Array
    ) -> tuple[np.ndarray, pa.Array, pa.Array]:
        """Which result row each item takes, that of the work item it duplicates or its own; and its stamp."""
        own = np.flatnonzero(self.plan.own[feature, work])
        of_work, rows = self.duplicates[feature]
        first, end = (np.searchsorted(of_work, work, side) for side in ("left", "right"))
        duplicates = self.plan.duplicates.take(pa.array(rows[_ranges(first, end)]))
        ids = pa.concat_arrays([self.items.take(pa.array(work[own])), duplicates["item_id"].combine_chunks()])
        of_duplicates = pa.concat_arrays([stamps.take(pa.array(own)), duplicates["stamp"].combine_chunks()])
        return np.concatenate([own, np.repeat(np.arange(len(work)), end - first)]), ids, of_duplicates

    def _add(self, feature: int, rows: pa.Table) -> None:
        for status, count in zip(*_value_counts(rows["status"]), strict=True):
            self.tally[feature][status] += count
        failed = rows.filter(pc.equal(rows["status"], FAILED))
        for row in failed.select(["stage", "reason"]).to_pylist():
            why = f"{row['stage']}: {row['reason']}"
            self.reasons[feature][why] = self.reasons[feature].get(why, 0) + 1
        for kind in _marks_in(rows):
            self.marks[feature][kind] = self.marks[feature].get(kind, 0) + 1
        self._collect(feature, self._without_held(feature, rows))

    def _without_held(self, feature: int, rows: pa.Table) -> pa.Table:
        """``rows`` without the failed ones of items that have an ``ok`` row: these are held back."""
        failed = pc.equal(rows["status"], FAILED).to_numpy(zero_copy_only=False)
        # Another id with such a hash does no harm: its row comes later.
        held = failed & _each_in(self.valued[feature], id_hashes(rows["item_id"]))
        if not held.any():
            return rows
        # No value: an empty vector is as large as any.
        self.held[feature].append(
            rows.filter(pa.array(held)).drop_columns([value_column(self.versions[feature].spec)])
        )
        return rows.filter(pa.array(~held))

    def _collect(self, feature: int, rows: pa.Table) -> None:
        self.groups[feature].append(rows)
        self.since[feature] = self.since[feature] or time.monotonic()
        group = self.groups[feature]
        if sum(map(len, group)) >= GROUP_ROWS or sum(part.nbytes for part in group) >= GROUP_BYTES:
            self._flush(feature)
        for other, since in enumerate(self.since):
            if since is not None and time.monotonic() - since > GROUP_SECONDS:
                self._flush(other)

    def _flush(self, feature: int) -> None:
        if not self.groups[feature]:
            return
        # A row whose upstream's is lost with a killed run would be computed again with that.
        for upstream in self.above[feature]:
            self._flush(upstream)
        rows = pa.concat_tables(self.groups[feature])
        # Another id with such a hash does no harm: a row that replaces none is added all the same.
        replace = self.unsure[feature] or _any_in(self.replaced[feature], id_hashes(rows["item_id"]))
        # Ctrl-C or an error may come when the rows are there and nobody knows. What is committed again
        # after that takes the place of what is there, or every row of the group would be there twice.
        self.unsure[feature] = True
        self.store.commit(self.versions[feature], rows, replace=replace)
        self.groups[feature], self.since[feature] = [], None
        self.unsure[feature] = False
        self.committed(feature, len(rows))


def _marks_in(rows: pa.Table) -> Iterator[str]:
    """What ok rows are marked by."""
    marked = pc.and_(pc.equal(rows["status"], OK), pc.greater(pc.utf8_length(rows["reason"]), 0))
    for facts in rows.filter(marked)["facts"].to_pylist():
        yield from json.loads(facts or "{}").get("marks", ())


def _groups(rows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Rows of one feature at a time, at most as many as are committed together."""
    for feature in pc.unique(rows["feature"]).to_pylist():
        of_feature = rows.filter(pc.equal(rows["feature"], feature))
        for start in range(0, len(of_feature), GROUP_ROWS):
            yield feature, of_feature.slice(start, GROUP_ROWS).combine_chunks()


def _duplicates_of(duplicates: pa.Table, feature: int) -> tuple[np.ndarray, np.ndarray]:
    """The work that duplicates want a feature of, in their order, and the row of each duplicate."""
    features = duplicates["features"].combine_chunks()
    rows = features.value_parent_indices().to_numpy()[features.flatten().to_numpy() == feature]
    return duplicates["work"].to_numpy()[rows], rows


def _ranges(first: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The numbers from each of ``first`` to before its ``end``, one range after the other."""
    sizes = end - first
    return np.asarray(np.arange(sizes.sum()) + np.repeat(first - (np.cumsum(sizes) - sizes), sizes))


def _any_in(ordered: np.ndarray, values: np.ndarray) -> bool:
    return bool(_each_in(ordered, values).any())


def _each_in(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``[len(values)]`` bool: which of them are in ``ordered``."""
    return np.asarray(np.searchsorted(ordered, values, "left") < np.searchsorted(ordered, values, "right"))


def known_rows(spec: FeatureSpec, rows: pa.Table) -> pa.Table:
    """KNOWN_SCHEMA rows of one feature as rows of its table."""
    schema, n = rows_schema(spec), len(rows)
    columns = {field.name: pa.nulls(n, field.type) for field in schema}
    columns |= {name: rows[name] for name in ("item_id", "status", "stage", "reason", "stamp")}
    columns["created"] = _now(n)
    return pa.table(columns, schema=schema)


def _now(n: int) -> pa.Array:
    return pa.repeat(pa.scalar(datetime.now(UTC), pa.timestamp("us", "UTC")), n)


def computed_rows(spec: FeatureSpec, results: pa.Table, ids: pa.Array, stamps: pa.Array) -> pa.Table:
    """RESULTS_SCHEMA rows of one feature as rows of its table."""
    schema = rows_schema(spec)
    results = results.combine_chunks()
    columns = {"item_id": ids, "stamp": stamps, "created": _now(len(ids))}
    columns["rules"] = pa.repeat(pa.scalar(rules_of(spec), schema.field("rules").type), len(ids))
    for name in ("status", "stage", "reason", "content_hash", "facts"):
        columns[name] = results[name]
    if spec.form == "tokens":
        columns["tokens"] = _token_vectors(results["value"].combine_chunks(), schema.field("tokens").type)
    elif spec.form == "vector":
        columns["vector"] = _vectors(results["value"].combine_chunks(), schema.field("vector").type)
    else:
        columns["text"] = results["value"].cast(pa.large_string()).cast(pa.string())
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _vectors(values: pa.Array, kind: pa.FixedSizeListType) -> pa.Array:
    """Binary cells to fixed-size lists; null stays null."""
    width = kind.list_size * kind.value_type.bit_width // 8
    blank = bytes(width)
    flat = b"".join(blank if v is None else v for v in values.to_pylist())
    numbers = pa.Array.from_buffers(kind.value_type, len(values) * kind.list_size, [None, pa.py_buffer(flat)])
    return pa.FixedSizeListArray.from_arrays(numbers, type=kind, mask=pc.is_null(values))


def _token_vectors(values: pa.Array, kind: pa.ListType) -> pa.Array:
    """Binary cells to lists of vectors; null stays null."""
    vector = kind.value_type
    width = vector.list_size * vector.value_type.bit_width // 8
    cells = values.to_pylist()
    counts = [0 if cell is None else len(cell) // width for cell in cells]
    flat = b"".join(cell or b"" for cell in cells)
    n = sum(counts) * vector.list_size
    numbers = pa.Array.from_buffers(vector.value_type, n, [None, pa.py_buffer(flat)])
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    vectors = pa.FixedSizeListArray.from_arrays(numbers, type=vector)
    return pa.ListArray.from_arrays(offsets, vectors, type=kind, mask=pc.is_null(values))


def _value_counts(column: pa.ChunkedArray) -> tuple[list[str], list[int]]:
    counts = pc.value_counts(column.combine_chunks())
    return counts.field("values").to_pylist(), counts.field("counts").to_pylist()

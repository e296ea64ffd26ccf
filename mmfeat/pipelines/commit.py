"""The one committer: results stream in, bounded groups of rows go to the store, one transaction each.

What is done is read from the committed rows and from nowhere else, so there is no second ledger that
could run ahead of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.pipelines.plan import Copy, Known, Plan
from mmfeat.schemas.errors import ConservationError
from mmfeat.schemas.featureset import FAILED, MISSING, OK
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import FeatureVersion, Store, rows_schema

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
        committed: told ``(feature, rows)`` after each transaction.
    """

    def __init__(
        self,
        store: Store,
        versions: Sequence[FeatureVersion],
        plan: Plan,
        committed: Callable[[int, int], None] = lambda feature, rows: None,
    ) -> None:
        self.store = store
        self.versions = list(versions)
        self.plan = plan
        self.committed = committed
        self.groups: list[list[pa.Table]] = [[] for _ in versions]
        self.since: list[float | None] = [None] * len(versions)
        self.items = plan.units["item_id"].to_pylist()
        self.seen = [np.zeros(len(plan.units), dtype=bool) for _ in versions]
        self.tally: list[dict[str, int]] = [{OK: 0, MISSING: 0, FAILED: 0} for _ in versions]
        self.reasons: list[dict[str, int]] = [{} for _ in versions]
        self.seconds = [0.0] * len(versions)

    def add_known(self, rows: Iterable[Known]) -> None:
        """Rows that need no model."""
        by_feature: dict[int, list[dict[str, object]]] = {}
        for row in rows:
            by_feature.setdefault(row.feature, []).append(
                {
                    "item_id": row.item_id,
                    "status": row.status,
                    "stage": row.stage,
                    "reason": row.reason,
                    "stamp": row.stamp,
                }
            )
        for feature, group in by_feature.items():
            self._add(feature, _rows(self.versions[feature].spec, group))

    def add_copies(self, copies: Iterable[Copy]) -> None:
        """Rows whose content was computed before for another item."""
        by_feature: dict[int, list[Copy]] = {}
        for copy in copies:
            by_feature.setdefault(copy.feature, []).append(copy)
        for feature, group in by_feature.items():
            for start in range(0, len(group), GROUP_ROWS):
                self._add_copies(feature, group[start : start + GROUP_ROWS])

    def add_results(self, results: pa.Table) -> None:
        """RESULTS_SCHEMA rows as they leave the graph; each unit's twins get the same values."""
        for feature in pc.unique(results["feature"]).to_pylist():
            part = results.filter(pc.equal(results["feature"], feature))
            self._add_feature_results(feature, part)

    def pending_units(self) -> list[int]:
        """Units with a feature that no result has come for."""
        wanted = self.plan.units["features"].to_pylist()
        return [u for u, features in enumerate(wanted) if not all(self.seen[n][u] for n in features)]

    def flush(self) -> None:
        """Commit everything that is waiting."""
        for feature in range(len(self.groups)):
            self._flush(feature)

    def _add_feature_results(self, feature: int, part: pa.Table) -> None:
        units = part["unit"].to_numpy()
        if self.seen[feature][units].any() or len(np.unique(units)) != len(units):
            raise ConservationError(
                f"{self.versions[feature].version}: a unit's result came twice; it was committed once."
            )
        self.seen[feature][units] = True
        self.seconds[feature] += pc.sum(part["seconds"]).as_py() or 0.0
        takes, ids, stamps = self._fan_out(feature, part)
        if ids:
            rows = part.take(pa.array(takes))
            self._add(feature, _from_results(self.versions[feature].spec, rows, ids, stamps))

    def _fan_out(self, feature: int, part: pa.Table) -> tuple[list[int], list[str], list[str]]:
        """Which result row each item takes: its own, or that of the unit it is a twin of."""
        takes, ids, stamps = [], [], []
        own_stamps = part["stamp"].to_pylist()
        for position, unit in enumerate(part["unit"].to_pylist()):
            if feature in self.plan.own[unit]:
                takes.append(position)
                ids.append(self.items[unit])
                stamps.append(own_stamps[position])
            for twin in self.plan.twins.get(unit, ()):
                if feature in twin.features:
                    takes.append(position)
                    ids.append(twin.item_id)
                    stamps.append(twin.stamp)
        return takes, ids, stamps

    def _add_copies(self, feature: int, group: Sequence[Copy]) -> None:
        donors = self.store.full_rows(self.versions[feature], [copy.donor for copy in group])
        ids = pa.array([copy.item_id for copy in group], pa.string())
        stamps = pa.array([copy.stamp for copy in group], pa.string())
        for name, column in (("item_id", ids), ("stamp", stamps)):
            donors = donors.set_column(donors.schema.get_field_index(name), donors.schema.field(name), column)
        self._add(feature, donors)

    def _add(self, feature: int, rows: pa.Table) -> None:
        for status, count in zip(*_value_counts(rows["status"]), strict=True):
            self.tally[feature][status] += count
        failed = rows.filter(pc.equal(rows["status"], FAILED))
        for row in failed.select(["stage", "reason"]).to_pylist():
            why = f"{row['stage']}: {row['reason']}"
            self.reasons[feature][why] = self.reasons[feature].get(why, 0) + 1
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
        rows = pa.concat_tables(self.groups[feature])
        replaced = self.plan.replaced[feature]
        replace = bool(replaced) and not replaced.isdisjoint(rows["item_id"].to_pylist())
        self.store.commit(self.versions[feature], rows, replace=replace)
        self.groups[feature], self.since[feature] = [], None
        self.committed(feature, len(rows))


def _rows(spec: FeatureSpec, rows: Sequence[dict[str, object]]) -> pa.Table:
    now = datetime.now(UTC)
    return pa.Table.from_pylist([{**row, "created": now} for row in rows], schema=rows_schema(spec))


def _from_results(spec: FeatureSpec, results: pa.Table, ids: list[str], stamps: list[str]) -> pa.Table:
    """RESULTS_SCHEMA rows of one feature as rows of its table."""
    schema = rows_schema(spec)
    results = results.combine_chunks()
    columns = {
        "item_id": pa.array(ids, pa.string()),
        "stamp": pa.array(stamps, pa.string()),
        "created": pa.array([datetime.now(UTC)] * len(ids), schema.field("created").type),
    }
    for name in ("status", "stage", "reason", "content_hash", "facts"):
        columns[name] = results[name]
    if spec.output == "vector":
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


def _value_counts(column: pa.ChunkedArray) -> tuple[list[str], list[int]]:
    counts = pc.value_counts(column.combine_chunks())
    return counts.field("values").to_pylist(), counts.field("counts").to_pylist()

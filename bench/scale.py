"""``python -m bench.scale [--rows N] [--dims N]``: what the store costs per row, without models.

Times the catalog, the committer's groups, the plan of a run that has nothing to do, the end of a run
(compaction and index) and lookups, and prints them as JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from mmfeat.pipelines.commit import GROUP_ROWS
from mmfeat.pipelines.plan import Planner
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureSpec, Weights, text_hash
from mmfeat.store import Store, rows_schema


def main() -> None:
    """Fill a store, measure, throw it away."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--dims", type=int, default=8)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measured(folder, args.rows, args.dims), indent=2))


def measured(uri: str, n: int, dims: int) -> dict[str, Any]:
    """Seconds of each step, and the peak memory of this process in MB."""
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        seconds[step] = round(time.perf_counter() - began, 3)

    spec = FeatureSpec(
        name="small", source="title", output="vector", method="bench", model="bench", dims=dims,
        weights=Weights(origin="random", ref="seed=0"), store_dtype="float16",
    )  # fmt: skip
    catalog = items(n)
    store = Store.open(uri, create=True)
    with store.lease("bench"):
        with timed("catalog, first time"):
            store.put_catalog(catalog, {"name": "bench", "root": uri})
        with timed("catalog, nothing new"):
            store.put_catalog(catalog, {"name": "bench", "root": uri})
        version = store.add_version(spec)
        with timed("commits"):
            for start in range(0, n, GROUP_ROWS):
                store.commit(version, rows(spec, start, min(n, start + GROUP_ROWS)), replace=False)
        with timed("end of a run"):
            store.finish(version)
    with timed("plan, nothing to do"):
        ledger = Store.open(uri).ledger(version)
        Planner(catalog, [spec], [ledger], store.stamps(), limits=MediaLimits()).plan()
    ids = [f"item-{i:08d}" for i in np.random.default_rng(0).integers(0, n, 100)]
    opened = Store.open(uri)
    seconds["lookup of 100 ids, median"] = median(lambda: opened.lookup(ids, ["small"]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"rows": n, "dims": dims, "seconds": seconds, "peak_mb": peak}


def items(n: int) -> pa.Table:
    """A catalog of titles."""
    columns = {name: pa.nulls(n, CATALOG_SCHEMA.field(name).type) for name in CATALOG_SCHEMA.names}
    columns["item_id"] = pa.array((f"item-{i:08d}" for i in range(n)), pa.string())
    columns["title"] = pa.array((f"title {i}" for i in range(n)), pa.string())
    return pa.table(columns, schema=CATALOG_SCHEMA)


def rows(spec: FeatureSpec, start: int, end: int) -> pa.Table:
    """Committed rows of the items ``start`` to ``end``."""
    schema, n = rows_schema(spec), end - start
    values = np.random.default_rng(start).standard_normal(n * spec.dims).astype(np.float16)
    columns: dict[str, Any] = {name: pa.nulls(n, schema.field(name).type) for name in schema.names}
    columns["item_id"] = pa.array([f"item-{i:08d}" for i in range(start, end)])
    columns["status"] = pa.array(["ok"] * n)
    columns["content_hash"] = pa.array([text_hash(f"title {i}") for i in range(start, end)])
    columns["stamp"] = pa.array([""] * n)
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(values), spec.dims)
    columns["created"] = pa.array([datetime.now(UTC)] * n, schema.field("created").type)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def median(call: Callable[[], object]) -> float:
    """Seconds of a call, the median of 21."""
    took = []
    for _ in range(21):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return round(float(np.median(took)), 5)


if __name__ == "__main__":
    main()

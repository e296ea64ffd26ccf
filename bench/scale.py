"""``python -m bench.scale [--rows N] [--dims N] [--pictures N]``: what store and driver cost per item.

No models. Items have a title, or with ``--pictures`` so many files of a few bytes each.

Three processes, one after the other, and the peak memory of each: a first run, in which every item is to be
computed (rows of random vectors take the place of the models' results); a run that finds nothing to do; and
lookups. Printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.pipelines.execution.batch import RESULTS_SCHEMA
from mmfeat.pipelines.execution.commit import GROUP_ROWS, Committer
from mmfeat.pipelines.planning.contents import Contents
from mmfeat.pipelines.planning.plan import Plan
from mmfeat.pipelines.planning.planner import Planner
from mmfeat.pipelines.planning.work import PAYLOAD, STAMP
from mmfeat.schemas.catalog import Column, catalog_schema
from mmfeat.schemas.inputs import ImagePrepare, Input, PixelView
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.outputs import VectorOut
from mmfeat.schemas.spec import FeatureSpec, Weights, text_hash
from mmfeat.store import FeatureVersion, Store


def main() -> None:
    """Fill a store, measure, throw it away."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--dims", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=0)
    args = parser.parse_args()
    found: dict[str, Any] = vars(args).copy()
    with tempfile.TemporaryDirectory() as folder:
        for name, step in (("first run", first_run), ("nothing to do", idle_run), ("lookup", lookups)):
            # A process of its own, for a peak of its own.
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                found[name] = process.submit(
                    step, f"{folder}/store", args.rows, args.dims, args.pictures
                ).result()
    print(json.dumps(found, indent=2))


def first_run(uri: str, n: int, dims: int, pictures: int) -> dict[str, float]:
    """Seconds of each step of a run that computes everything, and its peak memory in MB."""
    clock = _Clock()
    spec = feature(dims, pictures)
    write_pictures(uri, n * pictures)
    with clock.step("dataset"):
        catalog = items(uri, n, pictures)
    store = Store.open(uri, create=True)
    with store.lease("bench"):
        with clock.step("catalog"):
            store.put_catalog(catalog, {"name": "bench", "root": uri})
        version = store.add_version(spec)
        with clock.step("plan"):
            plan = planned(store, catalog, version)
        assert len(plan.work) == n
        with clock.step("commits"):
            committer = Committer(store, [version], plan)
            for start in range(0, n, GROUP_ROWS):
                committer.add_results(results(plan.work.slice(start, GROUP_ROWS), dims))
            committer.flush()
        with clock.step("end: compaction, index"):
            store.finish(version)
    return clock.found()


def idle_run(uri: str, n: int, dims: int, pictures: int) -> dict[str, float]:
    """The same of a run that finds nothing to do."""
    clock = _Clock()
    with clock.step("dataset"):
        catalog = items(uri, n, pictures)
    store = Store.open(uri)
    with store.lease("bench"):
        with clock.step("catalog"):
            store.put_catalog(catalog, {"name": "bench", "root": uri})
        version = store.add_version(feature(dims, pictures))
        with clock.step("plan"):
            plan = planned(store, catalog, version)
        assert plan.up_to_date(0) == n
    return clock.found()


def lookups(uri: str, n: int, dims: int, pictures: int) -> dict[str, float]:
    """Seconds of a lookup of 100 ids, the median of 21, and the peak memory in MB."""
    clock = _Clock()
    ids = [f"item-{i:08d}" for i in np.random.default_rng(0).integers(0, n, 100)]
    opened = Store.open(uri)
    clock.seconds["100 ids"] = median(lambda: opened.lookup(ids, ["small"]))
    return clock.found()


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - began, 3)

    def found(self) -> dict[str, float]:
        return {**self.seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


def feature(dims: int, pictures: int) -> FeatureSpec:
    """A feature of titles, or of an item's pictures."""
    read = Input(source="title", modality="text")
    if pictures:
        view = PixelView(mode="squash", height=8, width=8)
        several = pictures if pictures > 1 else None
        read = Input(source="photos", modality="image", prepare=ImagePrepare(view=view, several=several))
    return FeatureSpec(
        name="small", inputs=(read,), method="bench", model="bench",
        output=VectorOut(dims=dims, dtype="float16"), weights=Weights(origin="random", ref="seed=0"),
    )  # fmt: skip


def write_pictures(uri: str, number: int) -> None:
    """So many files of different content, a thousand in a folder."""
    for n in range(number):
        path = picture(uri, n)
        if n % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(b"%d" % n)


def picture(uri: str, number: int) -> Path:
    """The place of one of them."""
    return Path(uri).parent / "pictures" / str(number // 1000) / f"{number}.png"


def items(uri: str, n: int, pictures: int) -> pa.Table:
    """A catalog of titles and pictures."""
    schema = catalog_schema([Column("photos", "image", several=True)])
    columns = {field.name: pa.nulls(n, field.type) for field in schema}
    if pictures:
        places = [str(picture(uri, k)) for k in range(n * pictures)]
        columns["photos"] = pa.ListArray.from_arrays(
            pa.array(np.arange(0, n * pictures + 1, pictures), pa.int32()), pa.array(places)
        )
    numbers = pa.array(np.arange(n)).cast(pa.string())
    columns["item_id"] = pc.binary_join_element_wise("item-", pc.utf8_lpad(numbers, 8, "0"), "")
    columns["title"] = pc.binary_join_element_wise("title", numbers, " ")
    return pa.table(columns, schema=schema)


def planned(store: Store, catalog: pa.Table, version: FeatureVersion) -> Plan:
    """The plan of one feature."""
    ledger = partial(store.ledger_batches, version)
    return Planner(Contents(catalog), [version.spec], [ledger], store.stamps(), limits=MediaLimits()).plan()


def results(work: pa.Table, dims: int) -> pa.Table:
    """RESULTS_SCHEMA rows of random vectors."""
    n = len(work)
    values = np.random.default_rng(work["work"][0].as_py()).standard_normal((n, dims)).astype(np.float16)
    columns = {field.name: pa.nulls(n, field.type) for field in RESULTS_SCHEMA}
    (payload,) = (name for name in work.column_names if name.startswith(PAYLOAD))
    stamp = STAMP + payload.removeprefix(PAYLOAD)
    columns |= {"work": work["work"], "feature": pa.array([0] * n, pa.int32()), "status": pa.repeat("ok", n)}
    columns["stamp"] = work[stamp] if stamp in work.column_names else pa.repeat("", n)
    columns["content_hash"] = pa.array([text_hash(text) for text in work[payload].to_pylist()])
    columns["value"] = pa.array([row.tobytes() for row in values], pa.large_binary())
    return pa.table(columns, schema=RESULTS_SCHEMA)


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

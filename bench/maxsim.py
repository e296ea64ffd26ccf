"""``python -m bench.maxsim [--items N] [--of-each M] [--dims D] [--query Q]``: MaxSim over many vectors.

Makes a store of random float16 token vectors in clusters once (bench/data), searches it in this process, and
prints and writes to bench/out/maxsim.json: seconds and CPU seconds of a search, beside NumPy's float32 matrix
product over all vectors in memory, and through the index that it builds; and the memory that searching took
beside what was held before. CPU seconds are the figures of a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.export import memory_mb
from bench.measure import clocks

HERE = Path(__file__).parent
_COMMIT, _CLUSTERS, _SEARCHES = 1024, 2000, 5


def main() -> None:
    """Measure both sides and print the results."""
    parser = argparse.ArgumentParser(prog="python -m bench.maxsim", description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--of-each", type=int, default=100)
    parser.add_argument("--dims", type=int, default=128)
    parser.add_argument("--query", type=int, default=32)
    args = parser.parse_args()
    path = HERE / "data" / f"maxsim-{args.items}x{args.of_each}x{args.dims}"
    if not path.exists():
        make_store(path, args.items, args.of_each, args.dims)
    results = {"tokens": args.items * args.of_each, "load": os.getloadavg(), **measured(path, args.query)}
    (HERE / "out").mkdir(exist_ok=True)
    (HERE / "out" / "maxsim.json").write_text(json.dumps(results, indent=2))
    print(json.dumps(results))


def measured(path: Path, query: int) -> dict[str, Any]:
    """Seconds of a search in the median, memory, and whether both sides find the same items."""
    import mmfeat

    store = mmfeat.open(path)
    first = store.lookup(["00000", "00001"], ["tokens"])["tokens"].ragged.values
    queries = [tokens(k, query, first.shape[1]) for k in range(_SEARCHES)]
    before = memory_mb("VmRSS")
    seconds, found = timed(queries, lambda one: names(store.search("tokens", vector=one, exact=True)))
    peak = memory_mb("VmHWM") - before
    index = store.vector_index("tokens") or store.build_index("tokens", 0.99)
    through, near = timed(queries, lambda one: names(store.search("tokens", vector=one)))
    shares = [len(set(one) & set(other)) / len(one) for one, other in zip(near, found, strict=True)]
    own = store.lookup(features=["tokens"])
    ragged, ids = own["tokens"].ragged, own.ids
    vectors = ragged.values.astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def by_numpy(one: np.ndarray) -> list[str]:
        asked = one.astype(np.float32)
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
        scores = np.maximum.reduceat(vectors @ asked.T, ragged.offsets[:-1], axis=0).sum(axis=1)
        return [ids[k] for k in np.argsort(-scores)[:10]]

    by_numpy_seconds, expected = timed(queries, by_numpy)
    return {
        "seconds": seconds[0],
        "cpu_seconds": seconds[1],
        "peak_mb": peak,
        "numpy_seconds": by_numpy_seconds[0],
        "numpy_cpu_seconds": by_numpy_seconds[1],
        "matrix_mb": vectors.nbytes / 1e6,
        "same": found == expected,
        "index": str(index),
        "index_seconds": through[0],
        "index_cpu_seconds": through[1],
        "index_recall": statistics.mean(shares),
    }


def names(hits: list[Any]) -> list[str]:
    """The items that were found."""
    return [hit.item_id for hit in hits]


def timed(
    queries: list[np.ndarray], search: Callable[[np.ndarray], list[str]]
) -> tuple[list[float], list[list[str]]]:
    """Seconds and CPU seconds of a search in the median, and what each found."""
    search(queries[0])
    seconds, found = [], []
    for query in queries:
        began = clocks()
        found.append(search(query))
        seconds.append(clocks() - began)
    return np.median(seconds, axis=0).tolist(), found


def make_store(path: Path, items: int, of_each: int, dims: int) -> None:
    """A store of ``items`` with ``of_each`` token vectors."""
    import pyarrow as pa

    from mmfeat.schemas.catalog import CATALOG_SCHEMA
    from mmfeat.schemas.featureset.arrow import token_array
    from mmfeat.schemas.inputs import Input
    from mmfeat.schemas.outputs import TokensOut
    from mmfeat.schemas.spec import FeatureSpec, Weights
    from mmfeat.store import Store, rows_schema

    spec = FeatureSpec(
        name="tokens", inputs=(Input(source="title", modality="text"),), output=TokensOut(dims=dims),
        method="bench", model="random", weights=Weights(origin="random", ref="seed=0"),
    )  # fmt: skip
    schema = rows_schema(spec)
    store = Store.open(str(path), create=True)
    with store.lease("bench"):
        ids = [f"{k:05d}" for k in range(items)]
        store.put_catalog(pa.Table.from_pylist([{"item_id": i} for i in ids], schema=CATALOG_SCHEMA), {})
        version = store.add_version(spec)
        for start in range(0, items, _COMMIT):
            some = ids[start : start + _COMMIT]
            columns = {field.name: pa.nulls(len(some), field.type) for field in schema}
            columns["item_id"], columns["status"] = pa.array(some), pa.array(["ok"] * len(some))
            own = np.split(tokens(start + _SEARCHES, len(some) * of_each, dims), len(some))
            columns["tokens"] = token_array(own, (dims,), "float16")
            columns["created"] = pa.array([0] * len(some), pa.int64()).cast(schema.field("created").type)
            store.commit(version, pa.table(columns, schema=schema), replace=False)
        store.finish(version)
        store.set_current("tokens", version.fingerprint)


def tokens(seed: int, number: int, dims: int) -> np.ndarray:
    """float16 ``[number, dims]`` around the centres that all token vectors have."""
    centres = np.random.default_rng(0).standard_normal((_CLUSTERS, dims))
    rng = np.random.default_rng(seed + 1)
    around = centres[rng.integers(0, _CLUSTERS, number)] + 0.7 * rng.standard_normal((number, dims))
    return around.astype(np.float16)


if __name__ == "__main__":
    main()

"""``python -m bench.export [--items N] [--dims D]``: exports from a store beside ``np.save`` of the matrix.

Makes a store of random float32 vectors and interactions once (bench/data), exports it to each format in a
process of its own, checks the result with the echo check, and writes bench/out/export.json. Seconds are from
the open store to the finished, synced folder, reading included; memory is the process's peak over what it
held after its imports, in multiples of the matrix.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
FORMATS = ("mmrec", "recbole")
USERS, PER_USER = 20_000, 20
_COMMIT = 8192


def main() -> None:
    """Measure each side in a fresh process and print the results."""
    parser = argparse.ArgumentParser(prog="python -m bench.export", description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dims", type=int, default=768)
    parser.add_argument("--side", choices=["np.save", *FORMATS], help=argparse.SUPPRESS)
    args = parser.parse_args()
    store = HERE / "data" / f"export-{args.items}x{args.dims}"
    out = HERE / "out" / "export"
    if args.side:
        print(json.dumps(run_side(args.side, store, out / args.side.replace(".", "_"))))
        return
    if not store.exists():
        make_store(store, args.items, args.dims)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    sides = {side: in_a_process(side, args) for side in ("np.save", *FORMATS)}
    matrix_mb = args.items * args.dims * 4 / 1e6
    results = {"items": args.items, "dims": args.dims, "matrix_mb": matrix_mb, "load": os.getloadavg()}
    for measured in sides.values():
        measured["times_np_save"] = measured["seconds"] / sides["np.save"]["seconds"]
        measured["memory_of_matrix"] = measured["peak_mb"] / matrix_mb
    results["sides"] = sides
    (HERE / "out" / "export.json").write_text(json.dumps(results, indent=2))
    print(json.dumps(results))
    print_table(sides)


def run_side(side: str, store: Path, out: Path) -> dict[str, Any]:
    """One side's seconds, memory and bytes."""
    import mmfeat
    import mmfeat.export
    import mmfeat.store

    opened = mmfeat.open(store)
    before = memory_mb("VmRSS")
    began = time.perf_counter()
    matrix = opened.lookup(features=["vectors"])["vectors"].matrix if side == "np.save" else None
    read = time.perf_counter() - began
    if matrix is not None:
        began = time.perf_counter()
        np.save(out.with_suffix(".npy"), matrix)
        sync(out.with_suffix(".npy"))
        written = out.with_suffix(".npy").stat().st_size
    else:
        role = "image" if side == "mmrec" else "item"
        report = opened.export(side, out, features={role: "vectors"})
        written = sum(report.files.values())
    seconds = time.perf_counter() - began
    peak = memory_mb("VmHWM") - before
    measured = {"seconds": seconds, "peak_mb": peak, "bytes": written}
    if matrix is not None:
        return {**measured, "read_seconds": read}
    began = time.perf_counter()
    assert mmfeat.export.verify(out).ok
    return {**measured, "verify_seconds": time.perf_counter() - began}


def make_store(path: Path, items: int, dims: int) -> None:
    """A store of ``items`` random vectors, and interactions that meet every item."""
    import pyarrow as pa

    from mmfeat.schemas.catalog import CATALOG_SCHEMA, INTERACTIONS_SCHEMA
    from mmfeat.schemas.spec import FeatureSpec, Weights
    from mmfeat.store import Store, rows_schema

    spec = FeatureSpec(
        name="vectors", source="cover", output="vector", method="bench", model="random",
        weights=Weights(origin="random", ref="seed=0"), dims=dims, store_dtype="float32",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    ids = [f"item-{k}" for k in range(items)]
    met = np.concatenate([np.arange(items), rng.integers(0, items, max(0, USERS * PER_USER - items))])
    pairs = {
        "user_id": [f"user-{k}" for k in rng.integers(0, USERS, len(met))],
        "item_id": [ids[k] for k in met],
        "timestamp": rng.integers(1_600_000_000_000, 1_700_000_000_000, len(met)),
    }
    store = Store.open(str(path), create=True)
    with store.lease("bench"):
        catalog = pa.Table.from_pylist([{"item_id": i} for i in ids], schema=CATALOG_SCHEMA)
        store.put_catalog(catalog, {"name": "bench"})
        store.put_interactions(pa.table(pairs, schema=INTERACTIONS_SCHEMA))
        version = store.add_version(spec)
        for start in range(0, items, _COMMIT):
            some = ids[start : start + _COMMIT]
            vectors = rng.standard_normal((len(some), dims)).astype(np.float32)
            rows = [
                {"item_id": i, "status": "ok", "vector": vector, "created": datetime.now(UTC)}
                for i, vector in zip(some, vectors, strict=True)
            ]
            store.commit(version, pa.Table.from_pylist(rows, schema=rows_schema(spec)), replace=False)
        store.finish(version)
        store.set_current("vectors", version.fingerprint)


def in_a_process(side: str, args: argparse.Namespace) -> dict[str, Any]:
    """``run_side`` in a new process."""
    command = [sys.executable, "-m", "bench.export", "--side", side]
    command += ["--items", str(args.items), "--dims", str(args.dims)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def print_table(sides: dict[str, dict[str, Any]]) -> None:
    """The results for people."""
    print(f"\n{'':8}  {'seconds':>8}  {'x np.save':>9}  {'peak, x matrix':>14}  {'MB':>7}")
    for side, m in sides.items():
        ratio, memory = m["times_np_save"], m["memory_of_matrix"]
        print(f"{side:8}  {m['seconds']:8.2f}  {ratio:9.1f}  {memory:14.2f}  {m['bytes'] / 1e6:7.0f}")


def memory_mb(field: str) -> float:
    """``VmRSS`` (now) or ``VmHWM`` (peak) of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024 / 1e6


def sync(path: Path) -> None:
    """Wait until a file is on the disk, as exports do."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()

"""``python -m bench.interactions [--rows N]``: what it costs to read a person's own file of interactions.

Writes the same interactions as Parquet, CSV (plain, quoted, with ISO times) and JSON lines, and reads each in
a process of its own. Printed as JSON: seconds from the file to the table, those of all cores together, and
the peak memory of the process in MB, its imports (``start_mb``) included.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv


def main() -> None:
    """Write each form, read it, throw it away."""
    parser = argparse.ArgumentParser(prog="python -m bench.interactions", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMS:
            path = Path(folder) / name
            # Processes of their own: what writes holds memory, and each reading has a peak of its own.
            for step in (write_form, read_form):
                with ProcessPoolExecutor(1, get_context("spawn")) as process:
                    found[name] = process.submit(step, path, args.rows).result()
    print(json.dumps({"rows": args.rows, **found}, indent=2))


def write_form(path: Path, n: int) -> dict[str, float]:
    """The file of a form; nothing of it counts."""
    FORMS[path.name](interactions(n), path)
    return {}


def read_form(path: Path, n: int) -> dict[str, float]:
    """Seconds of reading it, and the memory of the process before and at its peak."""
    from mmfeat.datasets.own_interactions import read_own
    from mmfeat.schemas.interactions import InteractionsConfig

    start = peak_mb()
    began, used = time.perf_counter(), time.process_time()
    table = read_own(InteractionsConfig(file=str(path))).table
    seconds, cores = (round(now, 2) for now in (time.perf_counter() - began, time.process_time() - used))
    assert len(table) == n and not any(column.null_count for column in table.columns)
    size = round(path.stat().st_size / 1e6)
    return {
        "file_mb": size,
        "seconds": seconds,
        "seconds_of_cores": cores,
        "start_mb": start,
        "peak_mb": peak_mb(),
    }


def interactions(n: int) -> pa.Table:
    """Random users, items, times, ratings and events."""
    rng = np.random.default_rng(0)

    def ids(prefix: str) -> pa.Array:
        return pc.binary_join_element_wise(
            prefix, pa.array(rng.integers(0, 100_000, n)).cast(pa.string()), "-"
        )

    times = 1_600_000_000_000 + rng.integers(0, 10**11, n)
    events = pa.array(["view", "click", "buy"]).take(pa.array(rng.integers(0, 3, n)))
    columns = [ids("user"), ids("item"), pa.array(times), pa.array(rng.integers(1, 6, n) / 1), events]
    return pa.table(columns, names=["user_id", "item_id", "timestamp", "rating", "event"])


def peak_mb() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _csv(table: pa.Table, path: Path, quoting: str = "none") -> None:
    arrow_csv.write_csv(table, path, arrow_csv.WriteOptions(quoting_style=quoting))


def _iso_csv(table: pa.Table, path: Path) -> None:
    moments = pc.strftime(table["timestamp"].cast(pa.timestamp("ms")), "%Y-%m-%dT%H:%M:%SZ")
    _csv(table.set_column(2, "timestamp", moments), path)


def _json_lines(table: pa.Table, path: Path) -> None:
    with path.open("w") as file:
        for batch in table.to_batches(10_000):
            file.writelines(json.dumps(row) + "\n" for row in batch.to_pylist())


FORMS: dict[str, Callable[[pa.Table, Path], None]] = {
    "clicks.parquet": lambda table, path: pq.write_table(table, path),
    "plain.csv": _csv,
    "quoted.csv": lambda table, path: _csv(table, path, "all_valid"),
    "iso.csv": _iso_csv,
    "clicks.jsonl": _json_lines,
}


if __name__ == "__main__":
    main()

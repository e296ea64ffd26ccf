"""Whole runs in one small process, without Ray: what makes two hundred kills affordable.

Everything is the product's own, from the dataset to the record, but for what Ray and the models do: here
a result is a digest of the content. Whole runs with Ray are killed in ``test_killed_ray.py``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmfeat.pipelines import run
from mmfeat.pipelines.execution import commit
from mmfeat.pipelines.execution.batch import RESULTS_SCHEMA
from mmfeat.pipelines.steps.gates import Gates
from mmfeat.schemas.job import parse_job
from mmfeat.schemas.spec import FeatureSpec, Weights, text_hash
from mmfeat.store import Store

DIMS = 16
N_ITEMS = 60
_GROUP_ROWS = 16
_BLOCK = 8

VECTORS = FeatureSpec(
    name="title_vector", source="title", output="vector", method="open_clip", model="digest",
    weights=Weights(origin="random", ref="seed=0"), dims=DIMS, store_dtype="float32",
)  # fmt: skip
TEXTS = FeatureSpec(
    name="told", source="description", output="text", method="transformers", model="digest",
    weights=Weights(origin="random", ref="seed=0"), text_kind="caption",
)  # fmt: skip
SPECS = [VECTORS, TEXTS]


def write_dataset(table: Path, edition: int) -> Path:
    """A table of titles and descriptions. Each edition changes every fourth item's texts and adds four
    items; some texts are the same, some are missing, and some fail."""
    lines = ["item_id,title,description"]
    for n in range(N_ITEMS + 4 * edition):
        changed = edition if n % 4 == 0 else 0
        title = "" if n % 11 == 5 else f"shared title {changed}" if n % 7 == 0 else f"title of {n} {changed}"
        fate = "broken" if n % 13 == 6 else "a fine thing"
        lines.append(f"item-{n:03d},{title},{fate} {n} {changed}")
    table.write_text("\n".join(lines) + "\n")
    return table


def run_once(uri: str, dataset: Path, tables: dict[str, Any] | None = None, **options: Any) -> run.RunReport:
    """One ``mmfeat extract`` over the dataset as the table has it now.

    Args:
        tables: further tables of the job.
        options: its ``[run]``.
    """
    with _without_ray():
        job = _job(uri, dataset, options, tables or {})
        return run.run_job(job, judge=Gates(job.gates))


@contextlib.contextmanager
def _without_ray() -> Iterator[None]:
    kept = run.resolve_all, run.ray_session, run.Graph, commit.GROUP_ROWS
    run.resolve_all, run.ray_session, run.Graph = lambda features: SPECS, _no_session, Digests
    # Groups of a few rows, so that there are many commits to be killed in.
    commit.GROUP_ROWS = _GROUP_ROWS
    try:
        yield
    finally:
        run.resolve_all, run.ray_session, run.Graph, commit.GROUP_ROWS = kept


def _job(uri: str, dataset: Path, options: dict[str, Any], tables: dict[str, Any]) -> Any:
    features = {
        "title_vector": {"source": "title", "encoder": "open_clip", "model": "digest"},
        "told": {"source": "description", "encoder": "open_clip", "model": "digest"},
    }
    return parse_job(
        {
            "store": {"uri": uri},
            "dataset": {"name": "table", "root": str(dataset)},
            "features": features,
            "run": {"max_failed": 1.0, **options},
            **tables,
        },
        "test",
    )


@contextlib.contextmanager
def _no_session(resources: object) -> Iterator[None]:
    yield


class Digests:
    """In the place of the graph."""

    workers = 1

    def __init__(self, units: pa.Table, *_: object) -> None:
        self.rows = [_result(unit, number) for unit in units.to_pylist() for number in unit["features"]]

    def results(self) -> Generator[pa.Table]:
        for start in range(0, len(self.rows), _BLOCK):
            yield pa.Table.from_pylist(self.rows[start : start + _BLOCK], schema=RESULTS_SCHEMA)


def _result(unit: dict[str, Any], number: int) -> dict[str, Any]:
    text = unit["payload"]
    failed = "broken" in text
    digest = hashlib.sha256(text.encode()).digest()
    numbers = np.frombuffer(digest[:DIMS], np.uint8).astype(np.float32)
    value = numbers.tobytes() if SPECS[number].output == "vector" else f"seen: {digest.hex()}".encode()
    return {
        "unit": unit["unit"],
        "feature": number,
        "status": "failed" if failed else "ok",
        "stage": "encode" if failed else "",
        "reason": "it is broken" if failed else "",
        "content_hash": text_hash(text),
        "stamp": unit["stamp"],
        "value": None if failed else value,
        "facts": None if failed or number == 0 else json.dumps({"new_tokens": len(text)}),
        "seconds": 0.0,
    }


def contents(uri: str) -> dict[str, pa.Table]:
    """Every row of every feature, by item id, without the time at which it was written."""
    store = Store.open(uri)
    found = {}
    for version in store.versions():
        ids = store.ledger(version)["item_id"].to_pylist()
        assert len(ids) == len(set(ids)), f"{version.version}: an item has two rows"
        found[version.name] = store.full_rows(version, sorted(ids)).drop_columns(["created"])
    return found

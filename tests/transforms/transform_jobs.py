"""Jobs whose vectors need no model, and transforms of these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import mmfeat
from mmfeat.pipelines.run import run_job
from mmfeat.pipelines.run_report import RunReport
from mmfeat.schemas.job import parse_job

N = 24
TITLES = {f"item-{n:02d}": f"title {n}" for n in range(N)}
TEXT = {"source": "title", "encoder": "digest"}


def write(folder: Path, titles: dict[str, str]) -> Path:
    """A table of titles; an item's description is its title read backwards."""
    lines = [f"{item_id},{title},{title[::-1]}" for item_id, title in titles.items()]
    path = folder / "items.csv"
    path.write_text("\n".join(["item_id,title,description", *lines]) + "\n")
    return path


def run(
    uri: str, titles: dict[str, str], features: dict[str, Any], *, edition: int = 1, **tables: Any
) -> RunReport:
    """The job over a dataset with these titles: ``text`` reads titles, ``other`` descriptions."""
    own = {"text": {**TEXT, "edition": edition}, "other": {"source": "description", "encoder": "digest"}}
    job = {
        "store": {"uri": uri},
        "dataset": {
            "name": "table",
            "root": str(write(Path(uri).parent, titles)),
            **tables.pop("dataset", {}),
        },
        "features": {**features, **own},
        "run": {"max_failed": 1.0, "max_lost": 1.0, **tables.pop("run", {})},
        "resources": {"executor": "local"},
        **tables,
    }
    return run_job(parse_job(job, "job.toml"))


def vectors_of(uri: str, ref: str) -> dict[str, np.ndarray]:
    """Of the items that have one."""
    found = mmfeat.open(uri).lookup(features=[ref])
    column = next(iter(found.values()))
    return {i: column.matrix[k] for k, i in enumerate(found.ids) if column.mask[k]}


def bits_of(uri: str, ref: str) -> dict[str, bytes]:
    """The same, as bytes."""
    return {item_id: vector.tobytes() for item_id, vector in vectors_of(uri, ref).items()}

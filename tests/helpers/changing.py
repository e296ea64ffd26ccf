"""Datasets that change, the runs over them, and what their store holds then; without Ray and models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import lance
import pyarrow.parquet as pq

import mmfeat
from helpers import unrayed
from helpers.plugins import on_path
from mmfeat.pipelines.run import run_job
from mmfeat.pipelines.run_report import RunReport
from mmfeat.schemas.job import parse_job
from mmfeat.store import Store, rows_schema

Items = Mapping[str, Mapping[str, str]]
FEATURES = {
    "title_vector": {"source": "title", "encoder": "digest"},
    "caption": {"source": "description", "captioner": "digest"},
}
#: Interactions of twenty items.
PAIRS = [(f"u{n % 7}", str(n % 20)) for n in range(60)]


def titled(ids: Iterable[object], of: str = "") -> dict[str, dict[str, str]]:
    """Items with a title and a description each; ``of`` tells those apart that share ids."""
    return {str(i): {"title": f"{of}title of {i}", "description": f"{of}thing {i}"} for i in ids}


def write_table(table: Path, items: Items) -> Path:
    """The items as JSON lines; a column that no item has is in no line."""
    table.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"item_id": item_id, **values}) for item_id, values in items.items()]
    table.write_text("".join(f"{line}\n" for line in lines))
    return table


def write_microlens(folder: Path, items: Items, pairs: Iterable[tuple[str, str]]) -> Path:
    """The items' titles, and who met which item, as MicroLens has them."""
    folder.mkdir(parents=True, exist_ok=True)
    titles = [f"{item_id},{values['title']}" for item_id, values in items.items()]
    (folder / "titles.csv").write_text("\n".join(["item,title", *titles]) + "\n")
    seen = [f"{user},{item_id},{at}" for at, (user, item_id) in enumerate(pairs)]
    (folder / "pairs.csv").write_text("\n".join(["user,item,timestamp", *seen]) + "\n")
    return folder


def run(
    store: Path, root: Path, name: str = "table", *, dataset: Mapping[str, Any] | None = None, **tables: Any
) -> RunReport:
    """One run over a dataset as it is now.

    Args:
        dataset: further keys of ``[dataset]``.
        tables: keys of ``[run]``, and further tables of the job where they are tables.
    """
    options = {key: value for key, value in tables.items() if not isinstance(value, dict)}
    further = {key: value for key, value in tables.items() if isinstance(value, dict)}
    job = {
        "store": {"uri": str(store)},
        "dataset": {"name": name, "root": str(root), **(dataset or {})},
        "features": further.pop("features", FEATURES),
        "run": {"max_failed": 1.0, **options},
        **further,
    }
    with on_path(unrayed.PLUGIN):
        return run_job(parse_job(job, "test"), executor=unrayed.InSmallBlocks())


def rows(store: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """``(version, item id)`` to the row, without the time at which it was written; of every version."""
    if not store.exists():
        return {}
    opened = Store.open(str(store))
    found = {}
    for version in opened.versions():
        columns = [name for name in rows_schema(version.spec).names if name != "created"]
        for batch in opened.ledger_batches(version, columns):
            for row in batch.to_pylist():
                assert (version.version, row["item_id"]) not in found, f"two rows of {row['item_id']}"
                found[version.version, row["item_id"]] = row
    return found


def exported(store: Path, out: Path, **settings: Any) -> list[str]:
    """The ids in an export of the title vectors."""
    mmfeat.open(store).export("parquet", out, **{"features": ["title_vector"], **settings})
    ids: list[str] = pq.read_table(out / "id_map.parquet")["item_id"].to_pylist()
    return ids


def state(store: Path) -> tuple[object, ...]:
    """Everything of a store that a refused run must leave alone."""
    opened = mmfeat.open(store)
    tables = sorted(p.name for p in store.glob("*.lance") if p.stem not in ("_runs", "_logs"))
    versions = {name: lance.dataset(str(store / name)).version for name in tables}
    return versions, rows(store), opened.ids, opened.gone, opened.interactions

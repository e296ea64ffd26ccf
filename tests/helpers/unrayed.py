"""Whole runs in one small process, without Ray: what makes two hundred kills affordable.

Everything is the product's own, from the dataset to the record. The methods need no model
(``digests.py``), and the executor takes a few work items at a time, so that there are many commits to be
killed in. Whole runs with Ray are killed in ``test_killed_ray.py``.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from helpers.plugins import on_path
from mmfeat.extract.registry import resolve_all
from mmfeat.pipelines.execution import commit
from mmfeat.pipelines.execution.base import Executor, Task
from mmfeat.pipelines.execution.stages import Decode, Encode
from mmfeat.pipelines.planning.work import count_wanted
from mmfeat.pipelines.run import run_job
from mmfeat.pipelines.run_report import RunReport
from mmfeat.schemas.errors import ConservationError
from mmfeat.schemas.job import JobConfig, parse_job
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec
from mmfeat.store import Store

N_ITEMS = 60
PLUGIN = Path(__file__).parents[1] / "faults" / "plugin"
_GROUP_ROWS = 16
_BLOCK = 8


def features(edition: int = 1) -> dict[str, dict[str, Any]]:
    """The features of a run; those of another edition are other versions of them."""
    return {
        "title_vector": {"source": "title", "encoder": "digest", "edition": edition},
        "caption": {"source": "description", "captioner": "digest", "edition": edition},
    }


def specs(edition: int = 1) -> list[FeatureSpec]:
    """What these features resolve to."""
    with on_path(PLUGIN):
        return resolve_all({name: FeatureConfig(**table) for name, table in features(edition).items()})


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


def job(
    uri: str, dataset: Path, tables: dict[str, Any] | None = None, edition: int = 1, **options: Any
) -> JobConfig:
    """The job of :func:`run_once`."""
    return parse_job(
        {
            "store": {"uri": uri},
            "dataset": {"name": "table", "root": str(dataset)},
            "features": features(edition),
            "run": {"max_failed": 1.0, **options},
            **(tables or {}),
        },
        "test",
    )


def run_once(
    uri: str,
    dataset: Path,
    tables: dict[str, Any] | None = None,
    *,
    edition: int = 1,
    executor: Executor | None = None,
    **options: Any,
) -> RunReport:
    """One ``mmfeat extract`` over the dataset as the table has it now.

    Args:
        tables: further tables of the job.
        edition: see :func:`features`.
        executor: what computes; :class:`InSmallBlocks` unless another one is given.
        options: its ``[run]``.
    """
    with on_path(PLUGIN), _small_groups():
        return run_job(job(uri, dataset, tables, edition, **options), executor=executor or InSmallBlocks())


@contextmanager
def _small_groups() -> Iterator[None]:
    kept, commit.GROUP_ROWS = commit.GROUP_ROWS, _GROUP_ROWS
    try:
        yield
    finally:
        commit.GROUP_ROWS = kept


class InSmallBlocks:
    """An executor: the stages in this thread, ``_BLOCK`` work items at a time."""

    name = "small blocks"
    workers = 1
    task: Task

    @contextmanager
    def start(self, task: Task) -> Iterator[InSmallBlocks]:
        self.task = task
        yield self

    def results(self) -> Generator[pa.Table]:
        task = self.task
        decode = Decode(task.specs, task.limits)
        encode = Encode(task.specs, sorted(count_wanted(task.work)), last=True)
        for start in range(0, len(task.work), _BLOCK):
            yield encode(decode(task.work.slice(start, _BLOCK)))

    def alone(self, work: pa.Table) -> Generator[pa.Table]:
        raise ConservationError(f"{len(work)} work items came out of no stage.")
        yield


def contents(uri: str) -> dict[str, pa.Table]:
    """Every row of every feature, by item id, without the time at which it was written."""
    store = Store.open(uri)
    found = {}
    for version in store.versions():
        ids = store.ledger(version)["item_id"].to_pylist()
        assert len(ids) == len(set(ids)), f"{version.version}: an item has two rows"
        found[version.name] = store.full_rows(version, sorted(ids)).drop_columns(["created"])
    return found

"""Contents that begin to fail, as those of a folder that is half copied: no ok row is lost before it is known
that no more failed than the job allows."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pyarrow as pa
import pytest
from helpers import unrayed
from helpers.changing import FEATURES, rows, run, titled, write_table
from helpers.plugins import on_path

from mmfeat.pipelines.run import run_job
from mmfeat.pipelines.run_report import RunReport
from mmfeat.schemas.errors import GateFailed
from mmfeat.schemas.job import parse_job

OF_CAPTION = {**FEATURES, "caption_vector": {"source": "caption", "encoder": "digest"}}


def broken(items: dict[str, dict[str, str]], column: str = "title") -> dict[str, dict[str, str]]:
    """The items with contents that fail."""
    return {i: {**values, column: f"broken {i}"} for i, values in items.items()}


def statuses(store: Path, feature: str = "title_vector") -> set[str]:
    return {row["status"] for (version, _), row in rows(store).items() if version.startswith(f"{feature}@")}


# 12: judged at the end of the run. 240: it stops as soon as it is hopeless.
@pytest.mark.parametrize("n", [12, 240])
def test_ok_rows_are_kept_where_too_many_of_their_items_fail_now(tmp_path, n):
    store, table, items = tmp_path / "store", tmp_path / "items.jsonl", titled(range(n))
    run(store, write_table(table, items))
    before = rows(store)
    write_table(table, broken(items))
    for _ in range(2):
        with pytest.raises(GateFailed, match=r"title_vector@.* ok rows keep their former value") as stop:
            run(store, table, max_failed=0.05)
        assert rows(store) == before
    if n == 12:
        assert "12 ok rows keep their former value" in stop.value.message
        assert any("12 ok rows keep" in notice for notice in stop.value.report.notices)
        assert stop.value.report.features[0].failed == 0
    # Mended, nothing is to be done; accepted, they are failed.
    assert run(store, write_table(table, items), max_failed=0.05).computed == 0
    assert run(store, write_table(table, broken(items))).features[0].failed == n
    assert statuses(store) == {"failed"}


def test_failed_rows_replace_ok_ones_where_no_more_fail_than_is_allowed(tmp_path):
    store, table, items = tmp_path / "store", tmp_path / "items.jsonl", titled(range(40))
    run(store, write_table(table, items))
    report = run(store, write_table(table, {**items, **broken(titled("7"))}), max_failed=0.05)
    assert (report.features[0].failed, report.features[0].up_to_date) == (1, 39)
    assert not any("keep their former value" in notice for notice in report.notices)
    failed = [item_id for (_, item_id), row in rows(store).items() if row["status"] == "failed"]
    assert failed == ["7"]
    # Those that failed before count: one more is too much now.
    with pytest.raises(GateFailed, match="2 ok rows keep their former value"):
        run(store, write_table(table, {**items, **broken(titled("789"))}), max_failed=0.05)


def test_what_succeeds_and_what_is_new_is_committed_beside_what_is_kept(tmp_path):
    store, table = tmp_path / "store", tmp_path / "items.jsonl"
    run(store, write_table(table, titled(range(10))))
    changed = {**titled(range(5), of="new "), **broken(titled(range(5, 12)))}
    with pytest.raises(GateFailed, match="5 ok rows keep") as stop:
        run(store, write_table(table, changed), max_failed=0.05)
    (found, _) = stop.value.report.features
    assert (found.ok, found.failed) == (5, 2)


def test_items_of_one_content_are_kept_together(tmp_path):
    store, table = tmp_path / "store", tmp_path / "items.jsonl"
    run(store, write_table(table, titled(range(10))))
    before = rows(store)
    alike = {i: {**values, "title": "broken alike"} for i, values in titled(range(10)).items()}
    with pytest.raises(GateFailed, match="10 ok rows keep"):
        run(store, write_table(table, alike), max_failed=0.05)
    assert rows(store) == before


def test_a_feature_of_a_feature_keeps_its_rows_with_it(tmp_path):
    store, table, items = tmp_path / "store", tmp_path / "items.jsonl", titled(range(10))
    run(store, write_table(table, items), features=OF_CAPTION)
    before = rows(store)
    with pytest.raises(GateFailed, match="10 ok rows keep") as stop:
        run(store, write_table(table, broken(items, "description")), features=OF_CAPTION, max_failed=0.05)
    assert rows(store) == before
    assert sum("10 ok rows keep" in notice for notice in stop.value.report.notices) == 2


class Interrupted(unrayed.InSmallBlocks):
    """Ctrl-C after the first results."""

    def results(self) -> Generator[pa.Table]:
        yield from list(super().results())[:2]
        raise KeyboardInterrupt


class LosesItsWorkers(unrayed.InSmallBlocks):
    """Everything is tried alone."""

    def results(self) -> Generator[pa.Table]:
        yield from ()

    def alone(self, work: pa.Table) -> Generator[pa.Table]:
        self.task = self.task.__class__(**{**vars(self.task), "work": work})
        yield from super().results()


@pytest.mark.parametrize(("executor", "stops"), [(Interrupted, BaseException), (LosesItsWorkers, GateFailed)])
def test_an_interrupted_run_and_one_that_lost_its_workers_keep_them_too(tmp_path, executor, stops):
    store, table, items = tmp_path / "store", tmp_path / "items.jsonl", titled(range(40))
    run(store, write_table(table, items))
    before = rows(store)
    with pytest.raises(stops):
        by(executor(), store, write_table(table, broken(items)))
    assert rows(store) == before
    with pytest.raises(GateFailed, match="40 ok rows keep"):
        run(store, table, max_failed=0.05)


def by(executor: unrayed.InSmallBlocks, store: Path, table: Path) -> RunReport:
    job = {
        "store": {"uri": str(store)},
        "dataset": {"name": "table", "root": str(table)},
        "features": FEATURES,
        "run": {"max_failed": 0.05},
    }
    with on_path(unrayed.PLUGIN):
        return run_job(parse_job(job, "test"), executor=executor)

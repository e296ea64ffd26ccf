"""Writers on an object store: killed, two at once, and a server whose commits are not safe."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
from helpers import killing, unrayed
from helpers.flaky_s3 import BUCKET, FlakyS3
from helpers.storing import vector_spec
from pyarrow import fs

import mmfeat
from mmfeat.pipelines.record import runs
from mmfeat.schemas.errors import StoreError
from mmfeat.store import Store, examine
from mmfeat.store.database import Database

N_GROUPS = 12


def with_environment(environment: dict[str, str], what: Any, *args: Any) -> None:
    """Processes are forked from one that was started before this test's server."""
    os.environ.update(environment)
    what(*args)


def started(environment: dict[str, str], what: Any, *args: Any) -> Any:
    return killing.spawned(with_environment, environment, what, *args)


def expire_lease(uri: str) -> None:
    """As if two minutes went by since its holder was killed."""
    lance.dataset(f"{uri}/_lease.lance").update({"expires": "0"})


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> dict[str, pa.Table]:
    """The rows of a local store that was never killed."""
    folder = tmp_path_factory.mktemp("local")
    unrayed.run_once(str(folder / "store"), unrayed.write_dataset(folder / "items.csv", 0))
    return unrayed.contents(str(folder / "store"))


def test_a_run_killed_on_an_object_store_keeps_its_rows_and_the_next_ends_as_on_a_disk(
    lake, in_lake, tmp_path, local
):
    table = unrayed.write_dataset(tmp_path / "items.csv", 0)
    moment = killing.Moment("commit", 3, "after")
    assert killing.killed(started(in_lake, killing.die_at, lake, table, moment))
    kept = sum(len(rows) for rows in unrayed.contents(lake).values())
    assert 0 < kept < 2 * unrayed.N_ITEMS
    with pytest.raises(StoreError, match="is being written by process"):
        unrayed.run_once(lake, table)
    expire_lease(lake)
    unrayed.run_once(lake, table)
    assert unrayed.contents(lake) == local
    assert [record["end"] for record in runs(Store.open(lake))] == ["killed", "completed"]
    (_, completed) = mmfeat.open(lake).runs()
    assert sum(f["ok"] + f["missing"] + f["failed"] for f in completed["report"]["features"]) == 120 - kept
    assert examine(lake, deep=True) == []


def test_two_runs_started_at_once_on_an_object_store_compute_each_row_once(lake, in_lake, tmp_path, local):
    table = unrayed.write_dataset(tmp_path / "items.csv", 0)
    both = [started(in_lake, run_waiting, lake, table) for _ in range(2)]
    assert not any(killing.killed(process) for process in both)
    assert unrayed.contents(lake) == local
    done = [
        sum(f["ok"] + f["missing"] + f["failed"] for f in record["report"]["features"])
        for record in mmfeat.open(lake).runs()
    ]
    assert done == [120, 0]


def run_waiting(uri: str, table: Path) -> None:
    unrayed.run_once(uri, table, wait_seconds=100)


def test_commits_of_two_processes_to_one_table_are_all_there_once(lake, in_lake):
    # Past the lease, as two writers would be whose host stood still at the wrong moment.
    processes = [started(in_lake, append_groups, lake, name) for name in ("a", "b")]
    assert not any(killing.killed(process) for process in processes)
    rows = Database(lake).read("numbers", SCHEMA)["name"].to_pylist()
    assert sorted(rows) == sorted(f"{name}{n}" for name in ("a", "b") for n in range(N_GROUPS))


SCHEMA = pa.schema([pa.field("name", pa.string(), nullable=False)])


def append_groups(uri: str, name: str) -> None:
    database = Database(uri)
    for n in range(N_GROUPS):
        database.append("numbers", pa.table({"name": [f"{name}{n}"]}, schema=SCHEMA))


@pytest.fixture
def flaky(monkeypatch, request) -> Iterator[FlakyS3]:
    """A server that honours conditions or not, as the test's parameter says."""
    server = FlakyS3(conditional=request.param)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server
    server.stop()


def manifests_put_twice(server: FlakyS3) -> set[str]:
    puts = Counter(path for method, path in server.requests if method == "PUT" and ".manifest" in path)
    return {path for path, times in puts.items() if times > 1}


@pytest.mark.parametrize("flaky", [False], indirect=True)
def test_a_server_that_ignores_the_condition_of_a_write_is_refused_before_a_row_is_written(flaky):
    store = Store.open(flaky.store, create=True)
    for _ in range(5):  # each time, and not by chance
        with (
            pytest.raises(StoreError, match="let the same version of a table be written twice") as raised,
            store.lease("t"),
        ):
            store.add_version(vector_spec())
    assert "If-None-Match" in raised.value.hint
    assert Store.open(flaky.store).versions() == []
    assert "_probe_" not in str(fs.FileSystem.from_uri(f"s3://{BUCKET}")[0].get_file_info(everything(flaky)))


@pytest.mark.parametrize("flaky", [True], indirect=True)
def test_the_condition_is_tried_by_two_writes_of_one_object_before_anything_else_is_written(flaky):
    store = Store.open(flaky.store, create=True)
    flaky.requests.clear()
    with store.lease("t"):
        (twice,) = manifests_put_twice(flaky)
        assert "/_probe_" in twice
        put = [path for method, path in flaky.requests if method == "PUT" and ".manifest" in path]
        assert ["/_probe_" in path for path in put[:3]] == [True] * 3 and put.count(twice) == 2


def everything(server: FlakyS3) -> fs.FileSelector:
    return fs.FileSelector(server.store.removeprefix("s3://"), recursive=True)


@pytest.mark.parametrize("uri", ["hdfs://host/store", "http://host/store", "memory://store"])
def test_a_store_in_a_place_of_another_kind_is_refused_with_the_kinds_there_are(uri, run):
    code, _, err = run("status", "--store", uri)
    assert code == 1
    assert "A store cannot be at" in err and "s3://BUCKET/PREFIX" in err

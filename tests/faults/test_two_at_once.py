"""Two runs on one store, and readers beside a run: no row lost or doubled, every read a consistent state."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import killing, unrayed, worlds
from helpers.processes import PROCESSES

import mmfeat
from mmfeat.store import Store
from mmfeat.store.lease_record import RecordLease

EDITIONS = 6


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return killing.never_killed(tmp_path_factory.mktemp("never-killed") / "store", EDITIONS)


def run_and_snapshot_every_edition(uri: str, table: Path) -> None:
    for edition in range(EDITIONS):
        unrayed.write_dataset(table, edition)
        unrayed.run_once(uri, table)
        mmfeat.open(uri).create_snapshot(f"edition{edition}")


def stop_in_its_second_commit(uri: str, table: Path, answer: Any) -> None:
    """Hold the lease with some rows committed, until it is killed."""
    commit, commits = Store.commit, []

    def stopping(self: Store, *args: Any, **kwargs: Any) -> None:
        commits.append(args)
        if len(commits) == 2:
            answer.send(os.getpid())
            time.sleep(600)
        commit(self, *args, **kwargs)

    Store.commit = stopping
    unrayed.run_once(uri, table)


def hold_a_record(uri: str, seconds: float, answer: Any) -> None:
    RecordLease(uri, "first", 0, expires_seconds=seconds)
    answer.send("held")
    time.sleep(600)


@pytest.fixture
def at_work(tmp_path):
    """A run that has committed some rows and goes on holding the store: ``(uri, table, process)``."""
    uri, table = str(tmp_path / "store"), unrayed.write_dataset(tmp_path / "items.csv", 0)
    here, there = PROCESSES.Pipe()
    process = killing.spawned(stop_in_its_second_commit, uri, table, there)
    there.close()  # Else nobody would hear that the process ended before it answered.
    assert here.recv() == process.pid
    yield uri, table, process
    process.kill()
    process.join()


def test_runs_that_start_at_once_and_wait_end_with_every_row_once(tmp_path, expected):
    uri, table = str(tmp_path / "store"), unrayed.write_dataset(tmp_path / "items.csv", 0)
    processes = [PROCESSES.Process(target=run_waiting, args=(uri, table)) for _ in range(4)]
    for process in processes:
        process.start()
    assert not any(killing.killed(process) for process in processes)
    assert unrayed.contents(uri) == expected[0]
    records = mmfeat.open(uri).runs()
    assert [record["end"] for record in records] == ["completed"] * 4
    # The first to come did the work, and the others saw that it was done.
    assert [record["report"]["computed"] > 0 for record in records] == [True, False, False, False]


def run_waiting(uri: str, table: Path) -> None:
    unrayed.run_once(uri, table, wait_seconds=60)


def test_a_run_that_may_not_wait_is_told_at_once_who_is_writing(at_work, run):
    uri, table, process = at_work
    code, out, err = extract(run, uri, table)
    assert code == 1
    assert f"being written by process {process.pid}" in err
    assert "Traceback" not in err and out == ""


def test_a_run_that_waits_says_for_whom_and_goes_on_when_that_one_dies(at_work, run, expected):
    uri, table, process = at_work
    os.kill(process.pid, signal.SIGSTOP)  # as good as dead, but its lease is held
    code, _, err = extract(run, uri, table, "--wait", 1)
    assert code == 1
    assert f"by process {process.pid}" in err and "Waiting for it, 1 s at most." in err
    process.kill()
    assert not killing.killed(killing.spawned(run_waiting, uri, table))
    assert unrayed.contents(uri) == expected[0]


def extract(run, uri: str, table: Path, *words: object) -> tuple[int, str, str]:
    config = Path(uri).parent / "features.toml"
    settings = "\n".join(f'{key} = "{value}"' for key, value in worlds.CLIP.items())
    config.write_text(f"[features.clip]\n{settings}\n")
    return run("extract", "--dataset", "table", "--root", table, "--store", uri, "--config", config, *words)


def test_an_expired_record_of_a_dead_writer_is_taken_over(tmp_path):
    # The lease of object stores, on a local folder: Lance commits the same way.
    uri = Store.open(str(tmp_path / "store"), create=True).uri
    here, there = PROCESSES.Pipe()
    holder = killing.spawned(hold_a_record, uri, 3.0, there)
    there.close()
    assert here.recv() == "held"
    holder.kill()
    holder.join()
    said: list[str] = []
    lease = RecordLease(uri, "second", 30, said.append, expires_seconds=3.0)
    assert len(said) == 1 and f"by process {holder.pid}" in said[0]
    lease.check()
    lease.release()


def test_every_read_beside_a_run_is_a_consistent_state(tmp_path, expected):
    uri, table = str(tmp_path / "store"), tmp_path / "items.csv"
    writer = killing.spawned(run_and_snapshot_every_edition, uri, table)
    while not has_items(uri):
        time.sleep(0.005)
    versions_of = {name: _values_of(expected, name) for name in ("title_vector", "caption")}
    seen: list[tuple[int, ...]] = []
    while writer.is_alive():
        seen.append(read_once(uri, versions_of))
        check_snapshots(uri, expected)
    assert not killing.killed(writer)
    check_snapshots(uri, expected)
    assert [s.name for s in mmfeat.open(uri).snapshots()] == [f"edition{e}" for e in range(EDITIONS)]
    assert seen == sorted(seen)
    assert len(set(seen)) > EDITIONS  # it did look while rows came in


def read_once(uri: str, versions_of: dict[str, dict[str, set[Any]]]) -> tuple[int, ...]:
    """One reader's look at everything; how many items and rows it saw."""
    opened = mmfeat.open(uri)
    status = opened.status()
    found = opened.lookup()
    items = len(found.ids)
    for feature in status:
        # Every row is of an item in the catalog: rows and catalog agree.
        assert feature.ok + feature.missing + feature.failed + feature.absent == len(opened.ids)
    for name, column in found.items():
        values = column.texts if name == "caption" else [tuple(row) for row in column.matrix.tolist()]
        for item_id, status_, value in zip(found.ids, column.status, values, strict=True):
            if status_ != "absent":
                assert (status_, value if status_ == "ok" else None) in versions_of[name][item_id]
    rows = {f.version.partition("@")[0]: f.ok + f.missing + f.failed for f in status}
    return items, rows.get("title_vector", 0), rows.get("caption", 0)


def check_snapshots(uri: str, expected) -> None:
    """Each snapshot holds what its edition gave, whatever was written since."""
    opened = mmfeat.open(uri)
    for snapshot in opened.snapshots():
        edition = expected[int(snapshot.name.removeprefix("edition"))]
        frozen = mmfeat.open(uri, snapshot.name)
        assert {f.version.partition("@")[0] for f in frozen.status()} == set(edition)
        for name, rows in edition.items():
            found = frozen.lookup(rows["item_id"].to_pylist(), [name])[name]
            assert found.status.tolist() == rows["status"].to_pylist()


def has_items(uri: str) -> bool:
    return Path(uri, "_items.lance", "_versions").exists()


def _values_of(expected, name: str) -> dict[str, set[Any]]:
    """Item id to every ``(status, value)`` that one of the editions gives it."""
    values: dict[str, set[Any]] = {}
    for edition in expected:
        for row in edition[name].to_pylist():
            value = row.get("text", row.get("vector"))
            kept = tuple(value) if isinstance(value, list) else value
            values.setdefault(row["item_id"], set()).add((row["status"], kept))
    return values


def test_runs_list_tells_running_from_killed(at_work, run):
    uri, table, process = at_work
    assert [r["end"] for r in listed(run, uri)] == ["running"]
    process.kill()
    process.join()
    (record,) = listed(run, uri)
    assert (record["end"], record["seconds"], record["pid"]) == ("killed", None, process.pid)
    code, out, _ = run("runs", "show", "--store", uri)
    assert code == 0
    assert "killed" in out and "rows committed" in out  # what it had come to
    assert not killing.killed(killing.spawned(unrayed.run_once, uri, table))
    assert [r["end"] for r in listed(run, uri)] == ["killed", "completed"]


def listed(run, uri: str) -> list[dict[str, Any]]:
    code, out, err = run("runs", "list", "--store", uri, "--json")
    assert code == 0, err
    return json.loads(out)

"""What is left of a store whose writer was killed at any moment."""

from __future__ import annotations

import random
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from helpers.processes import PROCESSES
from helpers.storing import make_rows, vector_spec

from mmfeat.store import Store

GROUP = 200


def write_until_killed(uri: str, mode: str, ready: Connection) -> None:
    """Appends groups of GROUP new rows, or replaces one group, again and again."""
    ready.send("started")
    store = Store.open(uri, create=True)
    with store.lease("test"):
        spec = vector_spec()
        version = store.add_version(spec)
        done = len(store.ledger(version))
        ready.send("writing")
        for k in range(1_000_000):
            first = 0 if mode == "replace" else done + k * GROUP
            ids = [str(i) for i in range(first, first + GROUP)]
            store.commit(version, make_rows(spec, ids, [[k % 1000] * 4] * GROUP), replace=mode == "replace")
            if mode == "finish" and k % 3 == 2:
                store.finish(version)


def kill_after(uri: str, mode: str, event: str, seconds: float) -> None:
    """Start a writer and kill it ``seconds`` after it sent ``event``."""
    here, there = PROCESSES.Pipe()
    writer = PROCESSES.Process(target=write_until_killed, args=(uri, mode, there))
    writer.start()
    while here.recv() != event:
        pass
    time.sleep(seconds)
    assert writer.is_alive()
    writer.kill()
    writer.join()


@pytest.mark.parametrize("mode", ["append", "finish"])
def test_a_killed_writer_leaves_whole_groups_and_no_row_twice(tmp_path: Path, mode: str) -> None:
    uri, before = str(tmp_path / "store"), 0
    chance = random.Random(mode)
    for _ in range(12):
        kill_after(uri, mode, "writing", chance.uniform(0, 0.15))
        store = Store.open(uri)
        ids = store.ledger(store.resolve("clip_image"))["item_id"].to_pylist()
        assert len(ids) % GROUP == 0
        assert sorted(ids, key=int) == [str(i) for i in range(len(ids))]
        assert len(ids) >= before
        before = len(ids)
    assert before > 0
    assert store.lookup(["0", str(before - 1)])["clip_image"].mask.all()


def test_a_killed_replacement_leaves_the_old_rows_or_the_new(tmp_path: Path) -> None:
    uri = str(tmp_path / "store")
    chance = random.Random(0)
    sizes = set()
    for _ in range(10):
        kill_after(uri, "replace", "writing", chance.uniform(0, 0.15))
        store = Store.open(uri)
        rows = store.ledger(store.resolve("clip_image"))
        sizes.add(len(rows))
        if len(rows):
            found = store.lookup([str(i) for i in range(GROUP)], ["clip_image"])["clip_image"]
            assert found.mask.all()
            assert len(set(found.matrix.ravel().tolist())) == 1
    assert GROUP in sizes
    assert sizes <= {0, GROUP}


def test_a_writer_killed_in_its_very_start_leaves_a_store_that_the_next_one_completes(tmp_path: Path) -> None:
    # The moment of the kill is swept over the creation of the store, the version and its table.
    unfinished = 0
    for number in range(20):
        uri = str(tmp_path / f"store{number}")
        kill_after(uri, "append", "started", 0.003 * number)
        store = Store.open(uri, create=True)
        unfinished += not store.versions()
        with store.lease("test"):
            spec = vector_spec()
            version = store.add_version(spec)
            before = len(store.ledger(version))
            store.commit(version, make_rows(spec, ["x"], [[1, 2, 3, 4]]), replace=False)
        assert Store.open(uri).counts(version) == {"ok": before + 1}
    assert unfinished > 0

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from helpers.processes import PROCESSES
from helpers.storing import make_rows, vector_spec

from mmfeat.schemas.errors import StoreError
from mmfeat.store import Store
from mmfeat.store.lease_record import RecordLease


def hold_lease(uri: str, seconds: float, ready: Connection) -> None:
    with Store.open(uri).lease("nightly run"):
        ready.send(os.getpid())
        time.sleep(seconds)


def hold_lease_and_fork(uri: str, ready: Connection) -> None:
    with Store.open(uri).lease("parent"):
        if (child := os.fork()) == 0:
            time.sleep(60)
        ready.send(child)
        time.sleep(60)


def race_for_record(uri: str, start: Barrier, over: Barrier, outcome: Connection) -> None:
    start.wait()
    try:
        RecordLease(uri, "racer", 0, expires_seconds=30)
        outcome.send("won")
    except StoreError as error:
        outcome.send("lost" if "is being written by" in error.message else error.message)
    over.wait()


def started(target: Callable[..., None], *args: object) -> tuple[BaseProcess, Connection]:
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=target, args=(*args, there), daemon=True)
    process.start()
    return process, here


def hold(uri: str, seconds: float = 60) -> BaseProcess:
    holder, ready = started(hold_lease, uri, seconds)
    assert ready.recv() == holder.pid
    return holder


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return Store.open(str(tmp_path / "store"), create=True).uri


def test_a_second_writer_is_kept_out_and_told_who_is_writing(uri: str) -> None:
    holder = hold(uri)
    store = Store.open(uri)
    who = rf"being written by process {holder.pid} on .* \(nightly run"
    with pytest.raises(StoreError, match=who) as caught, store.lease("second"):
        pass
    assert "Wait" in str(caught.value.hint)
    assert store.versions() == []  # reading needs no lease
    with pytest.raises(StoreError, match="needs its lease"):
        store.add_version(vector_spec())
    holder.kill()
    holder.join()
    with store.lease("second"):
        store.add_version(vector_spec())


def test_a_writer_that_waits_gets_its_turn(uri: str) -> None:
    holder = hold(uri, seconds=0.5)
    with Store.open(uri).lease("second", wait_seconds=30):
        holder.join(timeout=10)
        assert holder.exitcode == 0


def test_two_stores_of_one_process_exclude_each_other(uri: str) -> None:
    first, second = Store.open(uri), Store.open(uri)
    with first.lease("first"):
        with pytest.raises(StoreError, match=f"process {os.getpid()} "), second.lease("second"):
            pass
        with pytest.raises(StoreError, match="same Store"), first.lease("again"):
            pass
        first.add_version(vector_spec())
    with second.lease("second"):
        assert len(second.versions()) == 1  # what the first wrote is seen


def test_a_forked_child_does_not_keep_the_lease_of_its_killed_parent(uri: str) -> None:
    parent, ready = started(hold_lease_and_fork, uri)
    child = ready.recv()
    try:
        parent.kill()
        parent.join()
        with Store.open(uri).lease("next"):
            pass
        os.kill(child, 0)  # it is still there
    finally:
        os.kill(child, 9)


def test_the_lease_ends_with_an_error_in_its_body(uri: str) -> None:
    store = Store.open(uri)
    with pytest.raises(RuntimeError, match="boom"), store.lease("first"):
        raise RuntimeError("boom")
    with store.lease("second"):
        pass


def test_a_writer_whose_lock_file_was_removed_commits_nothing_more(uri: str) -> None:
    store, spec = Store.open(uri), vector_spec()
    with store.lease("first"):
        version = store.add_version(spec)
        Path(uri, "_writer.lock").unlink()
        with Store.open(uri).lease("second"), pytest.raises(StoreError, match=r"lock file .* was removed"):
            store.commit(version, make_rows(spec, ["a"], [[1, 2, 3, 4]]), replace=False)
    assert Store.open(uri).counts(version) == {}


def test_a_store_that_may_not_be_written_says_so(uri: str) -> None:
    lock = Path(uri, "_writer.lock")
    lock.mkdir()
    with pytest.raises(StoreError, match="Cannot write to the store"), Store.open(uri).lease("first"):
        pass


# The lease of object stores, on a local folder: Lance commits the same way.


def test_of_many_writers_at_once_one_gets_the_record(uri: str) -> None:
    # Over the record's creation and over its taking: each round has a new store.
    for number in range(6):
        place = Store.open(f"{uri}-{number}", create=True).uri
        start, over = PROCESSES.Barrier(4), PROCESSES.Barrier(4)
        racers = [started(race_for_record, place, start, over) for _ in range(4)]
        assert sorted(outcome.recv() for _, outcome in racers) == ["lost", "lost", "lost", "won"]
        for process, _ in racers:
            process.join()


def test_a_record_is_renewed_while_it_is_held_and_free_after(uri: str) -> None:
    lease = RecordLease(uri, "first", 0, expires_seconds=1.0)
    time.sleep(1.6)
    lease.check()
    with pytest.raises(StoreError, match=rf"process {os.getpid()} .*first"):
        RecordLease(uri, "second", 0, expires_seconds=1.0)
    lease.release()
    RecordLease(uri, 'it\'s "mine"', 0).release()
    assert not [t for t in threading.enumerate() if t.name == "store-lease"]


def test_a_record_that_nobody_renews_expires_and_its_holder_knows(uri: str) -> None:
    lease = RecordLease(uri, "paused", 0, expires_seconds=0.6)
    lease._over.set()  # as if the process had been stopped
    time.sleep(0.4)
    with pytest.raises(StoreError, match="no longer holds the right to write"):
        lease.check()
    second = RecordLease(uri, "second", 5, expires_seconds=60)
    second.check()
    lease.release()  # must not free what is another's now
    with pytest.raises(StoreError, match="second"):
        RecordLease(uri, "third", 0)
    second.release()

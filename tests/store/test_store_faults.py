"""Disks that fill, rights that go, object stores that fail: one clear error, and the store is whole after."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest
from helpers.flaky_s3 import Fault
from helpers.processes import PROCESSES
from helpers.storing import make_rows, vector_spec, vectors

import mmfeat
from mmfeat.schemas.errors import StoreError
from mmfeat.store import FeatureVersion, Store, examine

SPEC = vector_spec("clip", dims=64, dtype="float32")
GROUP = 100
VECTORS = vectors(GROUP, dims=64, dtype="float32").tolist()
NOBODY = 65534


def group(number: int):
    return make_rows(SPEC, ids(number), VECTORS)


def ids(number: int) -> list[str]:
    return [str(i) for i in range(number * GROUP, (number + 1) * GROUP)]


def new_store(uri: str, groups: int = 1) -> FeatureVersion:
    store = Store.open(uri, create=True)
    with store.lease("test"):
        version = store.add_version(SPEC)
        for number in range(groups):
            store.commit(version, group(number), replace=False)
    return version


def check_whole(uri: str, version: FeatureVersion, groups: int) -> None:
    """Exactly the first ``groups`` groups are there, and the next one can be committed."""
    assert examine(uri, deep=True) == []
    store = Store.open(uri)
    rows = store.ledger(version)["item_id"].to_pylist()
    assert sorted(rows, key=int) == [i for number in range(groups) for i in ids(number)]
    with store.lease("test"):
        store.commit(version, group(groups), replace=False)
    assert Store.open(uri).counts(version) == {"ok": (groups + 1) * GROUP}


def commit_until_it_fails(uri: str, version: FeatureVersion) -> tuple[int, StoreError]:
    """Commits groups until one fails; how many there are then, and why."""
    store = Store.open(uri)
    with store.lease("test"):
        done = store.counts(version)["ok"] // GROUP
        for number in range(done, 10_000):
            try:
                store.commit(version, group(number), replace=False)
            except StoreError as error:
                return number, error
    raise AssertionError("the disk never filled")


# Disk full


def test_a_full_disk_is_one_clear_error_and_costs_no_committed_row(small_disk):
    uri = str(small_disk / "store")
    version = new_store(uri)
    done, error = commit_until_it_fails(uri, version)
    assert error.message == f"Could not write {version.table} in {uri}: the disk is full"
    assert "free space" in error.hint
    assert mmfeat.open(uri).lookup(["0", str(done * GROUP - 1)])["clip"].mask.all(), "it can still be read"
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    check_whole(uri, version, done)


def commit_under_a_limit(uri: str, version: FeatureVersion, answers) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    try:
        store = Store.open(uri)
        with store.lease("test"):
            store.commit(version, group(1), replace=False)
        answers.put("committed")
    except StoreError as error:
        answers.put(error.message)


def test_a_write_that_the_system_cuts_short_is_an_error_and_leaves_no_half_group(tmp_path):
    uri = str(tmp_path / "store")
    version = new_store(uri)
    assert "larger than this process may write" in in_a_process(commit_under_a_limit, uri, version)
    check_whole(uri, version, 1)


# Rights


def as_nobody() -> None:
    if os.getuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def read_and_try_to_write(uri: str, version: FeatureVersion, answers) -> None:
    as_nobody()
    opened = mmfeat.open(uri)
    found = int(opened.lookup()["clip"].mask.sum()) if len(opened.ids) else opened.status()[0].ok
    try:
        with Store.open(uri).lease("test"):
            answers.put("leased")
    except StoreError as error:
        answers.put(f"{found} rows; {error.message}")


def lose_the_right_while_writing(uri: str, version: FeatureVersion, answers) -> None:
    store = Store.open(uri)
    with store.lease("test"):
        store.commit(version, group(1), replace=False)
        as_nobody()
        try:
            store.commit(version, group(2), replace=False)
            answers.put("committed")
        except StoreError as error:
            answers.put(error.message)


def test_a_store_that_may_only_be_read_is_read_and_says_why_it_is_not_written(readable, tmp_path):
    uri = str(readable / "store")
    version = new_store(uri)
    set_writable(readable, False)
    said = in_a_process(read_and_try_to_write, uri, version)
    assert said == f"{GROUP} rows; Cannot write to the store {uri}: Permission denied."
    set_writable(readable, True)
    check_whole(uri, version, 1)


def test_rights_lost_in_the_middle_of_a_run_stop_it_with_what_was_committed_kept(readable):
    uri = str(readable / "store")
    version = new_store(uri)
    set_writable(readable, False)
    if os.getuid() != 0:
        pytest.skip("only root can write where its child cannot")
    said = in_a_process(lose_the_right_while_writing, uri, version)
    assert said == f"Could not write {version.table} in {uri}: permission denied"
    set_writable(readable, True)
    check_whole(uri, version, 2)


def test_an_export_of_a_store_that_may_only_be_read_is_made_and_says_it_is_not_recorded(
    run, world, small_disk, tmp_path
):
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    subprocess.run(["cp", "-r", str(world / "store"), str(small_disk / "store")], check=True)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    store = small_disk / "store"
    code, out, err = run("export", "npy", "--features", "clip", "--out", "out", "--store", store)
    assert code == 0 and "56 items" in out
    assert "does not know of this export" in err and "read-only" in err
    code, _, err = run("forget", "item-001", "--reason", "r", "--store", small_disk / "store")
    assert code == 1 and "Read-only file system" in err


def set_writable(folder: Path, writable: bool) -> None:
    for path in folder.rglob("*"):
        path.chmod((0o755 if writable else 0o555) if path.is_dir() else (0o644 if writable else 0o444))


def in_a_process(what, uri: str, version: FeatureVersion) -> str:
    answers = PROCESSES.Queue()
    process = PROCESSES.Process(target=what, args=(uri, version, answers))
    process.start()
    try:
        return answers.get(timeout=60)
    finally:
        process.join()


# Object stores


@pytest.mark.parametrize("kind", ["503", "timeout"])
def test_an_object_store_that_fails_for_a_while_is_asked_again(s3, kind):
    uri = s3.store
    version = new_store(uri)
    s3.faults = [Fault(lambda method, path: "clip" in path, kind, 2)]
    store = Store.open(uri)
    with store.lease("test"):
        store.commit(version, group(1), replace=False)
    assert s3.faults[0].happened == 2
    check_whole(uri, version, 2)


def test_an_object_store_that_fails_on_and_on_is_one_clear_error_and_the_store_is_whole(s3):
    uri = s3.store
    version = new_store(uri)
    s3.faults = [Fault(lambda method, path: method == "PUT" and "clip" in path, "503", 10_000)]
    store = Store.open(uri)
    with store.lease("test"), pytest.raises(StoreError) as raised:
        store.commit(version, group(1), replace=False)
    assert raised.value.message.endswith(f"in {uri}: the object store is too busy (503)")
    assert s3.faults[0].happened <= 20
    s3.faults = []
    check_whole(uri, version, 1)


@pytest.mark.parametrize("replace", [False, True])
def test_a_commit_whose_answer_is_lost_is_there_once(s3, replace):
    uri = s3.store
    version = new_store(uri)
    lost = Fault(lambda method, path: method == "PUT" and "clip" in path and ".manifest" in path, "lost", 1)
    s3.faults = [lost]
    store = Store.open(uri)
    with store.lease("test"):
        store.commit(version, group(1), replace=replace)
    assert lost.happened == 1
    check_whole(uri, version, 2)


def test_a_store_all_of_whose_commits_lose_their_answer_is_made_written_and_finished(s3):
    seen: set[str] = set()

    def first_time(method: str, path: str) -> bool:
        if method != "PUT" or ".manifest" not in path or path in seen:
            return False
        seen.add(path)
        return True

    s3.faults = [Fault(first_time, "lost", 10_000)]
    uri = s3.store
    version = new_store(uri, groups=3)
    store = Store.open(uri)
    with store.lease("test"):
        store.commit(version, group(1), replace=True)
        store.finish(version)
        store.set_current("clip", version.fingerprint)
        store.create_snapshot("v1")
    assert s3.faults[0].happened > 10
    check_whole(uri, version, 3)
    assert [s.name for s in Store.open(uri).snapshots()] == ["v1"]


def test_forgetting_works_on_an_object_store(s3):
    uri = s3.store
    version = new_store(uri, groups=2)
    store = Store.open(uri)
    with store.lease("test"):
        store.create_snapshot("v1")
        store.finish(version)
    report = mmfeat.open(uri).forget(["150"], "asked to")
    assert report.snapshots == ["v1"]
    assert mmfeat.open(uri).verify_forgotten().ok
    kept = [i for i in (*ids(0), *ids(1)) if i != "150"]
    for snapshot in (None, "v1"):
        found = mmfeat.open(uri, snapshot=snapshot).lookup([*kept, "150"], ["clip"], unknown="mask")["clip"]
        assert found.status.tolist() == ["ok"] * 199 + ["absent"]

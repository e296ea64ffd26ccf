"""Killed or stopped at any moment, the same command again ends with exactly one row per item and feature."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import synthetic
import worlds

import mmfeat
from mmfeat.schemas.errors import StoreError

N_ITEMS = 40
KILLS = 10
FEATURES = {"clip": worlds.CLIP, "dino": worlds.DINO}

# Groups of a few rows, so that a kill falls between commits as well as into one.
PROGRAM = """
import sys
from mmfeat.pipelines import commit
commit.GROUP_ROWS = 4
from mmfeat.cli import main
main()
"""


@pytest.fixture
def media(tmp_path) -> Path:
    return worlds.cover_folder(tmp_path / "media", synthetic.held_out(N_ITEMS))


@pytest.fixture
def job_file(tmp_path, media) -> Path:
    path = tmp_path / "job.toml"
    tables = [f'[store]\nuri = "{tmp_path / "store"}"', f'[dataset]\nname = "folder"\nroot = "{media}"']
    tables.append("[resources]\nworkers = 1\nthreads = 1\nbatch_size = 2")
    for name, config in FEATURES.items():
        tables.append(f"[features.{name}]\n" + "\n".join(f'{k} = "{v}"' for k, v in config.items()))
    path.write_text("\n".join(tables))
    return path


def start(job_file: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "run", str(job_file)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def kill_everything(process: subprocess.Popen) -> None:
    """The driver and everything it started, Ray's processes too."""
    for pid in _descendants(process.pid):
        _kill(pid)
    process.wait()


def _descendants(root: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        parents[int(entry.parent.name)] = int(fields[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def rows(store: Path) -> dict[str, list[str]]:
    """Item ids of the rows of each feature; nothing while the store is not made yet."""
    from mmfeat.store import Store

    try:
        opened = Store.open(str(store))
    except StoreError:
        return {}
    return {v.name: opened.ledger(v)["item_id"].to_pylist() for v in opened.versions()}


def test_killed_ten_times_at_random_moments_the_rows_are_those_of_a_run_never_killed(
    tmp_path, job_file, media
):
    rng = np.random.default_rng(11)
    store = tmp_path / "store"
    seen_before: dict[str, set[str]] = {name: set() for name in FEATURES}
    for _ in range(KILLS):
        process = start(job_file)
        _wait_for_work(process, store, rng)
        kill_everything(process)
        found = rows(store)
        assert {name for name, ids in seen_before.items() if ids} <= set(found), "a feature was lost"
        for name, ids in found.items():
            assert len(ids) == len(set(ids)), f"{name} has an item twice"
            assert seen_before[name] <= set(ids), f"{name} lost a committed row"
            seen_before[name] = set(ids)
    process = start(job_file)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    every_item = [f"item-{n:03d}" for n in range(N_ITEMS)]
    assert {name: sorted(ids) for name, ids in rows(store).items()} == dict.fromkeys(FEATURES, every_item)
    mmfeat.extract(**worlds.job(media, tmp_path / "whole", FEATURES))
    killed, whole = mmfeat.open(store).lookup(), mmfeat.open(tmp_path / "whole").lookup()
    for name in FEATURES:
        np.testing.assert_allclose(killed[name].matrix, whole[name].matrix, atol=1e-6)


def _wait_for_work(process: subprocess.Popen, store: Path, rng: np.random.Generator) -> None:
    """Until a random moment: in start-up for some, after the first new commit for most."""
    deadline = time.monotonic() + float(rng.uniform(0.5, 14))
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)


def _encoding_worker(root: int) -> int | None:
    for pid in _descendants(root):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_text().startswith("ray::MapWorker"):
                return pid
    return None


def test_a_killed_worker_costs_no_row(tmp_path, job_file):
    process = start(job_file)
    store = tmp_path / "store"
    until = time.monotonic() + 120
    # Rows in the store say that the worker is past loading its models and at work.
    while time.monotonic() < until and not any(rows(store).values()):
        time.sleep(0.05)
    worker = _encoding_worker(process.pid)
    if worker is not None:
        _kill(worker)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert worker is not None, "the run was over before its worker could be killed"
    every_item = [f"item-{n:03d}" for n in range(N_ITEMS)]
    assert {name: sorted(ids) for name, ids in rows(store).items()} == dict.fromkeys(FEATURES, every_item)


def test_ctrl_c_commits_what_was_computed_and_says_how_to_go_on(tmp_path, job_file):
    process = start(job_file)
    store = tmp_path / "store"
    until = time.monotonic() + 120
    while time.monotonic() < until and not any(rows(store).values()):
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("the run was over before it could be stopped")
    assert process.returncode == 130, out + err
    assert "Traceback" not in err
    assert "the same command goes on from there" in err
    kept = {name: len(ids) for name, ids in rows(store).items()}
    again = start(job_file)
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, out + err
    assert {name: len(ids) for name, ids in rows(store).items()} == dict.fromkeys(FEATURES, N_ITEMS)
    assert sum(kept.values()) > 0


def test_a_second_run_on_the_same_store_is_told_who_writes_it(tmp_path, job_file):
    first = start(job_file)
    store = tmp_path / "store"
    until = time.monotonic() + 60
    while time.monotonic() < until and not (store.exists() and any(store.iterdir())):
        time.sleep(0.05)
    second = start(job_file)
    _, err = second.communicate(timeout=120)
    kill_everything(first)
    assert second.returncode == 1
    assert str(first.pid) in err and "Traceback" not in err

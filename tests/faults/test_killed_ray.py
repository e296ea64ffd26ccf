"""Whole runs with Ray and models: the driver, a task's worker, an actor or all of them are killed with -9.

``test_killed_runs.py`` kills a run some two hundred times, without Ray.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import synthetic, worlds
from helpers.processes import command_of, ctrl_c_heard, descendants, wait_until

import mmfeat
from mmfeat.schemas.errors import StoreError
from mmfeat.store import Store

N_ITEMS = 96
IDS = [f"item-{n:03d}" for n in range(N_ITEMS)]
FEATURES = {"clip": worlds.CLIP, "caption": worlds.CAPTION}

# Ray's titles of its processes that are at work.
ACTOR, TASK = "ray::MapWorker(", "ray::MapBatches("

# Groups of a few rows, so that there is always work under way and rows to come.
PROGRAM = """
from mmfeat.pipelines.execution import commit
commit.GROUP_ROWS = 4
from mmfeat.cli import main
main()
"""


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    return worlds.cover_folder(tmp_path_factory.mktemp("media"), synthetic.held_out(N_ITEMS))


def write_job(
    folder: Path, media: Path, features: list[str], wait_seconds: int = 0, executor: str = "ray"
) -> Path:
    """A job on ``folder/store``."""
    path = folder / f"{'-'.join(features)}-{executor}.toml"
    tables = [
        f'[store]\nuri = "{folder / "store"}"',
        f'[dataset]\nname = "folder"\nroot = "{media}"',
        f'[resources]\nworkers = 1\nthreads = 1\nbatch_size = 2\nexecutor = "{executor}"',
        f"[run]\nwait_seconds = {wait_seconds}",
    ]
    for name in features:
        settings = "\n".join(f'{key} = "{value}"' for key, value in FEATURES[name].items())
        tables.append(f"[features.{name}]\n{settings}")
    path.write_text("\n".join(tables))
    return path


def start(job_file: Path) -> subprocess.Popen[str]:
    with ctrl_c_heard():
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "run", str(job_file)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    """What it said on standard error, once it ended as it should."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, out + err
    assert "Traceback" not in err
    return err


@pytest.fixture(scope="module")
def whole(tmp_path_factory, media) -> tuple[Path, str]:
    """A store that was never killed, made by two runs that were started at once with different features;
    and what the second one said. Each in one process: what Ray makes must be the same."""
    folder = tmp_path_factory.mktemp("whole")
    first = start(write_job(folder, media, ["clip"], executor="local"))
    wait_until(
        lambda: (folder / "store" / "_writer.lock").exists() and Store.open(str(folder / "store")).writer()
    )
    second = start(write_job(folder, media, ["clip", "caption"], wait_seconds=300, executor="local"))
    finish(first)
    return folder / "store", finish(second)


def test_two_runs_with_different_features_on_one_store_wait_for_each_other(whole):
    store, said = whole
    assert "Waiting for it, 300 s at most." in said
    first, second = mmfeat.open(store).runs()
    assert [f["ok"] for f in first["report"]["features"]] == [N_ITEMS]
    done = {f["version"].partition("@")[0]: f for f in second["report"]["features"]}
    assert (done["clip"]["up_to_date"], done["clip"]["ok"]) == (N_ITEMS, 0)
    assert done["caption"]["ok"] == N_ITEMS
    assert rows(store) == dict.fromkeys(FEATURES, IDS)


def test_driver_group_actor_and_worker_are_killed_and_the_rows_are_those_of_a_run_never_killed(
    tmp_path, media, whole
):
    store, job = tmp_path / "store", write_job(tmp_path, media, list(FEATURES))

    driver = start(job)
    wait_for_new_rows(store, driver)
    orphans = descendants(driver.pid)[1:]
    before = rows(store)
    driver.kill()
    driver.communicate()
    wait_until(lambda: not any(map(is_alive, orphans)))  # what it had started does not outlive it
    check_kept(before, rows(store))

    group = start(job)
    wait_for_new_rows(store, group)
    before = rows(store)
    kill_everything(group)
    check_kept(before, rows(store))

    survivor = start(job)
    before = rows(store)
    # Pictures are decoded ahead of the models, so the task comes first.
    assert kill_ray_process(survivor, TASK), "no worker was ever at a task"
    wait_for_new_rows(store, survivor)
    assert kill_ray_process(survivor, ACTOR), "there was no actor left to kill"
    finish(survivor)
    check_kept(before, rows(store))
    assert rows(store) == dict.fromkeys(FEATURES, IDS)
    assert [r["end"] for r in mmfeat.open(store).runs()] == ["killed", "killed", "completed"]
    check_same(store, whole[0])


def test_ctrl_c_commits_what_was_computed_and_says_how_to_go_on(tmp_path, media):
    store, job = tmp_path / "store", write_job(tmp_path, media, ["clip"])
    process = start(job)
    wait_for_new_rows(store, process)
    os.kill(process.pid, signal.SIGINT)
    assert "the same command goes on from there" in finish(process, code=130)
    kept = len(rows(store)["clip"])
    assert 0 < kept < N_ITEMS
    finish(start(write_job(tmp_path, media, ["clip"], executor="local")))
    assert rows(store) == {"clip": IDS}
    stopped, completed = mmfeat.open(store).runs()
    assert (stopped["end"], completed["end"]) == ("interrupted", "completed")
    assert completed["report"]["features"][0]["up_to_date"] == kept


@pytest.mark.slow
def test_everything_killed_ten_times_at_random_moments(tmp_path, media, whole):
    store, job = tmp_path / "store", write_job(tmp_path, media, list(FEATURES))
    chance = random.Random(11)
    before: dict[str, list[str]] = {}
    for _ in range(10):
        process = start(job)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.5, 14))
        kill_everything(process)
        found = rows(store)
        check_kept(before, found)
        before = found
    finish(start(job))
    check_same(store, whole[0])


def rows(store: Path) -> dict[str, list[str]]:
    """Sorted item ids of the rows of each feature; nothing while the store is not made yet."""
    try:
        opened = Store.open(str(store))
    except StoreError:
        return {}
    return {v.name: sorted(opened.ledger(v)["item_id"].to_pylist()) for v in opened.versions()}


def check_kept(before: dict[str, list[str]], after: dict[str, list[str]]) -> None:
    for name, ids in after.items():
        assert len(ids) == len(set(ids)), f"{name} has an item twice"
    for name, ids in before.items():
        assert set(ids) <= set(after[name]), f"{name} lost a committed row"


def check_same(store: Path, other: Path) -> None:
    """Byte for byte in ids, status and text, and within 1e-6 in vectors."""
    found, wanted = mmfeat.open(store).lookup(IDS), mmfeat.open(other).lookup(IDS)
    assert found.ids == wanted.ids
    for name in FEATURES:
        assert found[name].status.tolist() == wanted[name].status.tolist()
    assert found["caption"].texts == wanted["caption"].texts
    np.testing.assert_allclose(found["clip"].matrix, wanted["clip"].matrix, rtol=0, atol=1e-6)


def wait_for_new_rows(store: Path, process: subprocess.Popen[str]) -> None:
    """Until the run commits rows: it is past loading its models and at work."""
    before = sum(map(len, rows(store).values()))
    wait_until(lambda: sum(map(len, rows(store).values())) > before or process.poll() is not None)


def kill_everything(process: subprocess.Popen[str]) -> None:
    """The driver and everything it started, Ray's processes too."""
    for pid in descendants(process.pid):
        kill(pid)
    process.communicate()


def kill_ray_process(process: subprocess.Popen[str], title: str) -> bool:
    """Kill one of Ray's workers that is at work under such a title, if the run still has one."""
    while process.poll() is None:
        for pid in descendants(process.pid):
            if command_of(pid).startswith(title):
                kill(pid)
                return True
    return False


def is_alive(pid: int) -> bool:
    # What ended and was not yet waited for has no command line any more.
    return bool(command_of(pid))


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)

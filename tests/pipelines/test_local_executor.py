"""What holds of a run with Ray holds of one in this process alone, and such a run can be stopped at once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import colours
import numpy as np
import pytest
from helpers import unrayed, worlds
from helpers.plugins import write_plugin
from helpers.processes import ctrl_c_heard, wait_until

import mmfeat
from mmfeat.extract.fence.process import stop_fence
from mmfeat.pipelines.execution.local import LocalExecutor, ahead
from mmfeat.schemas.errors import StoreError
from mmfeat.store import Store, examine

CODEC = Path(__file__).parents[1] / "poison" / "codec"
LOCAL = {"executor": "local", "threads": 1}
# Longer than any test waits.
HOURS = 3600.0

PROGRAM = """
import json, sys
import mmfeat
from mmfeat.pipelines.execution import commit

group_rows, job = json.loads(sys.argv[1])
commit.GROUP_ROWS = group_rows or commit.GROUP_ROWS

class Telling:
    def say(self, message): pass
    def start(self, total): print("rows", total, flush=True)
    def advance(self, rows): print("computed", rows, flush=True)
    def stop(self): pass

try:
    report, end = mmfeat.extract(**job, reporter=Telling()), "completed"
except KeyboardInterrupt as stopped:
    report, end = stopped.report, "interrupted"
print(json.dumps({"end": end, "ray": "ray" in sys.modules, "report": report.to_dict()}))
"""


def job(folder: Path, features: dict[str, Any], media: Path | None = None, **tables: Any) -> dict[str, Any]:
    """What a child process is to extract; by default with the local executor."""
    return {
        "dataset": "folder",
        "root": str(media or folder / "media"),
        "store": str(folder / "store"),
        "features": features,
        "resources": LOCAL,
        "run": {"max_failed": 1.0},
        **tables,
    }


class Child:
    """A run in a process of its own, and what it prints.

    Args:
        group_rows: rows that are committed together; None for as many as usual.
    """

    def __init__(self, job: dict[str, Any], group_rows: int | None = None) -> None:
        with ctrl_c_heard():
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, json.dumps([group_rows, job])],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            )  # fmt: skip

    def wait_for_line(self, line: str) -> None:
        """Read until the process has printed this."""
        assert self.process.stdout is not None
        for printed in self.process.stdout:
            if printed.strip() == line:
                return
        raise AssertionError(f"the run ended first: {self.process.communicate()[1]}")

    def outcome(self) -> dict[str, Any]:
        """What it says at its end, which comes by itself and cleanly."""
        try:
            out, err = self.process.communicate(timeout=120)
        finally:
            self.kill()
        assert (self.process.returncode, err) == (0, "")
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found

    def kill(self) -> None:
        """With -9, and whatever it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def installed(tmp_path_factory, monkeypatch) -> Iterator[None]:
    """The encoder of ``colours.py`` and the codec that does harm, for this process and its children."""
    plugin = write_plugin(tmp_path_factory.mktemp("colours"), colours.POINTS)
    folders = [str(one) for one in (plugin, Path(colours.__file__).parent, CODEC)]
    for folder in folders:
        monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")]))
    # A decoder that runs already knows no such codec, and this one is for no other test.
    stop_fence()
    yield
    stop_fence()


def test_a_local_run_gives_the_values_of_one_with_ray_and_never_loads_ray(tmp_path, world):
    outcome = Child(job(tmp_path, worlds.FEATURES, media=world / "media")).outcome()
    assert (outcome["end"], outcome["ray"]) == ("completed", False)
    assert [f["ok"] for f in outcome["report"]["features"]] == [worlds.N_ITEMS] * len(worlds.FEATURES)
    found, wanted = (mmfeat.open(place / "store").lookup() for place in (tmp_path, world))
    assert found.ids == wanted.ids
    for name in worlds.FEATURES:
        assert found[name].spec.fingerprint == wanted[name].spec.fingerprint
        assert found[name].status.tolist() == wanted[name].status.tolist()
    assert found["caption"].texts == wanted["caption"].texts
    for name in ("clip", "dino", "caption_clip"):
        np.testing.assert_allclose(found[name].matrix, wanted[name].matrix, rtol=0, atol=1e-5)


def test_rows_planned_are_rows_committed_and_nothing_is_left_to_do(tmp_path):
    table = unrayed.write_dataset(tmp_path / "items.csv", 0)
    local, blocks = str(tmp_path / "local"), str(tmp_path / "blocks")
    report = unrayed.run_once(local, table, executor=LocalExecutor())
    counts = [f.ok + f.missing + f.failed for f in report.features]
    assert counts == [unrayed.N_ITEMS] * 2
    assert report.features[0].missing and report.features[1].failed
    unrayed.run_once(blocks, table)
    assert unrayed.contents(local) == unrayed.contents(blocks)
    assert examine(local, deep=True) == []
    again = unrayed.run_once(local, table, executor=LocalExecutor())
    assert (again.computed, [f.up_to_date for f in again.features]) == (0, [unrayed.N_ITEMS] * 2)


def test_a_failing_batch_a_decoder_that_crashes_and_one_that_hangs_cost_their_own_items(tmp_path, installed):
    faults: dict[int, int | bytes] = {
        3: colours.RAISES, 12: b"POISON crash ", 13: b"POISON hang ", 20: colours.RAISES, 21: b"no picture",
    }  # fmt: skip
    colours.write_covers(tmp_path / "media", 40, faults)
    outcome = Child(job(tmp_path, colours.FEATURES, limits={"item_seconds": 3})).outcome()
    assert outcome["ray"] is False
    (feature,) = outcome["report"]["features"]
    assert (feature["ok"], feature["failed"]) == (40 - len(faults), len(faults))
    found = mmfeat.open(tmp_path / "store").lookup(features=["colour"])["colour"]
    reasons = {
        3: "ValueError: cannot do this picture",
        12: "decoder crashed (SIGSEGV)",
        13: "decoder timed out after 3 s",
        20: "ValueError: cannot do this picture",
        21: "not an image",
    }
    for n in range(40):
        if n in faults:
            assert found.status[n] == "failed"
            assert reasons[n] in found.reason[n]
        else:
            assert (found.status[n], found.matrix[n].tolist()) == ("ok", [n, 7 * n % 256])


def test_ctrl_c_keeps_what_was_computed_and_waits_for_no_decoder(tmp_path, installed):
    # Blocks are of 8 covers: two are computed while the third hangs, which tells that it does.
    gate = tmp_path / "hanging"
    hanging: dict[int, int | bytes] = {17: f"POISON tell {gate}".encode(), 18: b"POISON hang "}
    media = colours.write_covers(tmp_path / "media", 24, hanging)
    child = Child(job(tmp_path, colours.FEATURES, limits={"item_seconds": HOURS}))
    try:
        child.wait_for_line("computed 8")
        child.wait_for_line("computed 8")
        wait_until(gate.exists)
        child.process.send_signal(signal.SIGINT)
        outcome = child.outcome()
    finally:
        child.kill()
    assert (outcome["end"], outcome["report"]["features"][0]["ok"]) == ("interrupted", 16)
    assert rows(tmp_path / "store") == 16

    for file in (media / "covers").glob("*.bmp"):
        file.unlink()
    colours.write_covers(media, 24, {})
    outcome = Child(job(tmp_path, colours.FEATURES)).outcome()
    (feature,) = outcome["report"]["features"]
    assert (feature["up_to_date"], feature["ok"]) == (16, 8)
    assert [record["end"] for record in mmfeat.open(tmp_path / "store").runs()] == [
        "interrupted",
        "completed",
    ]


def test_nothing_that_a_stopped_run_started_lives_on_in_its_process(tmp_path, installed):
    # A notebook: Ctrl-C, and the same cell again.
    gate = tmp_path / "hanging"
    colours.write_covers(tmp_path / "media", 3, {1: f"POISON tell {gate}".encode(), 2: b"POISON hang "})
    asked = job(tmp_path, colours.FEATURES, limits={"item_seconds": HOURS})
    threading.Thread(target=interrupt_after, args=(gate,), daemon=True).start()
    with ctrl_c_heard(), pytest.raises(KeyboardInterrupt):
        mmfeat.extract(**asked)
    wait_until(lambda: not any(one.name == "mmfeat-decode" for one in threading.enumerate()))
    (tmp_path / "media" / "covers" / "item-002.bmp").unlink()
    (feature,) = mmfeat.extract(**asked).features
    assert (feature.ok, feature.failed) == (2, 0)


def test_a_run_killed_in_the_middle_is_gone_on_with_by_ray_which_loses_the_item_at_fault_alone(
    tmp_path, installed
):
    colours.write_covers(tmp_path / "media", 24, {20: colours.DIES})
    auto = job(tmp_path, colours.FEATURES, resources={"threads": 1, "gpus": 0})
    child = Child(auto, group_rows=4)
    child.process.communicate(timeout=120)
    assert child.process.returncode == -signal.SIGKILL
    kept = rows(tmp_path / "store")
    assert kept == 16

    outcome = Child(auto).outcome()
    (feature,) = outcome["report"]["features"]
    assert (feature["up_to_date"], feature["ok"], feature["failed"]) == (kept, 7, 1)
    found = mmfeat.open(tmp_path / "store").lookup(features=["colour"])["colour"]
    assert "model crashed its process" in found.reason[20]
    assert [found.matrix[n].tolist() for n in range(24) if n != 20] == [
        [n, 7 * n % 256] for n in range(24) if n != 20
    ]
    # Nobody killed this one, so the next one is small again.
    colours.write_covers(tmp_path / "media", 25, {20: colours.DIES})
    assert Child(auto).outcome()["ray"] is False
    assert executors(tmp_path / "store") == ["local", "ray", "local"]


def test_what_is_computed_ahead_comes_in_order_and_no_further_ahead_than_one():
    started: list[int] = []

    def square(n: int) -> int:
        started.append(n)
        return n * n

    with ahead(square, range(20)) as results:
        for n, result in enumerate(results):
            assert result == n * n
            assert len(started) <= n + 2
    assert started == list(range(20))


def test_an_error_ahead_is_raised_in_its_place():
    taken = []
    with pytest.raises(ZeroDivisionError), ahead(lambda n: 1 // n, [1, 2, 0, 3]) as results:
        taken.extend(results)
    assert taken == [1, 0]


def test_who_leaves_early_waits_for_no_call_and_none_is_made_after_it():
    entered, go_on, made = threading.Event(), threading.Event(), []

    def slow(n: int) -> int:
        made.append(n)
        if n:
            entered.set()
            go_on.wait()
        return n

    with ahead(slow, range(10)) as results:
        assert next(results) == 0
        assert entered.wait(60)
    go_on.set()
    wait_until(lambda: not any(one.name == "mmfeat-decode" for one in threading.enumerate()))
    assert made == [0, 1]


def rows(store: Path) -> int:
    try:
        opened = Store.open(str(store))
    except StoreError:
        return 0
    return sum(sum(opened.counts(version).values()) for version in opened.versions())


def executors(store: Path) -> list[str]:
    """Which executor each run took, by its log."""
    opened, said = mmfeat.open(store), "computed by the executor "
    lines = [line for record in opened.runs() for _, line in opened.run_log(record["run_id"])]
    return [line.removeprefix(said) for line in lines if line.startswith(said)]


def interrupt_after(gate: Path) -> None:
    wait_until(gate.exists)
    os.kill(os.getpid(), signal.SIGINT)

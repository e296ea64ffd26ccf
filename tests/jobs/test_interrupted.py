"""``mmfeat run --json`` that is stopped: its last line says what it committed."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import stopping
from helpers import unrayed
from helpers.plugins import on_path, write_plugin

import mmfeat
from mmfeat import cli

JOB = """
[store]
uri = "store"
[dataset]
name = "DATASET"
root = "items.csv"
[features.title_vector]
source = "title"
encoder = "digest"
[features.caption]
source = "description"
captioner = "digest"
[resources]
executor = "local"
[run]
max_failed = 1.0
[stop]
"""


@pytest.fixture(autouse=True)
def installed(tmp_path_factory):
    """The plug-ins of these jobs."""
    folder = write_plugin(tmp_path_factory.mktemp("stopping"), stopping.POINTS)
    with on_path(folder), on_path(unrayed.PLUGIN):
        yield


def write_job(folder: Path, dataset: str) -> None:
    unrayed.write_dataset(folder / "items.csv", 0)
    (folder / "job.toml").write_text(JOB.replace("DATASET", dataset))


def test_a_stopped_run_ends_with_a_json_line_that_says_what_it_committed(run, tmp_path):
    write_job(tmp_path, "table")
    code, out, err = run("run", "job.toml", "--json")
    told = json.loads(out.splitlines()[-1])
    assert (code, told["error"]["type"], "Traceback" in err) == (130, "Interrupted", False)
    counted = [f["ok"] + f["missing"] + f["failed"] for f in told["report"]["features"]]
    assert counted == [unrayed.N_ITEMS] * 2
    (record,) = mmfeat.open("store").runs()
    assert (record["end"], record["run_id"]) == ("interrupted", told["report"]["run_id"])
    assert record["report"] == told["report"]


def test_a_run_stopped_before_it_began_has_nothing_to_report(run, tmp_path):
    write_job(tmp_path, "stopping")
    code, out, _ = run("run", "job.toml", "--json")
    assert (code, json.loads(out)["error"]["type"], json.loads(out)["report"]) == (130, "Interrupted", None)
    assert not (tmp_path / "store").exists()


@pytest.fixture
def handled(monkeypatch):
    """SIGTERM is handled as by the command line."""
    monkeypatch.setattr(cli._Stop, "latest", None)
    kept = signal.signal(signal.SIGTERM, cli._interrupt)
    yield
    signal.signal(signal.SIGTERM, kept)


def test_a_second_sigterm_lets_the_first_finish(handled):
    done = []
    with pytest.raises(KeyboardInterrupt):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            done.append("committed")
    assert done == ["committed"]


def test_a_sigterm_that_a_library_swallowed_is_not_the_last_one(handled):
    for _ in range(2):
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:
            continue
        raise AssertionError("it did nothing")

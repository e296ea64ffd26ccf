"""``mmfeat run --json`` that is stopped: its last line says what it committed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import stopping
import unrayed
from plugins import on_path, write_plugin

import mmfeat

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

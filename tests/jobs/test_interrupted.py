"""``mmfeat run --json`` that is stopped: its last line says what it committed."""

from __future__ import annotations

import json
import signal

import unrayed

import mmfeat
from mmfeat.pipelines import run as run_module

JOB = """
[store]
uri = "store"
[dataset]
name = "table"
root = "items.csv"
[features.title_vector]
source = "title"
encoder = "open_clip"
model = "digest"
[run]
max_failed = 1.0
"""


def test_a_stopped_run_ends_with_a_json_line_that_says_what_it_committed(run, tmp_path, monkeypatch):
    unrayed.write_dataset(tmp_path / "items.csv", 0)
    (tmp_path / "job.toml").write_text(JOB)
    # A scheduler's stop, at the moment when all rows are committed and none is checked yet.
    monkeypatch.setattr(run_module, "_check_conserved", lambda *_: signal.raise_signal(signal.SIGTERM))
    with unrayed._without_ray():
        code, out, err = run("run", "job.toml", "--json")
    told = json.loads(out.splitlines()[-1])
    assert (code, told["error"]["type"], "Traceback" in err) == (130, "Interrupted", False)
    counted = [f["ok"] + f["missing"] + f["failed"] for f in told["report"]["features"]]
    assert counted == [unrayed.N_ITEMS] * len(unrayed.SPECS)
    (record,) = mmfeat.open("store").runs()
    assert (record["end"], record["run_id"]) == ("interrupted", told["report"]["run_id"])


def test_a_run_stopped_before_it_began_has_nothing_to_report(run, tmp_path, monkeypatch):
    (tmp_path / "job.toml").write_text(JOB)
    monkeypatch.setattr(run_module, "_load", lambda *_: signal.raise_signal(signal.SIGTERM))
    code, out, _ = run("run", "job.toml", "--json")
    assert (code, json.loads(out)["error"]["type"], json.loads(out)["report"]) == (130, "Interrupted", None)

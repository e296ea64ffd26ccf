"""A newcomer adds a job's step: one file, and one line of their package's entry points."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import unrayed
from helpers.plugins import on_path, write_plugin

import mmfeat

JOB = """
[store]
uri = "store"
[dataset]
name = "table"
root = "items.csv"
[features.title_vector]
source = "title"
encoder = "digest"
edition = 1
[run]
max_failed = 1.0
[keep]
versions = 1
"""
COUNT = '[count]\nfeature = "title_vector"\n'


@pytest.fixture
def installed(tmp_path_factory) -> Iterator[Path]:
    """A package with the step ``count``, beside one whose step cannot be imported."""
    folder = tmp_path_factory.mktemp("installed")
    write_plugin(folder, {"mmfeat.steps": {"count": "step:Count", "broken": "no_such_module:Step"}})
    with on_path(Path(__file__).parent / "plugins"), on_path(folder), on_path(unrayed.PLUGIN):
        yield folder


@pytest.fixture
def write_job(tmp_path):
    unrayed.write_dataset(tmp_path / "items.csv", 0)

    def written(tables: str, edition: int = 1) -> None:
        (tmp_path / "job.toml").write_text(JOB.replace("edition = 1", f"edition = {edition}") + tables)

    return written


def test_its_report_is_in_the_runs_after_all_of_mmfeats_own_steps(installed, run, write_job, tmp_path):
    told = tmp_path / "told.json"
    copy = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())"
    notify = f"[notify]\ncommand = {json.dumps([sys.executable, '-c', copy, str(told)])}\n"
    counted = []
    for edition in (1, 2):
        # Its table comes first: the order of the file is not that of the steps.
        write_job(COUNT + notify, edition)
        code, out, err = run("run", "job.toml", "--json")
        assert code == 0, err
        counted.append(json.loads(out)["further"]["count"])
    old, new = counted
    ok = json.loads(out)["features"][0]["ok"]
    assert [c["items"] for c in counted] == [ok, ok]
    # After promote and keep ...
    assert [c["state"] for c in counted] == ["current", "current"]
    assert (old["removed_before"], new["removed_before"]) == ([], [old["version"]])
    # ... and before those who are told of the end, and in the run's record.
    assert json.loads(told.read_text())["report"]["further"] == {"count": new}
    (*_, record) = mmfeat.open("store").runs()
    assert record["report"]["further"] == {"count": new}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[coun]\nfeature = 'title_vector'\n", "there is no table [coun]. Did you mean 'count'?"),
        ("[count]\nfeatur = 'title_vector'\n", "[count]: feature: is missing"),
        (
            "[count]\nfeature = 'title_vector'\nfeatur = 'x'\n",
            "[count]: featur: there is no such key. Did you mean 'feature'?",
        ),
        (
            "[count]\nfeature = 'title_vectro'\n",
            "[count] feature: this job has no feature 'title_vectro'.\nDid you mean 'title_vector'?",
        ),
        ("[broken]\nx = 1\n", "the step 'broken' (no_such_module:Step) cannot be imported"),
    ],
    ids=["table", "key that is needed", "key", "check", "not importable"],
)
def test_what_is_wrong_with_its_table_is_said_before_any_work(
    installed, run, write_job, tmp_path, table, said
):
    write_job(table)
    code, _, err = run("run", "job.toml")
    assert (code, said in err, "Traceback" in err) == (2, True, False), err
    assert not (tmp_path / "store").exists()


def test_a_job_without_its_table_runs_without_it(installed, run, write_job):
    write_job("")
    code, out, err = run("run", "job.toml", "--json")
    assert (code, json.loads(out)["further"]) == (0, {}), err


def test_it_is_not_run_where_a_gate_fell_short(installed, run, write_job):
    write_job(COUNT + "[gates]\nmin_coverage = 1.0\n" + '[features.caption]\nsource = "description"\n'
              'captioner = "digest"\n')  # fmt: skip
    code, out, _ = run("run", "job.toml", "--json")
    assert (code, json.loads(out)["report"]["further"]) == (3, {})

"""A file of interactions in a job and on the command line: where it is looked for, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import unrayed
from helpers.dataset_files import put
from helpers.plugins import on_path

import mmfeat
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.job import load_job, parse_job

CLICKS = "uid,sku,when,kind\nu,item-001,1700000000,buy\n,item-001,1700000001,buy\nu,nowhere,1700000002,view\n"
COLUMNS = {"user": "uid", "item": "sku", "time": "when", "event": "kind"}
JOB = """
[dataset]
name = "table"
root = "items.csv"
{own}
[store]
uri = "features"
[resources]
executor = "local"
[run]
limit = 5
[features.digest]
source = "title"
encoder = "digest"
"""
TABLE = '[dataset.interactions]\nfile = "logs/clicks.csv"\n' + "".join(
    f'{part} = "{name}"\n' for part, name in COLUMNS.items()
)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job beside its items and its clicks."""
    folder = put(tmp_path / "jobs", {"job.toml": JOB.format(own=TABLE), "logs/clicks.csv": CLICKS})
    unrayed.write_dataset(folder / "items.csv", 0)
    return folder / "job.toml"


def seen(store: Path) -> list[tuple]:
    return [tuple(row.values()) for row in mmfeat.open(store).interactions.to_pylist()]


def test_the_file_of_a_job_lies_beside_it_and_what_is_of_no_use_is_told_by_the_run(run, job):
    with on_path(unrayed.PLUGIN):
        code, out, err = run("run", job)
    assert code == 0, err
    assert seen(job.parent / "features") == [
        ("u", "item-001", 1_700_000_000_000, None, "buy"),
        ("u", "nowhere", 1_700_000_002_000, None, "view"),
    ]
    assert "Note: 1 lines of clicks.csv without a user or without an item: left out." in out
    assert "Note: 1 interactions in clicks.csv with 1 items that are not in the catalog." in out


def test_extract_takes_the_file_of_its_config_and_an_option_goes_before_it(run, job, tmp_path):
    put(tmp_path, {"other.csv": "user,sku\nv,item-002\n"})
    with on_path(unrayed.PLUGIN):
        code, _, err = run("extract", "--config", job, "--store", "first")
        assert code == 0, err
        words = ("-o", "interactions=other.csv", "-o", "interactions.item=sku")
        code, _, err = run("extract", "--config", job, "--store", "second", *words)
        assert code == 0, err
    assert len(seen(tmp_path / "first")) == 2
    assert seen(tmp_path / "second") == [("v", "item-002", None, None, None)]


def test_a_check_takes_the_option_and_init_writes_it_as_a_table(run, job, tmp_path):
    words = ("--root", "jobs/items.csv", "-o", "interactions=jobs/logs/clicks.csv")
    for part, name in COLUMNS.items():
        words += ("-o", f"interactions.{part}={name}")
    code, out, err = run("datasets", "check", "table", *words)
    assert code == 0, err
    assert "2 interactions of 1 users" in out and "(nowhere)" in out
    code, _, err = run("init", "--dataset", "table", *words, "--out", "made/job.toml")
    assert code == 2  # its folder is not there
    code, _, err = run("init", "--dataset", "table", *words)
    assert code == 0, err
    own = load_job(tmp_path / "job.toml").dataset.interactions
    assert own.model_dump() == {"file": str(tmp_path / "jobs" / "logs" / "clicks.csv"), **COLUMNS}


def test_a_file_is_named_alone_or_in_a_table_with_its_columns(tmp_path):
    def own(said: object, base: Path | None = None) -> dict:
        dataset = {"name": "table", "interactions": said}
        features = {"x": {"source": "title", "encoder": "y"}}
        job = {"store": {"uri": "s"}, "dataset": dataset, "features": features}
        return json.loads(parse_job(job, "job.toml", base).model_dump_json())["dataset"]["interactions"]

    assert own("clicks.csv") == {"file": "clicks.csv"}
    assert own("clicks.csv", tmp_path) == {"file": str(tmp_path / "clicks.csv")}
    table = {"file": "/data/clicks.csv", "user": "u", "rating": ""}
    assert own(table, tmp_path) == table
    for wrong, said in (
        ({"user": "u"}, "interactions.file: is missing"),
        ({"file": "a.csv", "usr": "u"}, "usr: there is no such key. Did you mean 'user'"),
        ({"file": "a.csv", "item": ""}, "item"),
        ("s3://bucket/clicks.csv", "interactions: interactions are read from a local file"),
        (["a.csv"], "interactions"),
    ):
        with pytest.raises(ConfigError) as error:
            own(wrong)
        assert said in str(error.value)


def test_interactions_that_are_named_twice_are_refused(tmp_path):
    put(tmp_path, {"job.toml": JOB.format(own='interactions = "a.csv"\noptions = {interactions = "b.csv"}')})
    with pytest.raises(ConfigError, match=r"named twice: here and under \[dataset.options\]"):
        load_job(tmp_path / "job.toml")

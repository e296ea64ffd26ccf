"""Exports with a file of interactions, of a store or a feature set that has none."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.dataset_files import put
from helpers.echo import OPTIONS, every_role, make_input, make_interactions
from helpers.export_readers import REFUSED
from helpers.interaction_rows import interactions_of

import mmfeat
from mmfeat.export import Request, export, get, names, verify
from mmfeat.schemas.errors import ConfigError, DatasetError, UsageError

# DFF's own numbers are the items' ids, which these are not.
NUMBERED = {"dff": {"numbers": "new"}}
IDS = ["007", "1e5", "ü/1"]
CLICKS = (
    "who,item,time,rating\nu,007,1700000000,4\nu,1e5,1700000001,2.5\nv,7,1700000002,1\n,007,1700000003,1\n"
)


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    return put(tmp_path, {"clicks.csv": CLICKS}) / "clicks.csv"


def request(tmp_path: Path, format: str = "recbole", **settings: object) -> Request:
    return Request(format, tmp_path / "toys", **settings)


def test_the_files_interactions_are_written_and_recorded_with_its_digest(tmp_path, clicks):
    data = make_input("recbole", IDS, interactions=None)
    report = export(data, request(tmp_path, interactions={"file": str(clicks), "user": "who"}))
    assert (tmp_path / "toys" / "toys.inter").read_text() == (
        "user_id:token\titem_id:token\ttimestamp:float\trating:float\n"
        "u\t007\t1700000000000\t4\nu\t1e5\t1700000001000\t2.5\n"
    )
    counts = json.loads((tmp_path / "toys" / "manifest.json").read_text())["interactions"]
    assert (counts["given"], counts["written"], counts["item_not_exported"]) == (3, 2, 1)
    assert counts["source"] == {
        "file": str(clicks),
        "sha256": hashlib.sha256(clicks.read_bytes()).hexdigest(),
        "columns": {"user": "who", "item": "item", "time": "time", "rating": "rating"},
        "unused": [
            "1 lines of clicks.csv without a user or without an item: left out",
            "1 interactions in clicks.csv with 1 items that are not in the catalog",
        ],
    }
    assert report.interactions == counts


@pytest.mark.parametrize("format", [name for name in names() if get(name).interactions != "unused"])
def test_every_format_makes_the_same_of_a_parquet_file_as_of_the_datasets_interactions(tmp_path, format):
    ids = [i for i in ["10", "9", *IDS, "a b", "B00.1", "x.y"] if i not in REFUSED.get(format, ())]
    met = make_interactions(ids)
    times = met["timestamp"].cast(pa.timestamp("ms", "Asia/Tokyo"))
    columns = {"sku": met["item_id"], "uid": met["user_id"], "time": times}
    pq.write_table(pa.table(columns), tmp_path / "met.parquet")
    shared = {"features": every_role(format), "options": NUMBERED.get(format, OPTIONS.get(format))}
    own = {"interactions": {"file": str(tmp_path / "met.parquet"), "item": "sku"}}
    for out, data, settings in (
        ("dataset", make_input(format, ids, interactions=met), {}),
        ("file", make_input(format, ids, interactions=None), own),
    ):
        export(data, Request(format, tmp_path / out / "toys", **shared, **settings))
    assert verify(tmp_path / "file" / "toys").ok
    written = (tmp_path / out / "toys" / "manifest.json" for out in ("dataset", "file"))
    before, after = (json.loads(path.read_text())["files"] for path in written)  # digests and sizes
    assert after == before


def test_what_has_interactions_keeps_them_unless_they_are_to_be_replaced(tmp_path, clicks):
    data = make_input("recbole", IDS, interactions=interactions_of([("x", "007", 1), ("x", "ü/1", 2)]))
    own = {"file": str(clicks), "user": "who"}
    with pytest.raises(UsageError, match="There are 2 interactions already") as error:
        export(data, request(tmp_path, interactions=own))
    assert "--replace-interactions" in error.value.hint
    assert not (tmp_path / "toys").exists()
    export(data, request(tmp_path, interactions=own, replace_interactions=True))
    assert (tmp_path / "toys" / "toys.inter").read_text().count("\nu\t") == 2


def test_a_file_that_nothing_would_read_is_refused(tmp_path, clicks):
    own = {"file": str(clicks), "user": "who"}
    data = make_input("npy", IDS, interactions=None)
    with pytest.raises(UsageError, match="npy reads no interactions"):
        export(data, request(tmp_path, "npy", interactions=own))
    report = export(data, request(tmp_path, "npy", interactions=own, items="interacted"))
    assert report.items == 2
    with pytest.raises(UsageError, match="replace_interactions needs a file"):
        request(tmp_path, replace_interactions=True)


def test_a_file_that_cannot_be_read_leaves_nothing_behind(tmp_path, clicks):
    data = make_input("recbole", IDS, interactions=None)
    with pytest.raises(DatasetError, match="no column of users") as error:
        export(data, request(tmp_path, interactions=clicks))
    assert "--interactions-column user=COLUMN" in error.value.hint
    with pytest.raises(ConfigError, match="interactions: usr: there is no such key"):
        export(data, request(tmp_path, interactions={"file": str(clicks), "usr": "who"}))
    assert not (tmp_path / "toys").exists()


@pytest.fixture
def written(world, tmp_path) -> Path:
    """A copy of the shared store: it keeps which exports were made of it."""
    return shutil.copytree(world / "store", tmp_path / "store")


def test_the_command_line_takes_a_file_for_a_store_without_interactions(run, written, tmp_path):
    clicks = "who,item_id,note\nu,item-001,5\nu,item-002,4\nv,item-001,3\nv,nowhere,3\n"
    put(tmp_path, {"clicks.tsv": clicks.replace(",", "\t")})
    words = ("export", "mmrec", "--features", "image=clip", "--store", written, "--out", "toys")
    code, _, err = run(*words)
    assert (code, "Name a file of them: --interactions FILE" in err) == (2, True), err
    words += ("--interactions", "clicks.tsv", "--interactions-column")
    for wrong, said in (("who", "takes PART=COLUMN"), ("usr=who", "usr: there is no such key")):
        code, _, err = run(*words, wrong)
        assert (code, said in err) == (2, True), err
    code, out, err = run(*words, "user=who", "--interactions-column", "rating=note")
    assert code == 0, err
    assert "3 of 4 interactions, 1 with items that are not exported" in out
    assert "1 interactions in clicks.tsv with 1 items that are not in the catalog" in err
    lines = (tmp_path / "toys" / "toys.inter").read_text().splitlines()
    assert sorted(line.split("\t")[2] for line in lines[1:]) == ["3", "4", "5"]
    code, _, err = run("export", "npy", "--out", "o", "--interactions-column", "user=who")
    assert (code, "is of a file: --interactions FILE" in err) == (2, True), err


def test_times_that_some_interactions_lack_are_told_not_to_be_written(run, written, tmp_path):
    put(tmp_path, {"c.csv": "user,item,time\nu,item-000,2\nu,item-001,\nv,item-001,1\n"})
    words = ("export", "cornac", "--out", "toy", "--features", "clip", "--interactions", "c.csv")
    code, out, err = run(*words, "--store", written)
    assert code == 0, err
    assert "1 of these have no time: all are in the dataset's order, without times" in out
    assert [line.count("\t") for line in (tmp_path / "toy/interactions.tsv").read_text().splitlines()] == [
        2
    ] * 3


def test_the_python_method_takes_a_path(written, tmp_path):
    put(tmp_path, {"clicks.jsonl": '{"user": "u", "item": "item-001"}\n'})
    store = mmfeat.open(written)
    report = store.export(
        "recbole", tmp_path / "toys", features=["clip"], interactions=tmp_path / "clicks.jsonl"
    )
    assert report.interactions["written"] == 1

"""Forgetting as people and schedulers meet it: commands, runs, exports."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
from helpers import worlds

import mmfeat
from mmfeat.store import Store


@pytest.fixture
def store(world, tmp_path, monkeypatch) -> Path:
    """A copy of the shared store that a test may write to, and a URL cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return shutil.copytree(world / "store", tmp_path / "store")


def test_forget_and_verify_on_the_command_line(run, store, monkeypatch):
    code, out, _ = run("forget", "item-001", "--reason", "asked to", "--store", store)
    assert code == 0 and "1 item (item-001) forgotten: asked to" in out
    (store.parent / "ids").write_text("item-002\nitem-003\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("item-004\n"))
    code, out, _ = run("forget", "--ids-from", "ids", "--reason", "r", "--store", store, "--json")
    assert code == 0 and json.loads(out)["forgotten"] == ["item-002", "item-003"]
    code, out, _ = run("forget", "--ids-from", "-", "--reason", "r", "--store", store, "--json")
    assert json.loads(out)["forgotten"] == ["item-004"]
    code, out, _ = run("forget", "--verify", "--store", store)
    assert code == 0 and "4 items were forgotten" in out and "nothing of them is in any of its files" in out
    _, out, _ = run("forget", "--verify", "--store", store, "--json")
    listed = [(t["item_id"], t["reason"], t["done"]) for t in json.loads(out)["forgotten"]]
    assert listed == [("item-001", "asked to", True), *((f"item-00{n}", "r", True) for n in (2, 3, 4))]
    code, out, _ = run("lookup", "item-001", "--feature", "clip", "--store", store)
    assert code == 2
    code, out, _ = run("status", "--store", store, "--json")
    assert {f["ok"] for f in json.loads(out)["features"]} == {worlds.N_ITEMS - 4}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["item-001"], "--reason"),
        (["--reason", "r"], "item ids"),
        (["item-001", "nowhere", "--reason", "r"], "nowhere"),
        (["--ids-from", "no-such-file", "--reason", "r"], "no-such-file"),
        (["item-001", "--verify"], "--verify takes no ids"),
    ],
)
def test_what_cannot_be_forgotten_as_written_is_wrong_use(run, store, words, said):
    code, _, err = run("forget", *words, "--store", store)
    assert code == 2 and said in err
    assert Store.open(str(store)).forgetting.tombstones() == []


def test_verify_fails_while_a_removal_is_unfinished(run, store):
    opened = Store.open(str(store))
    with opened.lease("test"):
        opened.forgetting.begin(["item-001"], "cut short")
    code, out, _ = run("forget", "--verify", "--store", store)
    assert code == 1
    assert "still holds 1 item (item-001)" in out and "begun and not finished" in out


def test_a_run_finishes_a_removal_and_does_not_bring_the_item_back(world, store):
    opened = Store.open(str(store))
    with opened.lease("test"):
        opened.forgetting.begin(["item-001"], "cut short")
    report = mmfeat.extract(**worlds.job(world / "media", store, worlds.FEATURES))
    assert (report.forgotten, report.items, report.computed) == (1, worlds.N_ITEMS - 1, 0)
    found = mmfeat.open(store)
    assert found.verify_forgotten().ok
    assert len(found.ids) == worlds.N_ITEMS - 1 and "item-001" not in found.ids


def test_exports_that_hold_the_item_are_named_as_stale(run, store, tmp_path):
    for name, items in (("holds", None), ("lacks", ["item-005", "item-006"]), ("moved", None)):
        mmfeat.open(store).export(
            "npy", tmp_path / name, features=["clip"], items=items or "all", missing="drop"
        )
    (tmp_path / "moved").rename(tmp_path / "elsewhere")
    code, out, _ = run("forget", "item-001", "--reason", "r", "--store", store)
    assert code == 0
    assert [str(tmp_path / name) in out for name in ("holds", "lacks", "moved")] == [True, False, True]
    _, out, _ = run("forget", "--verify", "--store", store, "--json")
    assert [Path(e["path"]).name for e in json.loads(out)["stale_exports"]] == ["holds", "moved"]
    # An export made afterwards is not.
    mmfeat.open(store).export("npy", tmp_path / "fresh", features=["clip"], missing="drop")
    run("forget", "item-002", "--reason", "r", "--store", store)
    _, out, _ = run("forget", "--verify", "--store", store, "--json")
    stale = [Path(e["path"]).name for e in json.loads(out)["stale_exports"]]
    assert stale == ["holds", "moved", "fresh"]


def test_snapshot_list_says_which_were_rewritten(run, store):
    run("snapshot", "create", "v1", "--store", store)
    run("forget", "item-001", "--reason", "r", "--store", store)
    run("snapshot", "create", "v2", "--store", store)
    _, out, _ = run("snapshot", "list", "--store", store)
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert "1 item forgotten" in lines["v1"] and "forgotten" not in lines["v2"]

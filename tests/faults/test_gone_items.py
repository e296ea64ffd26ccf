"""Items that left their dataset: told, counted, kept out of exports and counts, and pruned."""

from __future__ import annotations

import json

import lance
import pytest
from helpers.changing import PAIRS, exported, rows, run, titled, write_microlens, write_table

import mmfeat
from mmfeat.schemas.errors import GateFailed, UsageError


def test_an_item_that_left_is_told_counted_and_left_out_of_exports(tmp_path):
    store, table = tmp_path / "store", tmp_path / "items.jsonl"
    run(store, write_table(table, titled(range(10))))
    before = rows(store)
    report = run(store, write_table(table, titled(range(9))))
    assert (report.left, report.gone, report.to_dict()["left"]) == (1, 1, 1)
    assert any("1 items have left the dataset" in notice for notice in report.notices)
    assert rows(store) == before
    opened = mmfeat.open(store)
    assert (opened.gone, "9" in opened.ids, opened.lookup().ids) == (["9"], False, opened.ids)
    assert opened.lookup(["9"], ["title_vector"])["title_vector"].mask.all()
    assert {f.ok for f in opened.status()} == {9}
    assert {(f.gone, f.absent) for f in opened.status()} == {(1, 0)}
    assert exported(store, tmp_path / "a") == [str(n) for n in range(9)]
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["selections"] == [{"items": "present", "kept": 9, "left_out": ["9"]}]
    assert exported(store, tmp_path / "b", items="all") == [str(n) for n in range(10)]
    assert exported(store, tmp_path / "c", items=["9", "1"]) == ["9", "1"]
    hits = opened.search("title_vector", item="1", k=20)
    assert len(hits) == 8


def test_a_limit_marks_nobody_gone(tmp_path):
    store, table = tmp_path / "store", write_table(tmp_path / "items.jsonl", titled(range(10)))
    run(store, table)
    assert (run(store, table, limit=1).left, mmfeat.open(store).gone) == (0, [])
    run(store, write_table(table, titled(range(9))))
    assert (run(store, table, limit=1).gone, mmfeat.open(store).gone) == (1, ["9"])


def test_an_item_that_comes_back_is_present_and_is_not_computed_again(tmp_path):
    store, table = tmp_path / "store", tmp_path / "items.jsonl"
    run(store, write_table(table, titled(range(10))))
    run(store, write_table(table, titled(range(9))))
    report = run(store, write_table(table, titled(range(10))))
    assert (report.gone, report.computed, mmfeat.open(store).gone) == (0, 0, [])
    assert any("1 items that were gone are back" in notice for notice in report.notices)


def test_a_dataset_that_does_not_change_writes_no_catalog_while_items_are_gone(tmp_path):
    store, table = tmp_path / "store", tmp_path / "items.jsonl"
    run(store, write_table(table, titled(range(10))))
    run(store, write_table(table, titled(range(9))))
    before = lance.dataset(str(store / "_items.lance")).version
    assert (run(store, table).left, run(store, table).notices) == (0, [])
    assert lance.dataset(str(store / "_items.lance")).version == before


def test_coverage_counts_present_items_only(tmp_path):
    store, table = tmp_path / "store", tmp_path / "items.jsonl"
    run(store, write_table(table, titled(range(340))))
    # A new version has no rows of items that are gone: 0.88 of all items, and all that there are.
    with pytest.raises(GateFailed, match="240 of 340 items leave"):
        run(store, write_table(table, titled(range(100))))
    report = run(store, write_table(table, titled(range(300))), gates={"min_coverage": 1.0})
    assert [gate.value for gate in report.gates] == [1.0, 1.0]


def test_the_status_names_those_that_are_gone(tmp_path, run_command):
    store, table = tmp_path / "store", tmp_path / "items.jsonl"
    run(store, write_table(table, titled(range(10))))
    run(store, write_table(table, titled(range(9))))
    code, out, _ = run_command("status", "--store", store, "--json")
    found = json.loads(out)
    assert (code, found["items"], found["gone"]) == (0, 9, 1)
    assert found["datasets"] == [{"name": "table", "root": str(table)}]
    assert "1 more are gone from their dataset" in run_command("status", "--store", store)[1]


def test_pruned_items_lose_their_rows_and_are_extracted_again_when_they_return(tmp_path, run_command):
    store, table = tmp_path / "store", tmp_path / "items.jsonl"
    run(store, write_table(table, titled(range(10))))
    mmfeat.open(store).create_snapshot("then")
    run(store, write_table(table, titled(range(9))))
    before = rows(store)
    code, out, _ = run_command("prune", "--store", store, "--json")
    assert (code, json.loads(out)["items"], json.loads(out)["removed"]) == (0, ["9"], False)
    assert rows(store) == before
    code, out, _ = run_command("prune", "--yes", "--store", store, "--json")
    assert set(json.loads(out)["rows"].values()) == {1}
    after = rows(store)
    assert after == {key: row for key, row in before.items() if key[1] != "9"}
    opened = mmfeat.open(store)
    assert (opened.gone, opened.prunable().items, len(opened.items)) == ([], [], 9)
    assert mmfeat.open(store, snapshot="then").lookup(["9"], ["title_vector"])["title_vector"].mask.all()
    assert opened.runs()[-1]["kind"] == "prune"
    report = run(store, write_table(table, titled(range(10))))
    assert report.computed
    assert rows(store) == before
    assert "nothing would go" in run_command("prune", "--store", store)[1]
    assert run_command("prune", "--yes", "--dry-run", "--store", store)[0] == 2


def test_interacted_exports_are_as_they_were(tmp_path):
    store = tmp_path / "store"
    lens = write_microlens(tmp_path / "lens", titled(range(22)), PAIRS)
    run(store, lens, "microlens")
    # The last ten items have left, and the log of interactions still names them.
    write_microlens(lens, titled(range(21)), PAIRS)
    run(store, lens, "microlens")
    assert exported(store, tmp_path / "out", items="interacted") == [str(n) for n in range(20)]
    with pytest.raises(UsageError, match=r"items cannot be .some."):
        mmfeat.open(store).export("parquet", tmp_path / "x", items="some")

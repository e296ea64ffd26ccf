"""What a run would take away from a store: it stops before it writes."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from helpers.changing import FEATURES, PAIRS, run, state, titled, write_microlens, write_table
from helpers.storing import vector_spec

import mmfeat
from mmfeat.datasets.base import build_items
from mmfeat.pipelines.planning.contents import Contents
from mmfeat.pipelines.planning.loss import lost_rows
from mmfeat.schemas.errors import GateFailed
from mmfeat.store import Store


def test_a_column_that_vanished_stops_the_run_before_it_writes(tmp_path):
    store, table = tmp_path / "store", tmp_path / "items.jsonl"
    run(store, write_table(table, titled("123")))
    before = state(store)
    untitled = {i: {"description": f"thing {i}"} for i in "1234"}
    with pytest.raises(GateFailed, match=r"3 of 3 ok rows of title_vector@[0-9a-f]* lose their") as stop:
        run(store, write_table(table, untitled))
    assert (stop.value.exit_code, "--accept-loss" in stop.value.hint) == (3, True)
    assert "Nothing was written" in stop.value.message
    assert state(store) == before
    report = run(store, table, max_lost=1)
    assert [f.missing for f in report.features] == [4, 0]
    assert any("3 of 3 ok rows" in notice for notice in report.notices)


def test_a_feature_of_a_feature_is_lost_with_what_it_reads(tmp_path):
    store, table = tmp_path / "store", tmp_path / "items.jsonl"
    of_caption = {**FEATURES, "caption_vector": {"source": "caption", "encoder": "digest"}}
    run(store, write_table(table, titled("abcd")), features=of_caption)
    with pytest.raises(GateFailed, match=r"4 of 4 ok rows of caption@.*4 of 4 ok rows of caption_vector@"):
        run(store, write_table(table, {i: {"title": f"title of {i}"} for i in "abcd"}), features=of_caption)


def test_files_that_are_not_there_any_more_stop_it_too(tmp_path):
    paths = [tmp_path / "covers" / f"{n}.png" for n in range(4)]
    items = build_items([str(n) for n in range(4)], {"cover": {str(n): str(p) for n, p in enumerate(paths)}})
    items = items.set_column(3, "cover", pa.array([*map(str, paths[:3]), "https://example.org/3.png"]))
    (tmp_path / "covers").mkdir()
    for path in paths:
        path.write_bytes(b"x")
    spec = vector_spec("clip")
    row = {"item_id": [str(n) for n in range(4)], "status": ["ok"] * 4}
    ledger = {spec.fingerprint: lambda columns: [pa.RecordBatch.from_pydict(row)]}
    assert lost_rows(Contents(items), [spec], ledger) == []
    (tmp_path / "covers").rename(tmp_path / "elsewhere")
    (loss,) = lost_rows(Contents(items), [spec], ledger)
    # What an address holds is not known without asking for it.
    assert (loss.lost, loss.had) == (3, 4)


@pytest.mark.parametrize(("left", "stops"), [(9, False), (8, False), (7, True), (1, True)])
def test_a_dataset_that_shrinks_sharply_stops(tmp_path, left, stops):
    store, table = tmp_path / "store", tmp_path / "items.jsonl"
    run(store, write_table(table, titled(range(10))))
    before = state(store)
    write_table(table, titled(range(left)))
    if not stops:
        assert run(store, table).left == 10 - left
        return
    with pytest.raises(GateFailed, match=f"{10 - left} of 10 items leave the dataset"):
        run(store, table)
    assert state(store) == before
    assert run(store, table, max_lost=1).left == 10 - left


def test_one_of_three_items_is_changed_by_hand_and_stops_nothing(tmp_path):
    store, table = tmp_path / "store", tmp_path / "items.jsonl"
    run(store, write_table(table, titled("abc")))
    two = titled("ab") | {"b": {"description": "thing b"}}
    report = run(store, write_table(table, two))
    assert (report.left, report.features[0].missing) == (1, 1)
    assert any("1 of 2 ok rows of title_vector" in notice for notice in report.notices)


@pytest.mark.parametrize(("n", "lost", "stops"), [(3, 2, True), (2, 1, False), (1, 1, True), (10, 2, False)])
def test_most_of_a_handful_is_no_change_by_hand(tmp_path, n, lost, stops):
    store, table = tmp_path / "store", tmp_path / "items.jsonl"
    run(store, write_table(table, titled(range(n))))
    untitled = {str(i): {"description": f"thing {i}"} for i in range(lost)}
    write_table(table, {**titled(range(n)), **untitled})
    if stops:
        with pytest.raises(GateFailed, match=f"{lost} of {n} ok rows of title_vector"):
            run(store, table)
    else:
        assert run(store, table).features[0].missing == lost


def test_a_bound_of_0_stops_for_any_loss(tmp_path):
    store, table = tmp_path / "store", tmp_path / "items.jsonl"
    run(store, write_table(table, titled(range(10))))
    with pytest.raises(GateFailed, match="1 of 10 items leave"):
        run(store, write_table(table, titled(range(9))), max_lost=0)


def test_interactions_that_shrink_sharply_stop(tmp_path):
    store = tmp_path / "store"
    lens = write_microlens(tmp_path / "lens", titled(range(20)), PAIRS)
    run(store, lens, "microlens")
    before = state(store)
    write_microlens(lens, titled(range(20)), PAIRS[:2])
    with pytest.raises(GateFailed, match="58 of 60 interactions go"):
        run(store, lens, "microlens")
    (lens / "pairs.csv").unlink()
    with pytest.raises(GateFailed, match="60 of 60 interactions go"):
        run(store, lens, "microlens")
    assert state(store) == before
    run(store, lens, "microlens", max_lost=1)
    assert mmfeat.open(store).interactions is None


def test_the_command_stops_with_3_and_goes_on_with_the_flag(tmp_path, run_command):
    store, table = tmp_path / "store", tmp_path / "items.jsonl"
    job = tmp_path / "job.toml"
    job.write_text(
        f'[store]\nuri = "{store}"\n[dataset]\nname = "table"\nroot = "{table}"\n'
        '[features.title_vector]\nsource = "title"\nencoder = "digest"\n[resources]\nexecutor = "local"\n'
    )
    write_table(table, titled(range(10)))
    assert run_command("run", job)[0] == 0
    write_table(table, titled(range(5)))
    code, _, err = run_command("run", job)
    assert (code, "--accept-loss" in err) == (3, True)
    code, out, _ = run_command("run", job, "--accept-loss", "--json")
    assert (code, json.loads(out)["left"]) == (0, 5)
    write_table(table, titled("abc"))
    assert run_command("run", job)[0] == 2
    assert json.loads(run_command("run", job, "--add", "--json")[1])["items"] == 3
    assert run_command("run", job, "--replace", "--add")[0] == 2


def test_a_store_says_what_it_holds_after_a_kill_between_items_and_interactions(tmp_path, monkeypatch):
    """Replaced items are written first: the old dataset's interactions are nobody's until the next run."""
    store = tmp_path / "store"
    run(store, write_microlens(tmp_path / "lens", titled(range(20)), PAIRS), "microlens")
    table = write_table(tmp_path / "own.jsonl", titled("ab"))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put_interactions", killed)
        with pytest.raises(KeyboardInterrupt):
            run(store, table, replace=True)
    assert (mmfeat.open(store).ids, mmfeat.open(store).interactions) == (["a", "b"], None)
    run(store, table)
    assert mmfeat.open(store).interactions is None

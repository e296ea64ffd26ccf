"""A store belongs to its dataset: another one is refused, added beside it or put in its place."""

from __future__ import annotations

import json

import lance
import pytest
from helpers.changing import PAIRS, exported, rows, run, state, titled, write_microlens, write_table

import mmfeat
from mmfeat.schemas.errors import ConfigError, GateFailed


def test_a_disjoint_dataset_is_refused_with_what_to_write_and_nothing_changes(tmp_path):
    store = tmp_path / "store"
    run(store, write_microlens(tmp_path / "lens", titled(range(20)), PAIRS), "microlens")
    before = state(store)
    other = write_table(tmp_path / "own.jsonl", titled(["mine", "yours"]))
    with pytest.raises(ConfigError, match="belongs to the dataset 'microlens'") as refused:
        run(store, other)
    assert all(word in refused.value.hint for word in ("--add", "--replace", "--store", "[dataset] id"))
    assert state(store) == before


def test_a_table_with_an_id_that_exists_does_not_take_over_that_item(tmp_path):
    store = tmp_path / "store"
    run(store, write_microlens(tmp_path / "lens", titled(range(20)), PAIRS), "microlens")
    before = state(store)
    with pytest.raises(ConfigError, match="is another one: 1 of its 2 items are in the store"):
        run(store, write_table(tmp_path / "own.jsonl", titled(["7", "mine"], of="my ")))
    assert state(store) == before


def test_the_sample_and_then_ones_own_media_in_the_store_of_the_quickstart(tmp_path):
    store = tmp_path / "features"
    run(store, tmp_path, "sample", dataset={"root": None})
    (tmp_path / "media" / "covers").mkdir(parents=True)
    (tmp_path / "media" / "covers" / "mine.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"'folder' .* is another one"):
        run(store, tmp_path / "media", "folder")
    report = run(store, tmp_path / "media", "folder", add=True)
    assert (report.items, "mine" in mmfeat.open(store).ids) == (1, True)


@pytest.mark.parametrize("moved", ["2026-02-01", "elsewhere/lens"])
def test_a_dated_or_moved_root_of_the_dataset_is_the_same_dataset(tmp_path, moved):
    store = tmp_path / "store"
    run(store, write_table(tmp_path / "2026-01-01" / "items.jsonl", titled(range(20))))
    report = run(store, write_table(tmp_path / moved / "items.jsonl", titled(range(1, 23))))
    assert (report.left, report.gone, report.features[0].up_to_date) == (1, 1, 19)


def test_a_first_run_over_some_items_and_a_dataset_that_grew_are_the_same_dataset(tmp_path):
    store, table = tmp_path / "store", tmp_path / "items.jsonl"
    run(store, write_table(table, titled(range(40))), limit=3)
    assert run(store, table).items == 40
    assert run(store, write_table(table, titled(range(400)))).features[0].ok == 360
    # A limit says nothing of whose the items are, even where it covers new ones alone.
    first_new = titled([*range(1000, 1010), *range(400)])
    assert (run(store, write_table(table, first_new), limit=5).left, len(mmfeat.open(store).gone)) == (0, 0)


def test_an_id_decides_whatever_the_adapter_and_the_items(tmp_path):
    store = tmp_path / "store"
    lens = write_microlens(tmp_path / "lens", titled(range(20)), PAIRS)
    run(store, lens, "microlens", dataset={"id": "shop"})
    with pytest.raises(ConfigError, match=r"'microlens' .id 'other'. from"):
        run(store, lens, "microlens", dataset={"id": "other"})
    # Without an id it is known by its items, and the store does not lose its id.
    run(store, lens, "microlens")
    assert mmfeat.open(store).datasets == [{"name": "microlens", "root": str(lens), "id": "shop"}]
    table = write_table(tmp_path / "t.jsonl", titled(range(20)))
    report = run(store, table, dataset={"id": "shop"}, max_lost=1)
    assert (report.features[0].up_to_date, report.left) == (20, 0)


def test_a_store_of_before_that_names_no_dataset_is_known_by_its_items(tmp_path):
    store, table = tmp_path / "store", write_table(tmp_path / "items.jsonl", titled(range(6)))
    run(store, table)
    lance.dataset(str(store / "_items.lance")).replace_schema_metadata({})
    assert run(store, table).features[0].up_to_date == 6
    lance.dataset(str(store / "_items.lance")).replace_schema_metadata({})
    with pytest.raises(ConfigError, match="is another one"):
        run(store, write_table(tmp_path / "other.jsonl", titled("abc")))


class TestAdded:
    """A table put beside MicroLens."""

    @pytest.fixture
    def place(self, tmp_path):
        self.lens = write_microlens(tmp_path / "lens", titled(range(20)), PAIRS)
        self.table = write_table(tmp_path / "own.jsonl", titled("abcdef"))
        self.store = tmp_path / "store"
        run(self.store, self.lens, "microlens")
        self.before = rows(self.store)
        self.report = run(self.store, self.table, add=True)
        return tmp_path

    def test_its_items_are_beside_the_others_which_keep_rows_and_interactions(self, place):
        opened = mmfeat.open(self.store)
        assert opened.ids == [*map(str, range(20)), *"abcdef"]
        assert len(opened.interactions) == len(PAIRS)
        after = rows(self.store)
        assert {key: after[key] for key in self.before} == self.before
        assert any("put beside those of 'microlens'" in notice for notice in self.report.notices)
        assert [one["name"] for one in opened.datasets] == ["microlens", "table"]
        assert exported(self.store, place / "out") == opened.ids
        assert json.loads((place / "out" / "manifest.json").read_text())["dataset"] == "microlens, table"

    def test_later_runs_of_both_need_no_flag_and_miss_their_own_items_alone(self, place):
        for _ in range(2):
            assert run(self.store, self.lens, "microlens").left == 0
            assert run(self.store, self.table).left == 0
        write_table(self.table, titled("abcde"))
        report = run(self.store, self.table)
        assert (report.left, mmfeat.open(self.store).gone) == (1, ["f"])
        assert len(mmfeat.open(self.store).interactions) == len(PAIRS)
        assert run(self.store, self.lens, "microlens").gone == 1

    def test_coverage_is_that_of_the_jobs_own_items(self, place):
        # The others' items have no description: they would count against the caption.
        report = run(self.store, self.table, gates={"min_coverage": 1.0})
        assert [gate.passed for gate in report.gates] == [True, True]

    def test_a_clash_of_ids_is_refused_and_named_at_first_and_later(self, place):
        before = state(self.store)
        clashing = write_table(place / "third.jsonl", titled(["c", "7", "x", "y", "z", "w"]))
        with pytest.raises(ConfigError, match=r"2 item ids .* are taken .*'c', '7'"):
            run(self.store, clashing, add=True, dataset={"id": "third"})
        write_table(self.table, titled("abcdef7"))
        with pytest.raises(ConfigError, match=r"1 item ids of 'table' .* are taken by items of 'microlens'"):
            run(self.store, self.table)
        assert state(self.store) == before

    def test_what_is_added_takes_over_nothing_even_where_it_looks_like_the_same_dataset(self, place):
        before = state(self.store)
        alike = write_table(place / "alike.jsonl", titled("abcdef", of="another "))
        with pytest.raises(ConfigError, match=r"6 item ids of 'table' from .*alike.* are taken") as refused:
            run(self.store, alike, add=True)
        assert "leave --add out" in refused.value.hint
        assert state(self.store) == before
        # In a job's file the flag stays where it was, and does no harm.
        assert run(self.store, self.table, add=True).notices == []

    def test_interactions_are_replaced_dataset_by_dataset(self, place):
        more = write_microlens(place / "more", titled(range(100, 130)), [("v", "101"), ("v", "102")])
        run(self.store, more, "microlens", add=True)
        assert len(mmfeat.open(self.store).interactions) == len(PAIRS) + 2
        write_microlens(place / "more", titled(range(100, 130)), [("v", "101"), ("v", "102"), ("w", "103")])
        run(self.store, more, "microlens")
        run(self.store, self.lens, "microlens")
        found = mmfeat.open(self.store).interactions["item_id"].to_pylist()
        assert sorted(found) == sorted([*(item for _, item in PAIRS), "101", "102", "103"])

    def test_what_is_forgotten_is_gone_from_both(self, place):
        opened = mmfeat.open(self.store)
        opened.forget(["a", "3"], "asked", cache=place / "cache")
        assert mmfeat.open(self.store).verify_forgotten().ok
        run(self.store, self.table)
        run(self.store, self.lens, "microlens")
        left = mmfeat.open(self.store)
        assert not {"a", "3"} & {*left.ids, *left.gone, *left.interactions["item_id"].to_pylist()}

    def test_a_column_of_another_kind_is_refused_instead_of_nulled(self, place):
        listing = {"x": {"title": "x", "photos": ["a.jpg"]}}
        third = place / "third.jsonl"
        third.write_text(json.dumps({"item_id": "x", **listing["x"]}) + "\n")
        run(self.store, third, add=True, dataset={"id": "3", "columns": {"photos": "image"}})
        fourth = write_table(place / "fourth.jsonl", {"y": {"title": "y", "photos": "words"}})
        with pytest.raises(ConfigError, match=r"column 'photos' is text in .* lists of image in another"):
            run(self.store, fourth, add=True, dataset={"id": "4", "columns": {"photos": "text"}})


def test_replaced_the_store_is_the_new_datasets_and_the_old_items_are_gone(tmp_path):
    store = tmp_path / "store"
    lens = write_microlens(tmp_path / "lens", titled(range(20)), PAIRS)
    run(store, lens, "microlens")
    table = write_table(tmp_path / "own.jsonl", titled("ab"))
    report = run(store, table, replace=True)
    opened = mmfeat.open(store)
    assert (report.left, opened.ids, len(opened.gone), opened.interactions) == (20, ["a", "b"], 20, None)
    assert any("belongs to 'table' from now on" in notice for notice in report.notices)
    assert run(store, table).notices == []
    # The old one has nothing here any more.
    with pytest.raises(ConfigError, match="belongs to the dataset 'table'"):
        run(store, lens, "microlens")
    assert opened.lookup(["7"], ["title_vector"])["title_vector"].mask.all()
    assert run(store, lens, "microlens", add=True).features[0].up_to_date == 20


def test_a_dataset_replaces_not_itself(tmp_path):
    store, table = tmp_path / "store", tmp_path / "items.jsonl"
    run(store, write_table(table, titled(range(10))))
    version = lance.dataset(str(store / "_items.lance")).version
    assert run(store, table, replace=True).notices == []
    assert lance.dataset(str(store / "_items.lance")).version == version
    # So it is no way around the question whether so much may go.
    with pytest.raises(GateFailed, match="5 of 10 items leave"):
        run(store, write_table(table, titled(range(5))), replace=True)


def test_replaced_by_a_part_of_a_dataset_the_old_items_are_gone_too(tmp_path):
    store = tmp_path / "store"
    run(store, write_table(tmp_path / "old.jsonl", titled(range(5))))
    report = run(store, write_table(tmp_path / "new.jsonl", titled("abc")), replace=True, limit=2)
    opened = mmfeat.open(store)
    assert (report.left, opened.ids, opened.prunable().since is None) == (5, ["a", "b"], False)
    assert len(opened.prune().items) == 5


def test_what_left_between_two_snapshots_is_in_their_difference(tmp_path):
    store, table = tmp_path / "store", tmp_path / "items.jsonl"
    run(store, write_table(table, titled(range(10))))
    mmfeat.open(store).create_snapshot("before")
    run(store, write_table(table, titled(range(9))))
    assert mmfeat.open(store).diff("before").gone == ["9"]


def test_add_and_replace_together_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="give one of them"):
        run(tmp_path / "store", write_table(tmp_path / "t.jsonl", titled("a")), add=True, replace=True)


def test_a_limit_is_no_way_for_another_table_to_take_over_an_item(tmp_path):
    store, table = tmp_path / "store", write_table(tmp_path / "items.jsonl", titled(range(8)))
    run(store, table)
    before = state(store)
    other = write_table(tmp_path / "own.jsonl", titled("3", of="other "))
    with pytest.raises(ConfigError, match=r"1 of its 1 items are in the store, 1 of these with other texts"):
        run(store, other, limit=1)
    # In the place of the table itself, or with the very same text, most items would be left out.
    for path, listing in [(table, titled("3", of="other ")), (other, titled("3"))]:
        write_table(path, listing)
        with pytest.raises(GateFailed, match="7 of 8 items leave the dataset"):
            run(store, path, limit=1)
        assert state(store) == before


def test_a_table_of_the_same_ids_and_other_texts_is_another_dataset(tmp_path):
    store = tmp_path / "store"
    run(store, write_table(tmp_path / "a" / "items.jsonl", titled(range(20))))
    before = state(store)
    half = {**titled(range(20)), **titled(range(10), of="other ")}
    for texts in (titled(range(20), of="other "), {**half, **titled(["11"], of="other ")}):
        with pytest.raises(ConfigError, match=r"20 of its 20 .* in the store, \d+ of these with other"):
            run(store, write_table(tmp_path / "b" / "items.jsonl", texts))
        assert state(store) == before
    assert run(store, write_table(tmp_path / "b" / "items.jsonl", half)).features[0].ok == 10
    # One text of an item is enough to know it by, and an id decides whatever the texts.
    retitled = {i: {**values, "title": "new"} for i, values in half.items()}
    assert run(store, write_table(tmp_path / "c.jsonl", retitled), dataset={"id": "shop"}).computed
    rewritten = write_table(tmp_path / "d.jsonl", titled(range(20), of="d "))
    assert run(store, rewritten, dataset={"id": "shop"}).features[0].ok == 20


def test_texts_that_are_others_than_before_are_told(tmp_path):
    store, table = tmp_path / "store", write_table(tmp_path / "items.jsonl", titled(range(20)))
    assert run(store, table).notices == []
    changed = {**titled(range(20)), **titled(range(16), of="other "), **titled(["new"])}
    report = run(store, write_table(table, changed))
    assert any(
        "16 of 20 known items have other texts than before" in said for said in report.to_dict()["notices"]
    )
    assert run(store, table).notices == []


def test_datasets_of_one_adapter_are_told_apart_by_their_roots(tmp_path):
    store = tmp_path / "store"
    one = write_table(tmp_path / "one.jsonl", titled("abc"))
    two = write_table(tmp_path / "two.jsonl", titled("xyz"))
    run(store, one)
    (notice,) = run(store, two, add=True).notices
    assert notice == f"the items of 'table' from {two} are put beside those of 'table' from {one}"


def test_a_refusal_says_how_a_dataset_comes_to_be_known_by_an_id(tmp_path):
    store = tmp_path / "store"
    lens = write_microlens(tmp_path / "lens", titled(range(20)), PAIRS)
    table = write_table(tmp_path / "t.jsonl", titled(range(20)))
    run(store, lens, "microlens")
    with pytest.raises(ConfigError) as refused:
        run(store, table, dataset={"id": "shop"})
    assert "run that once as it was, with id = 'shop', and then this one" in refused.value.hint
    # As it says:
    run(store, lens, "microlens", dataset={"id": "shop"})
    assert run(store, table, dataset={"id": "shop"}, max_lost=1).features[0].up_to_date == 20
    with pytest.raises(ConfigError) as refused:
        run(store, table, dataset={"id": "other"})
    assert "knows its datasets by an id ([dataset] id): 'shop'" in refused.value.hint

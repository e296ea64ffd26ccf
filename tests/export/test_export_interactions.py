"""Interactions in an export: k-core, splits by rule, counts of what was left out."""

import json

import numpy as np
import pytest
from helpers.echo import make_input
from helpers.interaction_rows import interactions_of
from hypothesis import given
from hypothesis import strategies as st

from mmfeat.export import Request, export
from mmfeat.export.interactions import TEST, TRAIN, VALID, SplitRule, build, k_core, split
from mmfeat.schemas.errors import UsageError


def table(*rows):
    """Rows of (user, item, time), and perhaps rating."""
    return interactions_of(rows)


def labels_of(rows, rule, seed=0):
    ids = list(dict.fromkeys(item for _, item, _ in rows))
    made = split(build(table(*rows), ids), SplitRule.parse(rule), seed)
    return {
        (made.user_ids[u], ids[i]): int(x)
        for u, i, x in zip(made.users, made.items, made.labels, strict=True)
    }


def test_the_core_is_found_by_iterating_over_users_and_items():
    # c is met once; without it v has one; without v, b has one; u-a and w-a remain, and no 2-core.
    rows = [("u", "a", 1), ("u", "b", 2), ("v", "b", 3), ("v", "c", 4), ("w", "a", 5)]
    assert len(k_core(table(*rows), 2)) == 0
    assert len(k_core(table(*rows), 1)) == 5
    square = [(u, i, 0) for u in "uv" for i in "ab"]
    assert k_core(table(*square, ("w", "a", 1)), 2).to_pylist() == table(*square).to_pylist()


@given(
    st.lists(st.tuples(st.sampled_from("uvwxy"), st.sampled_from("abcde"), st.just(0)), max_size=40),
    st.integers(1, 4),
)
def test_in_a_core_everyone_has_enough_and_what_had_enough_within_it_stays(rows, k):
    if not rows:
        return
    core = k_core(table(*rows), k).to_pylist()
    for name in ("user_id", "item_id"):
        counts = [sum(r[name] == v for r in core) for v in {r[name] for r in core}]
        assert all(c >= k for c in counts)
    assert k_core(table(*[tuple(r.values()) for r in core]), k).to_pylist() == core if core else True


def test_leave_one_out_takes_the_last_in_time_whatever_the_order_of_rows():
    rows = [("u", "late", 30), ("u", "first", 10), ("u", "middle", 20), ("v", "first", 1), ("v", "late", 2)]
    assert labels_of(rows, "leave-one-out") == {
        ("u", "first"): TRAIN,
        ("u", "middle"): VALID,
        ("u", "late"): TEST,
        ("v", "first"): TRAIN,
        ("v", "late"): TRAIN,
    }


def test_without_times_the_datasets_order_counts():
    rows = [("u", "c", None), ("u", "a", None), ("u", "b", None)]
    assert labels_of(rows, "leave-one-out") == {("u", "c"): TRAIN, ("u", "a"): VALID, ("u", "b"): TEST}


def test_a_ratio_holds_for_each_user_and_gives_each_part_one():
    rows = [("big", f"i{k}", k) for k in range(30)] + [("small", f"i{k}", k) for k in range(3)]
    labels = labels_of(rows, "ratio:0.8,0.1,0.1", seed=5)
    big = [x for (u, _), x in labels.items() if u == "big"]
    small = [x for (u, _), x in labels.items() if u == "small"]
    assert np.bincount(big).tolist() == [24, 3, 3]
    assert np.bincount(small).tolist() == [1, 1, 1]


def test_a_split_is_the_same_for_the_same_seed_and_another_for_another():
    rows = [("u", f"i{k}", k) for k in range(40)]
    assert labels_of(rows, "ratio", 1) == labels_of(rows, "ratio", 1)
    assert labels_of(rows, "ratio", 1) != labels_of(rows, "ratio", 2)


def test_points_in_time_cut_every_user_at_once():
    rows = [("u", "a", 999), ("u", "b", 1000), ("v", "c", 1999), ("v", "d", 2000)]
    made = split(build(table(*rows), list("abcd")), SplitRule("time", points=(1000, 2000)), 0)
    assert made.labels.tolist() == [TRAIN, VALID, VALID, TEST]
    assert SplitRule.parse("time:1970-01-01T00:00:01,1970-01-02").points == (1000, 86_400_000)


@pytest.mark.parametrize(
    "text", ["", "half", "ratio:1,2,3", "ratio:0.5,0.5", "time:2020-01-02,2020-01-01", "time:x,y"]
)
def test_a_rule_that_is_none_is_refused_with_the_rules_there_are(text):
    with pytest.raises(UsageError) as caught:
        SplitRule.parse(text)
    assert "leave-one-out" in caught.value.hint


def test_a_split_in_time_without_times_is_refused():
    with pytest.raises(UsageError, match="time of every interaction"):
        labels_of([("u", "a", None)], "time:2020-01-01,2020-02-01")


def test_interactions_whose_item_is_not_exported_are_counted(tmp_path):
    given_rows = table(("u", "a", 1), ("u", "b", 2), ("u", "gone", 3), ("v", "gone", 4))
    data = make_input("recbole", ["a", "b"], interactions=given_rows)
    report = export(data, Request("recbole", tmp_path / "out"))
    assert report.interactions["given"] == 4
    assert report.interactions["item_not_exported"] == 2
    assert report.interactions["written"] == 2
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["interactions"] == report.interactions


def test_a_split_of_nothing_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no interactions to split"):
        export(
            make_input("recbole", ["a"], interactions=None),
            Request("recbole", tmp_path / "a", split="leave-one-out"),
        )
    with pytest.raises(UsageError, match="splits by itself"):
        export(make_input("lc-rec", ["a"]), Request("lc-rec", tmp_path / "b", split="leave-one-out"))


def test_or_they_fail_the_export_by_name(tmp_path):
    data = make_input("recbole", ["a"], interactions=table(("u", "a", 1), ("u", "gone", 3)))
    with pytest.raises(UsageError, match=r"1 interactions .*'gone'"):
        export(data, Request("recbole", tmp_path / "out", unmatched="error"))
    assert not list(tmp_path.iterdir())


def test_the_core_decides_which_items_are_exported(tmp_path):
    rows = [(u, i, 0) for u in "uv" for i in "ab"] + [("w", "c", 1)]
    data = make_input("npy", ["c", "b", "a"], interactions=table(*rows))
    report = export(data, Request("npy", tmp_path / "out", k_core=2))
    assert json.loads((tmp_path / "out" / "ids.json").read_text()) == ["b", "a"]
    assert report.left_out == 1
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["selections"] == [{"items": "2-core", "kept": 2, "left_out": ["c"]}]
    assert manifest["interactions"]["outside_k_core"] == 1


def test_mmrec_gets_no_item_that_nobody_met(tmp_path):
    # It counts items by the largest itemID among the interactions, and would see one row too many.
    data = make_input("mmrec", ["cold", "a", "b"], interactions=table(("u", "b", 1), ("u", "a", 2)))
    report = export(data, Request("mmrec", tmp_path / "out"))
    assert (report.items, report.left_out) == (2, 1)
    assert len(np.load(tmp_path / "out" / "image_feat.npy")) == 2


def test_a_target_that_needs_interactions_says_so(tmp_path):
    with pytest.raises(UsageError, match="needs interactions"):
        export(make_input("mmrec", ["a"], interactions=None), Request("mmrec", tmp_path / "out"))


def test_lc_rec_gets_each_users_items_in_time_order(tmp_path):
    rows = table(("u", "b", 9), ("v", "a", 1), ("u", "a", 5), ("u", "c", 7))
    export(make_input("lc-rec", ["a", "b", "c"], interactions=rows), Request("lc-rec", tmp_path / "toys"))
    assert json.loads((tmp_path / "toys" / "toys.inter.json").read_text()) == {"0": [0, 2, 1], "1": [0]}
    assert (tmp_path / "toys" / "toys.user2id").read_text() == "u\t0\nv\t1\n"


@pytest.mark.parametrize("split", [None, "leave-one-out"])
def test_recbole_gets_the_order_as_its_time_where_times_are_not_known(tmp_path, split):
    rows = table(("u", "b", None), ("v", "a", None), ("u", "a", None), ("u", "c", None))
    data = make_input("recbole", ["a", "b", "c"], interactions=rows)
    export(data, Request("recbole", tmp_path / "toys", split=split))
    names = ["toys.inter"] if split is None else [f"toys.{part}.inter" for part in ("train", "valid", "test")]
    texts = [(tmp_path / "toys" / name).read_text().splitlines() for name in names]
    assert {lines[0] for lines in texts} == {"user_id:token\titem_id:token\ttimestamp:float"}
    written = sorted(line for lines in texts for line in lines[1:])
    assert written == ["u\ta\t1", "u\tb\t0", "u\tc\t2", "v\ta\t0"]
    assert '"inter": ["user_id", "item_id", "timestamp"]' in (tmp_path / "toys" / "toys.yaml").read_text()


def test_recbole_gets_the_split_as_its_benchmark_files(tmp_path):
    rows = table(("u", "a", 1), ("u", "b", 2), ("u", "c", 3))
    data = make_input("recbole", ["a", "b", "c"], interactions=rows)
    export(data, Request("recbole", tmp_path / "toys", split="leave-one-out"))
    assert (tmp_path / "toys" / "toys.test.inter").read_text() == (
        "user_id:token\titem_id:token\ttimestamp:float\nu\tc\t3\n"
    )
    assert 'benchmark_filename: ["train", "valid", "test"]' in (tmp_path / "toys" / "toys.yaml").read_text()
    assert not (tmp_path / "toys" / "toys.inter").exists()


RATED = table(("u", "a", 1, 4.5), ("v", "b", 1, 2.0), ("u", "b", 2, 3.0), ("u", "c", 3, 5.0))


@pytest.mark.parametrize(
    ("name", "file", "column"),
    [
        ("mmrec", "toys.inter", 2),
        ("recbole", "toys.inter", 3),
        ("cornac", "interactions.tsv", 2),
        ("elliot", "dataset.tsv", 2),
    ],
)
def test_ratings_go_to_their_own_interactions_where_the_target_has_a_place_for_them(
    tmp_path, name, file, column
):
    export(make_input(name, ["a", "b", "c"], interactions=RATED), Request(name, tmp_path / "toys"))
    lines = [line.split("\t") for line in (tmp_path / "toys" / file).read_text().splitlines()]
    found = [float(line[column]) for line in lines[-4:]]
    assert found == [4.5, 3.0, 5.0, 2.0]  # of the first user in time, then of the second
    assert json.loads((tmp_path / "toys" / "manifest.json").read_text())["interactions"]["rated"] == 4


def test_ratings_follow_their_interactions_into_the_parts_of_a_split(tmp_path):
    data = make_input("recbole", ["a", "b", "c"], interactions=RATED)
    export(data, Request("recbole", tmp_path / "toys", split="leave-one-out"))
    assert (tmp_path / "toys" / "toys.test.inter").read_text() == (
        "user_id:token\titem_id:token\ttimestamp:float\trating:float\nu\tc\t3\t5\n"
    )
    assert '["user_id", "item_id", "timestamp", "rating"]' in (tmp_path / "toys" / "toys.yaml").read_text()


def test_where_some_interactions_have_no_rating_none_is_written_and_the_manifest_counts_them(tmp_path):
    some = table(("u", "a", 1, 4.5), ("u", "b", 2, None))
    export(make_input("recbole", ["a", "b"], interactions=some), Request("recbole", tmp_path / "toys"))
    assert (
        (tmp_path / "toys" / "toys.inter")
        .read_text()
        .startswith("user_id:token\titem_id:token\ttimestamp:float\n")
    )
    counts = json.loads((tmp_path / "toys" / "manifest.json").read_text())["interactions"]
    assert (counts["rated"], counts["written"]) == (1, 2)


def test_where_some_interactions_have_no_time_the_manifest_counts_them_and_the_datasets_order_counts(
    tmp_path,
):
    some = table(("u", "a", 2), ("u", "b", None), ("u", "c", 1))
    report = export(
        make_input("lc-rec", ["a", "b", "c"], interactions=some), Request("lc-rec", tmp_path / "toys")
    )
    counts = report.interactions
    assert (counts["without_time"], counts["written"], counts["ordered_by"]) == (1, 3, "dataset")
    assert json.loads((tmp_path / "toys" / "toys.inter.json").read_text()) == {"0": [0, 1, 2]}


def test_a_core_that_leaves_nothing_is_told_from_ids_that_are_others(tmp_path):
    met = table(("u", "a", 1), ("u", "b", 2))
    data = make_input("lc-rec", ["a", "b"], interactions=met)
    with pytest.raises(UsageError, match="No interaction is left") as caught:
        export(data, Request("lc-rec", tmp_path / "toys", k_core=2))
    assert "--k-core" in caught.value.hint
    others = make_input("lc-rec", ["a", "b"], interactions=table(("u", "A", 1)))
    with pytest.raises(UsageError, match="No interaction is left") as caught:
        export(others, Request("lc-rec", tmp_path / "toys"))
    assert "same item ids" in caught.value.hint

"""Features of several inputs: what they share, what they wait for, and what changes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from plans import NO_FILE, catalog, duplicates_of, feature, ledger, payloads, plan, row_of, work_of

from mmfeat.pipelines.execution.batch import Decoding, decodings
from mmfeat.pipelines.planning.contents import joint_hash
from mmfeat.pipelines.planning.groups import groups_of
from mmfeat.schemas.spec import text_hash


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A cover and a clip of each of three items; no decoder looks into them."""
    made = {}
    for number, item_id in enumerate("abc"):
        for kind in ("jpg", "mp4"):
            made[f"{item_id}.{kind}"] = tmp_path / f"{item_id}.{kind}"
            made[f"{item_id}.{kind}"].write_bytes(f"{kind} {item_id}".encode() * (number + 1))
    return made


@pytest.fixture
def items(files: dict[str, Path]):
    return catalog(
        [
            {
                "item_id": i, "title": f"title {i}", "brand": "shared",
                "cover": str(files[f"{i}.jpg"]), "video": str(files[f"{i}.mp4"]),
            }
            for i in "abc"
        ]
    )  # fmt: skip


def statuses(made, number: int) -> dict[str, str]:
    return {k["item_id"]: k["status"] for k in made.known.to_pylist() if k["feature"] == number}


def waiting(made, number: int, ids: str = "abc") -> list[str]:
    return [ids[position] for position in made.deferred[number]]


# Which features are computed together ---------------------------------------------------------------------


def test_features_that_share_a_file_are_one_group_also_over_a_third_one():
    specs = [
        feature("x", "cover"), feature("v", "video"), feature("s", "video.sound"), feature("t", "title"),
        feature("b", "brand", "title"), feature("a", "audio"),
    ]  # fmt: skip
    assert groups_of(specs) == ["cover", "video", "video", "title", "brand+title", "audio"]
    both = [*specs, feature("xv", "video", "title", "cover")]
    assert groups_of(both) == ["cover+video"] * 3 + ["title", "brand+title", "audio", "cover+video"]


def test_what_reads_captions_of_two_files_joins_these_files_in_one_group():
    seen, heard = feature("seen", "cover", gives="text"), feature("heard", "video.sound", gives="text")
    assert groups_of([seen, heard]) == ["cover", "video"]
    assert groups_of([seen, heard, feature("item", "title", "seen", "heard")])[:2] == ["cover+video"] * 2


def test_one_work_item_decodes_a_file_once_for_all_features_and_preparations(items):
    specs = [
        feature("x", "cover"), feature("y", "cover", size=4), feature("xt", "title", "cover"),
        feature("v", "video"), feature("s", "video.sound"), feature("vs", "video", "video.sound"),
    ]  # fmt: skip
    made = plan(items, specs, [ledger()] * 6)
    assert work_of(made) == [(i, features) for i in "abc" for features in ((0, 1, 2), (3, 4, 5))]
    # Two sizes of a cover, the frames and the sound of a clip.
    assert len(decodings(specs)) == 4
    assert decodings(specs) == list(
        dict.fromkeys(Decoding.of(i) for s in specs for i in s.inputs if i.prepare)
    )


# One content of several inputs ----------------------------------------------------------------------------


def test_nothing_is_planned_where_every_input_is_that_of_the_row(items, files):
    spec = feature("item", "title", "cover", "video", "video.sound")
    rows = [row_of(i, f"title {i}", files[f"{i}.jpg"], files[f"{i}.mp4"], files[f"{i}.mp4"]) for i in "abc"]
    made = plan(items, [spec], [ledger(rows)])
    assert (len(made.work), made.planned(0), len(made.touched)) == (0, 0, 0)


@pytest.mark.parametrize("changed", ["title", "cover", "video"])
def test_a_change_of_one_input_recomputes_what_reads_it_and_nothing_else(items, files, changed):
    specs = [
        feature("t", "title"), feature("x", "cover"), feature("v", "video"),
        feature("tx", "title", "cover"), feature("xv", "cover", "video"), feature("tv", "title", "video"),
        feature("b", "brand"),
    ]  # fmt: skip
    given = {
        i: {"title": f"title {i}", "cover": files[f"{i}.jpg"], "video": files[f"{i}.mp4"]} for i in "abc"
    }
    ledgers = [
        ledger([row_of(i, *({"brand": "shared", **given[i]}[one] for one in spec.sources)) for i in "abc"])
        for spec in specs
    ]
    if changed == "title":
        items = items.set_column(1, "title", [["title a", "another", "title c"]])
    else:
        given["b"][changed].write_bytes(b"another content")
    made = plan(items, specs, ledgers)
    reading = {n for n, spec in enumerate(specs) if changed in spec.sources}
    assert {(i, n) for i, features in work_of(made) for n in features} == {("b", n) for n in reading}
    assert [made.planned(n) for n in range(7)] == [int(n in reading) for n in range(7)]


def test_items_share_a_value_where_all_inputs_are_equal(items, files):
    files["b.jpg"].write_bytes(files["a.jpg"].read_bytes())
    files["c.jpg"].write_bytes(files["a.jpg"].read_bytes())
    items = items.set_column(1, "title", [["one", "other", "one"]])
    specs = [feature("x", "cover"), feature("xt", "cover", "title"), feature("tx", "title", "cover")]
    made = plan(items, specs, [ledger()] * 3)
    assert work_of(made) == [("a", (0, 1, 2)), ("b", (1, 2))]
    assert duplicates_of(made) == [("b", (0,)), ("c", (0, 1, 2))]


def test_a_value_is_copied_from_a_row_of_the_same_content_whichever_of_its_files_is_looked_for(items, files):
    for kind in ("jpg", "mp4"):
        files[f"c.{kind}"].write_bytes(files[f"a.{kind}"].read_bytes())
    spec = feature("xv", "cover", "video")
    rows = [row_of(i, files[f"{i}.jpg"], files[f"{i}.mp4"]) for i in "ab"]
    made = plan(items, [spec], [ledger(rows)])
    assert [(c["item_id"], c["origin"]) for c in made.copies.to_pylist()] == [("c", "a")]
    assert made.copies["stamp"].to_pylist() == [row_of("c", files["c.jpg"], files["c.mp4"])["stamp"]]
    assert len(made.work) == 0


@pytest.mark.parametrize("touched", ["jpg", "mp4"])
def test_a_touched_file_among_several_is_recognised_and_remembered(items, files, touched):
    spec = feature("xv", "cover", "video", "video.sound")
    rows = ledger([row_of(i, files[f"{i}.jpg"], files[f"{i}.mp4"], files[f"{i}.mp4"]) for i in "abc"])
    os.utime(files[f"b.{touched}"], ns=(1, 1))
    made = plan(items, [spec], [rows])
    assert len(made.work) == 0
    assert [(r["item_id"], r["source"]) for r in made.touched.to_pylist()] == [
        ("b", {"jpg": "cover", "mp4": "video"}[touched])
    ]
    said: list[str] = []
    plan(items, [spec], [rows], made.touched.to_pylist(), report=said.append)
    assert said == []


# What an item may lack ------------------------------------------------------------------------------------


def test_an_item_without_an_input_is_missing_unless_the_input_is_optional(items):
    items = items.set_column(1, "title", [["title a", None, "title c"]])
    specs = [feature("must", "cover", "title"), feature("may", "cover", "title?")]
    made = plan(items, specs, [ledger()] * 2)
    assert statuses(made, 0) == {"b": "missing"}
    assert work_of(made) == [("a", (0, 1)), ("b", (1,)), ("c", (0, 1))]


def test_what_was_lacking_is_part_of_the_content(items, files):
    spec = feature("may", "title", "cover?")
    lacking = catalog([{"item_id": i, "title": "one"} for i in "ab"])
    row = row_of("a", "one", NO_FILE)
    assert row["content_hash"] == joint_hash(text_hash("one"), "0" * 64)
    made = plan(lacking, [spec], [ledger([row])])
    assert [(c["item_id"], c["origin"]) for c in made.copies.to_pylist()] == [("b", "a")]
    # A cover that comes, and one that goes, is another content.
    there = [{"item_id": i, "title": "one", "cover": str(files[f"{i}.jpg"])} for i in "ab"]
    assert work_of(plan(catalog(there), [spec], [ledger([row])])) == [("a", (0,)), ("b", (0,))]
    gone = plan(lacking, [spec], [ledger([row_of("a", "one", files["a.jpg"])])])
    assert work_of(gone) == [("a", (0,))]


def test_items_that_lack_the_same_thing_share_a_value(items):
    lacking = catalog([{"item_id": i, "title": "one"} for i in "abc"])
    made = plan(lacking, [feature("may", "title", "cover?")], [ledger()])
    assert work_of(made) == [("a", (0,))]
    assert duplicates_of(made) == [("b", (0,)), ("c", (0,))]


def test_what_was_missing_is_computed_when_the_text_is_there_though_the_optional_file_still_is_not():
    made = plan(
        catalog([{"item_id": "a", "title": "now"}]),
        [feature("may", "title", "cover?")],
        [ledger([{"item_id": "a", "status": "missing", "stamp": ""}])],
    )
    assert work_of(made) == [("a", (0,))]


def test_a_file_that_cannot_be_read_is_not_tried_again_until_it_changes(items, files):
    spec = feature("xt", "cover", "title")
    unreadable = {**row_of("a", files["a.jpg"], "t", status="failed"), "content_hash": None, "stage": "read"}
    done = [row_of(i, files[f"{i}.jpg"], f"title {i}") for i in "bc"]
    assert len(plan(items, [spec], [ledger([unreadable, *done])]).work) == 0
    files["a.jpg"].write_bytes(b"mended")
    assert work_of(plan(items, [spec], [ledger([unreadable, *done])])) == [("a", (0,))]


def test_a_clip_that_turned_out_to_be_mute_stays_settled(items, files):
    """Only decoding could tell: its row is ``missing`` and has the clip's content."""
    mute = [row_of(i, files[f"{i}.mp4"], status="missing") for i in "abc"]
    made = plan(items, [feature("s", "video.sound")], [ledger(mute)])
    assert (len(made.work), made.settled[0]) == (0, {"ok": 0, "missing": 3, "failed": 0})
    files["b.mp4"].write_bytes(b"with sound now")
    made = plan(items, [feature("s", "video.sound")], [ledger(mute)])
    assert work_of(made) == [("b", (0,))]


def test_of_a_list_the_first_value_is_read(files):
    photos = [str(files[f"{i}.jpg"]) for i in "abc"]
    items = catalog(
        [
            {"item_id": "a", "photos": photos},
            {"item_id": "b", "photos": photos[1:]},
            {"item_id": "c", "photos": []},
            {"item_id": "d", "photos": None},
            {"item_id": "e", "photos": [None, photos[0]]},
            {"item_id": "f", "photos": [photos[0], "/no/such/file"]},
        ]
    )
    made = plan(items, [feature("p", "photos")], [ledger()])
    assert payloads(made, "photos") == {"a": photos[0], "b": photos[1]}
    assert duplicates_of(made) == [("f", (0,))]
    assert statuses(made, 0) == dict.fromkeys("cde", "missing")
    reordered = catalog([{"item_id": "a", "photos": [photos[0], photos[2], photos[1]]}])
    assert len(plan(reordered, [feature("p", "photos")], [ledger([row_of("a", files["a.jpg"])])]).work) == 0


# Features that read features and columns ------------------------------------------------------------------

CAPTION = feature("caption", "cover", gives="text")
ITEM = feature("item", "title", "caption")


def captions(files, ids: str = "abc", **more: str) -> list[dict[str, str | None]]:
    return [row_of(i, files[f"{i}.jpg"], text=f"a {i}", **more) for i in ids]


def test_what_reads_a_caption_and_a_title_is_computed_in_the_work_item_that_makes_the_caption(items):
    made = plan(items, [CAPTION, ITEM], [ledger()] * 2)
    assert work_of(made) == [(i, (0, 1)) for i in "abc"]
    assert payloads(made, "title") == {i: f"title {i}" for i in "abc"}
    assert not payloads(made, "caption")


def test_committed_captions_travel_with_the_work_items_that_read_them(items, files):
    made = plan(items, [CAPTION, ITEM], [ledger(captions(files)), ledger()])
    assert work_of(made) == [(i, (1,)) for i in "abc"]
    assert payloads(made, "caption") == {i: f"a {i}" for i in "abc"}


def test_some_captions_are_committed_and_others_computed_beside_what_reads_them(items, files):
    made = plan(items, [CAPTION, ITEM], [ledger(captions(files, "ab")), ledger()])
    assert work_of(made) == [("a", (1,)), ("b", (1,)), ("c", (0, 1))]
    assert payloads(made, "caption") == {"a": "a a", "b": "a b"}


def test_what_reads_two_features_of_two_files_is_computed_in_their_one_work_item(items):
    heard = feature("heard", "video.sound", gives="text")
    made = plan(items, [CAPTION, heard, feature("item", "caption", "heard", "brand")], [ledger()] * 3)
    assert work_of(made) == [(i, (0, 1, 2)) for i in "abc"]


def test_a_value_that_is_computed_for_another_item_is_waited_for(items, files):
    files["b.jpg"].write_bytes(files["a.jpg"].read_bytes())
    made = plan(items, [CAPTION, ITEM], [ledger()] * 2)
    assert work_of(made) == [("a", (0, 1)), ("c", (0, 1))]
    assert duplicates_of(made) == [("b", (0,))]
    assert (waiting(made, 1), made.planned(1), made.replaced[1].to_pylist()) == (["b"], 2, [])
    done = [ledger(captions(files)), ledger([row_of(i, f"title {i}", f"a {i}") for i in "ac"])]
    second = plan(items, [CAPTION, ITEM], done, after=made)
    assert work_of(second) == [("b", (1,))]
    assert not any(map(len, second.deferred))


def test_what_reads_something_that_waits_waits_too(items, files):
    files["b.jpg"].write_bytes(files["a.jpg"].read_bytes())
    item = feature("item", "title", "caption", gives="text")
    made = plan(items, [CAPTION, item, feature("v", "item"), feature("w", "item", "brand")], [ledger()] * 4)
    assert [waiting(made, n) for n in range(4)] == [[], ["b"], ["b"], ["b"]]
    assert work_of(made) == [("a", (0, 1, 2, 3)), ("c", (0, 1, 2, 3))]


def test_texts_of_another_group_are_waited_for(items):
    about = feature("about", "description", gives="text")
    items = items.set_column(2, "description", [["d"] * 3])
    made = plan(items, [about, feature("item", "about", "cover")], [ledger()] * 2)
    assert work_of(made) == [("a", (0,))]
    assert waiting(made, 1) == ["a", "b", "c"]


def test_what_reads_features_alone_is_planned_beside_features_that_read_texts_alone(items):
    about = feature("about", "title", "brand", gives="text")
    short = feature("short", "about", "title", gives="text")
    made = plan(items, [about, short, feature("v", "short", "title")], [ledger()] * 3)
    # Each is in the group of what it reads, whose columns it need not read itself.
    while any(map(len, made.deferred)):
        rows = [
            ledger([row_of(i, f"title {i}", "shared", text=f"about {i}") for i in "abc"]),
            ledger([row_of(i, f"about {i}", f"title {i}", text=f"short {i}") for i in "abc"]),
            ledger(),
        ]
        made = plan(items, [about, short, feature("v", "short", "title")], rows, after=made)
    assert work_of(made) == [(i, (2,)) for i in "abc"]


def test_a_feature_is_missing_where_a_column_or_a_feature_that_it_must_have_is(items, files):
    items = items.set_column(1, "title", [[None, "title b", "title c"]])
    rows = [*captions(files, "ac"), {"item_id": "b", "status": "missing"}]
    cover = items.column_names.index("cover")
    items = items.set_column(cover, "cover", [[str(files["a.jpg"]), None, str(files["c.jpg"])]])
    made = plan(items, [CAPTION, ITEM], [ledger(rows), ledger()])
    assert statuses(made, 1) == {"a": "missing", "b": "missing"}
    assert work_of(made) == [("c", (1,))]


def test_a_failed_feature_fails_what_must_have_it_and_says_which_it_was(items, files):
    broken = [row_of(i, files[f"{i}.mp4"], status="failed", stage="encode") for i in "abc"]
    heard = feature("heard", "video.sound", gives="text")
    specs = [CAPTION, heard, feature("must", "caption", "heard"), feature("may", "caption", "heard?")]
    made = plan(items, specs, [ledger(captions(files)), ledger(broken), ledger(), ledger()])
    assert statuses(made, 2) == dict.fromkeys("abc", "failed")
    assert {(k["stage"], k["reason"]) for k in made.known.to_pylist()} == {
        ("upstream", "heard failed for this item")
    }
    assert work_of(made) == [(i, (3,)) for i in "abc"]
    done = [row_of(i, f"a {i}", None) for i in "abc"]
    failed = [{"item_id": i, "status": "failed", "stage": "upstream"} for i in "abc"]
    ledgers = [ledger(captions(files)), ledger(broken), ledger(failed), ledger(done)]
    again = plan(items, specs, ledgers)
    assert [again.planned(n) for n in range(4)] == [0] * 4


def test_what_failed_upstream_is_computed_when_that_is_mended_though_its_own_files_are_the_same(items, files):
    spec = feature("item", "cover", "caption")
    failed = {"status": "failed", "stage": "upstream"}
    rows = [{"item_id": i, **failed, "stamp": row_of(i, files[f"{i}.jpg"])["stamp"]} for i in "abc"]
    made = plan(items, [CAPTION, spec], [ledger(captions(files)), ledger(rows)])
    assert work_of(made) == [(i, (1,)) for i in "abc"]


def test_a_failure_is_not_passed_on_before_it_is_clear_that_nothing_is_missing(items, files):
    heard = feature("heard", "video.sound", gives="text")
    broken = [row_of(i, files[f"{i}.jpg"], status="failed", stage="encode") for i in "abc"]
    specs = [CAPTION, heard, feature("item", "caption", "heard")]
    made = plan(items, specs, [ledger(broken), ledger(), ledger()])
    assert waiting(made, 2) == ["a", "b", "c"]
    mute = [row_of(i, files[f"{i}.mp4"], status="missing") for i in "abc"]
    second = plan(items, specs, [ledger(broken), ledger(mute), ledger()], after=made)
    assert statuses(second, 2) == dict.fromkeys("abc", "missing")


@pytest.mark.parametrize("blank", ["", " \n"])
def test_a_blank_text_of_a_feature_counts_as_none_for_all_that_reads_it(items, files, blank):
    rows = [{**row, "text": blank} for row in captions(files)]
    asks = feature("asks", "title", gives="text", prompt=["caption"])
    reads = feature("reads", "title", "caption")
    made = plan(items, [CAPTION, asks, reads], [ledger(rows), ledger(), ledger()])
    assert statuses(made, 1) == statuses(made, 2) == dict.fromkeys("abc", "missing")
    assert not work_of(made)


def test_a_touched_file_that_only_a_reader_of_features_reads_is_recognised(items, files):
    about = feature("about", "title", gives="text")
    spec = feature("item", "about", "cover")
    abouts = ledger([row_of(i, f"title {i}", text=f"about {i}") for i in "abc"])
    rows = ledger([row_of(i, f"about {i}", files[f"{i}.jpg"]) for i in "abc"])
    os.utime(files["b.jpg"], ns=(1, 1))
    made = plan(items, [about, spec], [abouts, rows])
    assert (made.planned(1), made.touched["item_id"].to_pylist()) == (0, ["b"])


def test_equal_files_that_only_a_reader_of_features_reads_are_one_content(items, files):
    files["b.jpg"].write_bytes(files["a.jpg"].read_bytes())
    about = feature("about", "brand", gives="text")
    abouts = ledger([row_of(i, "shared", text="the same") for i in "abc"])
    made = plan(items, [about, feature("item", "about", "cover")], [abouts, ledger()])
    assert work_of(made) == [("a", (1,)), ("c", (1,))]
    assert duplicates_of(made) == [("b", (1,))]


def test_a_retry_of_what_failed_is_made_once_in_a_run_of_several_plans(items, files):
    files["b.jpg"].write_bytes(files["a.jpg"].read_bytes())
    broken = ledger([row_of(i, files[f"{i}.jpg"], status="failed", stage="encode") for i in "abc"])
    upstream = ledger([{"item_id": i, "status": "failed", "stage": "upstream"} for i in "abc"])
    made = plan(items, [CAPTION, ITEM], [broken, upstream], retry_failed=True)
    assert work_of(made) == [("a", (0, 1)), ("c", (0, 1))]
    assert waiting(made, 1) == ["b"]
    # They failed again.
    second = plan(items, [CAPTION, ITEM], [broken, upstream], retry_failed=True, after=made)
    assert [second.planned(n) for n in range(2)] == [0, 0]
    assert not any(map(len, second.deferred))
    # They did not: what waited is tried, though its row is that of a failure.
    second = plan(items, [CAPTION, ITEM], [ledger(captions(files)), upstream], retry_failed=True, after=made)
    assert ("b", (1,)) in work_of(second)

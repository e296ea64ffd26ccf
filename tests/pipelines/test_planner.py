"""The plan names exactly what lacks a committed row for its present content."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from plans import catalog, duplicates_of, feature, ledger, payloads, plan, row_of, work_of

from mmfeat.extract.media.read import read_media, stamp_of
from mmfeat.pipelines.planning.contents import joint_hash
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.spec import FeatureSpec, text_hash


def vector(name: str, source: str) -> FeatureSpec:
    return feature(name, source)


def caption(name: str = "caption") -> FeatureSpec:
    return feature(name, "cover", gives="text")


@pytest.fixture
def covers(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{name}.jpg" for name in "abc"]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * (100 + number))
    return paths


@pytest.fixture
def items(covers: list[Path]) -> pa.Table:
    return catalog([{"item_id": p.stem, "cover": str(p), "title": f"title {p.stem}"} for p in covers])


def test_a_first_run_plans_every_item_once_for_all_features_of_a_source(items):
    made = plan(items, [vector("x", "cover"), vector("y", "cover"), vector("t", "title")], [ledger()] * 3)
    assert work_of(made) == [
        ("a", (0, 1)), ("a", (2,)), ("b", (0, 1)), ("b", (2,)), ("c", (0, 1)), ("c", (2,))
    ]  # fmt: skip
    assert [made.planned(n) for n in range(3)] == [3, 3, 3]


def test_nothing_is_planned_when_every_content_has_its_row(items, covers):
    rows = ledger([row_of(p.stem, p) for p in covers])
    texts = ledger([{"item_id": c, "status": "ok", "content_hash": text_hash(f"title {c}")} for c in "abc"])
    made = plan(items, [vector("x", "cover"), vector("t", "title")], [rows, texts])
    assert len(made.work) == 0
    assert [made.planned(0), made.planned(1)] == [0, 0]
    assert made.settled[0] == {"ok": 3, "missing": 0, "failed": 0}


def test_a_changed_cover_is_the_only_one_planned_and_its_row_is_replaced(items, covers):
    rows = ledger([row_of(p.stem, p) for p in covers])
    covers[1].write_bytes(b"another picture")
    made = plan(items, [vector("x", "cover")], [rows])
    assert work_of(made) == [("b", (0,))]
    assert made.replaced[0].to_pylist() == ["b"]
    assert (made.valued[0].to_pylist(), made.of_other_content(0)) == (["b"], 1)


def test_a_touched_file_with_the_same_bytes_is_not_computed_again(items, covers):
    rows = ledger([row_of(p.stem, p) for p in covers])
    os.utime(covers[2], ns=(1, 1))
    made = plan(items, [vector("x", "cover")], [rows])
    assert (len(made.work), made.of_other_content(0)) == (0, 0)
    assert [(r["item_id"], r["stamp"]) for r in made.touched.to_pylist()] == [("c", stamp_of(str(covers[2])))]


def test_what_was_found_untouched_is_not_read_again_on_the_next_run(items, covers):
    rows = ledger([row_of(p.stem, p) for p in covers])
    os.utime(covers[2], ns=(1, 1))
    touched = plan(items, [vector("x", "cover")], [rows]).touched.to_pylist()
    said: list[str] = []
    plan(items, [vector("x", "cover")], [rows], touched, report=said.append)
    assert said == []


def test_a_changed_title_leaves_the_cover_features_alone(items, covers):
    rows = ledger([row_of(p.stem, p) for p in covers])
    texts = ledger([{"item_id": c, "status": "ok", "content_hash": text_hash("old")} for c in "abc"])
    made = plan(items, [vector("x", "cover"), vector("t", "title")], [rows, texts])
    assert work_of(made) == [("a", (1,)), ("b", (1,)), ("c", (1,))]


def test_equal_files_cost_one_computation(items, covers):
    covers[2].write_bytes(covers[0].read_bytes())
    made = plan(items, [vector("x", "cover")], [ledger()])
    assert work_of(made) == [("a", (0,)), ("b", (0,))]
    assert duplicates_of(made) == [("c", (0,))]
    assert made.planned(0) == 3


def test_content_that_another_item_has_in_the_store_is_copied(items, covers):
    covers[2].write_bytes(covers[0].read_bytes())
    rows = ledger([row_of("a", covers[0]), row_of("b", covers[1])])
    made = plan(items, [vector("x", "cover")], [rows])
    assert len(made.work) == 0
    assert [(c["item_id"], c["origin"]) for c in made.copies.to_pylist()] == [("c", "a")]


def test_content_is_copied_from_an_item_that_the_dataset_no_longer_names(items, covers):
    rows = ledger([row_of("a", covers[0]), row_of("b", covers[1])])
    renamed = items.slice(0, 1).set_column(0, CATALOG_SCHEMA.field(0), pa.array(["new"]))
    made = plan(renamed, [vector("x", "cover")], [rows])
    assert [(c["item_id"], c["origin"]) for c in made.copies.to_pylist()] == [("new", "a")]
    assert (len(made.work), made.rows) == (0, [2])


def test_an_item_without_the_source_is_missing_and_needs_no_model(covers):
    made = plan(
        catalog([{"item_id": "a"}, {"item_id": "b", "title": "x"}]), [vector("t", "title")], [ledger()]
    )
    assert [(k["item_id"], k["status"]) for k in made.known.to_pylist()] == [("a", "missing")]
    assert work_of(made) == [("b", (0,))]


def test_a_missing_item_that_got_its_source_is_computed(items, covers):
    rows = ledger([row_of("a", covers[0]), row_of("b", covers[1]), {"item_id": "c", "status": "missing"}])
    made = plan(items, [vector("x", "cover")], [rows])
    assert work_of(made) == [("c", (0,))]
    assert made.replaced[0].to_pylist() == ["c"]


def test_failed_rows_wait_for_new_content_or_for_a_retry(items, covers):
    rows = ledger([row_of("a", covers[0]), row_of("b", covers[1]), row_of("c", covers[2], status="failed")])
    assert len(plan(items, [vector("x", "cover")], [rows]).work) == 0
    assert work_of(plan(items, [vector("x", "cover")], [rows], retry_failed=True)) == [("c", (0,))]
    covers[2].write_bytes(b"mended")
    assert work_of(plan(items, [vector("x", "cover")], [rows])) == [("c", (0,))]


def test_a_caption_and_what_reads_it_are_one_unit(items):
    made = plan(items, [caption(), vector("ct", "caption")], [ledger(), ledger()])
    assert work_of(made) == [("a", (0, 1)), ("b", (0, 1)), ("c", (0, 1))]


def test_only_the_reader_is_planned_where_captions_are_there(items, covers):
    rows = ledger([row_of(p.stem, p, text=f"a {p.stem}") for p in covers])
    made = plan(items, [caption(), vector("ct", "caption")], [rows, ledger()])
    assert work_of(made) == [("a", (1,)), ("b", (1,)), ("c", (1,))]
    assert payloads(made, "caption") == {"a": "a a", "b": "a b", "c": "a c"}


def test_a_reader_inherits_missing_and_failed(items, covers):
    rows = ledger(
        [
            row_of("a", covers[0], text="x"),
            {"item_id": "b", "status": "missing"},
            row_of("c", covers[2], status="failed"),
        ]
    )
    pictures = items.set_column(3, "cover", pa.array([str(covers[0]), None, str(covers[2])]))
    made = plan(pictures, [caption(), vector("ct", "caption")], [rows, ledger()])
    assert sorted((k["item_id"], k["status"]) for k in made.known.to_pylist()) == [
        ("b", "missing"),
        ("c", "failed"),
    ]
    assert work_of(made) == [("a", (1,))]


def test_equal_captions_are_encoded_once(items, covers):
    rows = ledger([row_of(p.stem, p, text="the same") for p in covers])
    made = plan(items, [caption(), vector("ct", "caption")], [rows, ledger()])
    assert work_of(made) == [("a", (1,))]
    assert duplicates_of(made) == [("b", (1,)), ("c", (1,))]


def test_clips_come_first_and_texts_go_by_length(tmp_path, covers):
    clip = tmp_path / "c.mp4"
    clip.write_bytes(b"clip")
    rows = [
        {"item_id": "a", "title": "long " * 9, "cover": str(covers[0])},
        {"item_id": "b", "title": "short", "cover": str(covers[1])},
        {"item_id": "c", "video": str(clip)},
    ]
    specs = [vector("t", "title"), vector("x", "cover"), vector("v", "video")]
    made = plan(catalog(rows), specs, [ledger()] * 3)
    order = [(row["item_id"], row["group"]) for row in made.work.to_pylist()]
    assert order == [("c", "video"), ("a", "cover"), ("b", "cover"), ("b", "title"), ("a", "title")]


# Features that read the item's texts beside its media ---------------------------------------------------


def titled(name: str = "caption") -> FeatureSpec:
    return feature(name, "cover", gives="text", prompt=["title"])


def captioned(item_id: str, *read: Path | str, **more: str) -> dict[str, str | None]:
    return row_of(item_id, *read, text="said", **more)


def test_a_work_item_carries_the_texts_that_its_prompts_read_and_no_others(items):
    made = plan(items, [vector("x", "cover"), titled()], [ledger(), ledger()])
    assert work_of(made) == [("a", (0, 1)), ("b", (0, 1)), ("c", (0, 1))]
    assert payloads(made, "title") == {"a": "title a", "b": "title b", "c": "title c"}
    assert "payload.description" not in made.work.column_names
    plain = plan(items, [vector("x", "cover"), caption()], [ledger(), ledger()])
    assert "payload.title" not in plain.work.column_names


def test_nothing_is_planned_when_media_and_texts_are_those_of_the_row(items, covers):
    rows = ledger([captioned(p.stem, p, f"title {p.stem}") for p in covers])
    made = plan(items, [titled()], [rows])
    assert len(made.work) == 0
    assert made.settled[0] == {"ok": 3, "missing": 0, "failed": 0}


def test_a_changed_title_plans_what_reads_it_and_nothing_else(items, covers):
    rows = [captioned(p.stem, p, f"title {p.stem}") for p in covers]
    rows[1] = captioned("b", covers[1], "an older title")
    pictures = ledger([row_of(p.stem, p) for p in covers])
    captions = ledger([row_of(p.stem, p, text="plain") for p in covers])
    specs = [vector("x", "cover"), caption("plain"), titled(), vector("ct", "caption")]
    made = plan(items, specs, [pictures, captions, ledger(rows), ledger()])
    computed = {(row["item_id"], tuple(row["features"])) for row in made.work.to_pylist()}
    assert ("b", (2, 3)) in computed
    assert {features for item_id, features in computed if item_id != "b"} == {(3,)}
    assert made.replaced[2].to_pylist() == ["b"]


def test_a_touched_file_is_recognised_for_what_reads_texts_too(items, covers):
    rows = ledger([captioned(p.stem, p, f"title {p.stem}") for p in covers])
    os.utime(covers[2], ns=(1, 1))
    made = plan(items, [titled()], [rows])
    assert len(made.work) == 0
    assert [(r["item_id"], r["content_hash"]) for r in made.touched.to_pylist()] == [
        ("c", read_media(str(covers[2]), 1 << 20).content_hash)
    ]


def test_equal_covers_share_what_reads_the_cover_and_captions_only_with_equal_titles(covers):
    for path in covers[1:]:
        path.write_bytes(covers[0].read_bytes())
    titles = {"a": "same", "b": "other", "c": "same"}
    items = catalog([{"item_id": p.stem, "cover": str(p), "title": titles[p.stem]} for p in covers])
    made = plan(items, [vector("x", "cover"), titled()], [ledger(), ledger()])
    assert work_of(made) == [("a", (0, 1)), ("b", (1,))]
    assert duplicates_of(made) == [("b", (0,)), ("c", (0, 1))]


def test_what_reads_a_caption_follows_it_to_the_items_that_share_it(covers):
    for path in covers[1:]:
        path.write_bytes(covers[0].read_bytes())
    titles = {"a": "same", "b": "other", "c": "same"}
    items = catalog([{"item_id": p.stem, "cover": str(p), "title": titles[p.stem]} for p in covers])
    made = plan(items, [titled(), vector("ct", "caption")], [ledger(), ledger()])
    assert work_of(made) == [("a", (0, 1)), ("b", (0, 1))]
    assert duplicates_of(made) == [("c", (0, 1))]


def test_a_caption_is_copied_only_from_an_item_of_the_same_cover_and_title(covers):
    for path in covers[1:]:
        path.write_bytes(covers[0].read_bytes())
    titles = {"a": "same", "b": "other", "c": "same"}
    items = catalog([{"item_id": p.stem, "cover": str(p), "title": titles[p.stem]} for p in covers])
    made = plan(items, [titled()], [ledger([captioned("a", covers[0], "same")])])
    assert [(c["item_id"], c["origin"]) for c in made.copies.to_pylist()] == [("c", "a")]
    assert work_of(made) == [("b", (0,))]


@pytest.mark.parametrize("title", [None, "", " \n"])
def test_an_item_without_the_text_that_a_prompt_reads_is_missing(covers, title):
    items = catalog([{"item_id": "a", "cover": str(covers[0]), "title": title}])
    made = plan(items, [vector("x", "cover"), titled()], [ledger(), ledger()])
    assert work_of(made) == [("a", (0,))]
    assert [(k["feature"], k["item_id"], k["status"]) for k in made.known.to_pylist()] == [
        (1, "a", "missing")
    ]
    later = plan(items, [titled()], [ledger([{"item_id": "a", "status": "missing"}])])
    assert (len(later.known), later.settled[0]["missing"]) == (0, 1)


def test_a_failed_caption_waits_for_another_cover_or_another_title(items, covers):
    def again(*titles: str) -> list[tuple[str, tuple[int, ...]]]:
        rows = [captioned(p.stem, p, t, status="failed") for p, t in zip(covers, titles, strict=True)]
        return work_of(plan(items, [titled()], [ledger(rows)]))

    assert again("title a", "title b", "title c") == []
    assert again("title a", "title b", "an older title") == [("c", (0,))]


def test_a_prompt_of_two_texts_depends_on_both(covers):
    spec = feature("captions", "cover", gives="text", prompt=["description", "title"])
    items = catalog([{"item_id": "a", "cover": str(covers[0]), "title": "t", "description": "d"}])
    assert len(plan(items, [spec], [ledger([captioned("a", covers[0], "d", "t")])]).work) == 0
    for texts in (("d", "u"), ("e", "t"), ("t", "d")):
        assert len(plan(items, [spec], [ledger([captioned("a", covers[0], *texts)])]).work) == 1
    lacking = catalog([{"item_id": "a", "cover": str(covers[0]), "title": "t"}])
    assert plan(lacking, [spec], [ledger()]).known["status"].to_pylist() == ["missing"]


def many_items(n: int) -> tuple[pa.Table, list[str], list[str]]:
    """A catalog of items with a title and a cover's URL; their ids, which are the titles too; the URLs."""
    ids = [str(i) for i in range(n)]
    urls = [f"https://example.org/{i}.jpg" for i in ids]
    given = {"item_id": ids, "title": ids, "cover": urls}
    columns = {name: pa.array(given.get(name, [None] * n), pa.string()) for name in CATALOG_SCHEMA.names}
    return pa.table(columns), ids, urls


def many_rows(ids: list[str], hashes: list[str], stamps: list[str], **more: list[str]) -> pa.Table:
    """A ledger of rows that are all there."""
    n = len(ids)
    rows = {"item_id": ids, "status": ["ok"] * n, "content_hash": hashes, "stamp": stamps, **more}
    return pa.table(rows | {name: pa.nulls(n, pa.string()) for name in ("rules", "stage")})


def test_of_a_hundred_thousand_items_with_nothing_new_none_is_planned():
    n = 100_000
    items, ids, urls = many_items(n)
    hashes = [f"{i:064x}" for i in range(n)]
    stamps = [f"location:{url}" for url in urls]
    covers = many_rows(ids, hashes, stamps)
    joint = [joint_hash(h, text_hash(i)) for h, i in zip(hashes, ids, strict=True)]
    captions = many_rows(ids, joint, stamps, text=ids)
    made = plan(items, [vector("x", "cover"), titled()], [covers, captions])
    assert len(made.work) == 0


@pytest.mark.parametrize("committed", [True, False], ids=["nothing new", "everything new"])
def test_planning_makes_no_python_object_per_item(committed):
    n = 20_000
    items, ids, urls = many_items(n)
    covers, titles = ledger(), ledger()
    if committed:
        covers = many_rows(ids, [f"{i:064x}" for i in range(n)], [f"location:{url}" for url in urls])
        titles = many_rows(ids, list(map(text_hash, ids)), [""] * n)
    tracemalloc.start()
    made = plan(items, [vector("x", "cover"), vector("t", "title")], [covers, titles])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(made.work) == (0 if committed else 2 * n)
    # Measured: 296 with nothing new and 264 with everything new. A string for each item alone would be 50
    # more, and a dictionary or an object of its own 100 to 1,000.
    assert peak / n < 340


@pytest.mark.parametrize("seed", range(20))
def test_every_item_is_settled_known_copied_or_computed_exactly_once(tmp_path, seed):
    rng = np.random.default_rng(seed)
    rows, pictures, captions = [], [], []
    for number in range(12):
        item = {"item_id": str(number)}
        if rng.random() < 0.7:
            item["title"] = str(rng.choice(["one", "two", " "]))
        if rng.random() < 0.8:
            path = tmp_path / f"{number}.jpg"
            path.write_bytes(bytes([int(rng.integers(3))]) * int(rng.integers(1, 3)))
            item["cover"] = str(path)
            status = str(rng.choice(["ok", "failed"]))
            if rng.random() < 0.4:
                pictures.append(row_of(str(number), path, status=status))
            if rng.random() < 0.4:
                captions.append(captioned(str(number), path, str(rng.choice(["one", "two"])), status=status))
            if rng.random() < 0.3:
                path.write_bytes(b"changed" * int(rng.integers(1, 3)))
        rows.append(item)
    specs = [vector("x", "cover"), titled(), vector("ct", "caption")]
    made = plan(catalog(rows), specs, [ledger(pictures), ledger(captions), ledger()])
    for n in range(3):
        computed = made.work["item_id"].filter(pa.array(made.own[n])).to_pylist()
        duplicates = [item_id for item_id, features in duplicates_of(made) if n in features]
        known = [k["item_id"] for k in made.known.to_pylist() if k["feature"] == n]
        copied = [c["item_id"] for c in made.copies.to_pylist() if c["feature"] == n]
        settled = [*computed, *duplicates, *known, *copied]
        assert len(settled) == len(set(settled)) == made.planned(n)
        assert made.planned(n) + made.up_to_date(n) == 12

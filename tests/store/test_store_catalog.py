from __future__ import annotations

from pathlib import Path

import lance
import pyarrow as pa
import pytest
from helpers.interaction_rows import interactions_of

from mmfeat.datasets.base import build_items
from mmfeat.schemas.catalog import CATALOG_SCHEMA, STAMPS_SCHEMA, Column, columns_of
from mmfeat.schemas.errors import DatasetError
from mmfeat.store import Store


def items(**titles: str) -> pa.Table:
    return pa.Table.from_pylist(
        [{"item_id": i, "title": t} for i, t in titles.items()], schema=CATALOG_SCHEMA
    )


def lance_version(store: Store, table: str) -> int:
    return lance.dataset(str(Path(store.uri, f"{table}.lance"))).version


def column_names(store: Store) -> list[str]:
    """Those of the interactions as they are written."""
    return lance.dataset(str(Path(store.uri, "_interactions.lance"))).schema.names


def test_a_new_store_has_no_items_interactions_stamps_or_runs(store: Store) -> None:
    assert store.catalog().equals(CATALOG_SCHEMA.empty_table())
    assert store.stamps().equals(STAMPS_SCHEMA.empty_table())
    assert (store.interactions(), store.runs(), store.dataset()) == (None, [], None)


def test_the_catalog_keeps_places_takes_new_values_and_shrinks_nothing(store: Store) -> None:
    store.put_catalog(items(b="B", a="A", c="C"), {"name": "first"})
    store.put_catalog(items(d="D", a="A2"), {"name": "second"})
    found = Store.open(store.uri)
    assert found.catalog().equals(items(b="B", a="A2", c="C", d="D"))
    assert found.catalog().schema.metadata is None
    assert columns_of(found.catalog().schema) == columns_of(CATALOG_SCHEMA)
    assert found.dataset() == {"name": "second"}


def test_a_catalog_that_is_up_to_date_is_not_written_again(store: Store) -> None:
    store.put_catalog(items(b="B", a="A"), {"name": "n", "root": None})
    before = lance_version(store, "_items")
    store.put_catalog(items(b="B", a="A"), {"name": "n", "root": None})
    store.put_catalog(items(a="A"), {"name": "n", "root": None})
    assert lance_version(store, "_items") == before
    store.put_catalog(items(a="A"), {"name": "n", "root": "/moved"})
    assert store.dataset() == {"name": "n", "root": "/moved"}
    assert store.catalog().equals(items(b="B", a="A"))


def test_one_new_title_in_a_long_catalog_is_noticed(store: Store) -> None:
    # More than are compared at a time.
    titles = {f"item-{number}": f"title {number}" for number in range(40_000)}
    store.put_catalog(items(**titles), {})
    before = lance_version(store, "_items")
    store.put_catalog(items(**titles), {})
    assert lance_version(store, "_items") == before
    changed = items(**titles | {"item-33333": "another"})
    store.put_catalog(changed, {})
    assert Store.open(store.uri).catalog().equals(changed)


def test_repeated_item_ids_and_foreign_columns_are_refused(store: Store) -> None:
    twice = pa.concat_tables([items(a="A", b="B"), items(a="A")])
    with pytest.raises(DatasetError, match="1 item ids come more than once in the dataset: 'a'"):
        store.put_catalog(twice, {})
    with pytest.raises(DatasetError, match="columns"):
        store.put_catalog(items(a="A").drop_columns(["title"]), {})
    assert store.catalog().num_rows == 0


def test_interactions_are_replaced_whole(store: Store) -> None:
    first = interactions_of([("u", "a", 1), ("u", "b", None)])
    store.put_interactions(first)
    before = lance_version(store, "_interactions")
    store.put_interactions(first)
    assert lance_version(store, "_interactions") == before
    assert Store.open(store.uri).interactions() == first
    store.put_interactions(first.slice(1))
    assert store.interactions() == first.slice(1)
    store.put_interactions(None)
    assert store.interactions() is None


def test_ratings_and_events_come_back_and_go_again(store: Store) -> None:
    plain = interactions_of([("u", "a", 1), ("u", "b", None)])
    rated = interactions_of([("u", "a", 1, 4.5, "buy"), ("u", "b", None)])
    store.put_interactions(rated)
    assert Store.open(store.uri).interactions() == rated
    store.put_interactions(plain)
    assert Store.open(store.uri).interactions() == plain


def test_interactions_without_ratings_are_written_as_before_there_were_any(store: Store) -> None:
    old = interactions_of([("u", "a", 1), ("u", "b", None)])
    three = old.select(["user_id", "item_id", "timestamp"])
    store.put_interactions(three)
    assert column_names(store) == three.column_names
    before = lance_version(store, "_interactions")
    store.put_interactions(old)
    assert lance_version(store, "_interactions") == before


def test_of_two_datasets_one_may_have_ratings(store: Store) -> None:
    places = []
    for name, ids, rows in (
        ("one", "ab", [("u", "a", 1)]),
        ("two", "cd", [("u", "c", 2, 3.0, "view")]),
    ):
        said = {"name": name, "root": f"/{name}"}
        catalog = items(**dict.fromkeys(ids, "T"))
        place = store.place_of(catalog, said, add=bool(places), replace=False)
        store.put_catalog(catalog, said, place)
        store.put_interactions(interactions_of(rows), place)
        places.append(place)
    assert store.interactions() == interactions_of([("u", "a", 1), ("u", "c", 2, 3.0, "view")])
    before = lance_version(store, "_interactions")
    store.put_interactions(interactions_of([("u", "c", 2, 3.0, "view")]), places[1])
    assert lance_version(store, "_interactions") == before
    store.put_interactions(interactions_of([("u", "c", 2)]), places[1])
    assert "rating" not in column_names(store)
    assert store.interactions() == interactions_of([("u", "a", 1), ("u", "c", 2)])


def test_a_stamp_takes_the_place_of_the_one_before(store: Store) -> None:
    def stamps(*rows: tuple[str, str, str]) -> pa.Table:
        names = ("item_id", "source", "stamp")
        return pa.Table.from_pylist(
            [dict(zip(names, row, strict=True)) | {"content_hash": "h"} for row in rows], schema=STAMPS_SCHEMA
        )

    store.put_stamps(stamps(("a", "cover", "1"), ("a", "video", "1"), ("b", "cover", "1")))
    store.put_stamps(stamps(("a", "cover", "2"), ("c", "cover", "1")))
    found = {(r["item_id"], r["source"]): r["stamp"] for r in Store.open(store.uri).stamps().to_pylist()}
    assert found == {("a", "cover"): "2", ("a", "video"): "1", ("b", "cover"): "1", ("c", "cover"): "1"}
    assert store.stamps().num_rows == 4


def test_run_records_come_back_in_order_and_their_files_stay_few(store: Store) -> None:
    for k in range(70):
        store.record_run({"run_id": f"r{k}", "report": None, "who": "Zoë"})
    runs = Store.open(store.uri).runs()
    assert [r["run_id"] for r in runs] == [f"r{k}" for k in range(70)]
    assert runs[0] == {"run_id": "r0", "report": None, "who": "Zoë"}
    assert len(lance.dataset(str(Path(store.uri, "_runs.lance"))).get_fragments()) < 20


PHOTOS = Column("photos", "image", several=True)
BRAND = Column("brand", "text")


def test_a_catalog_has_any_columns_and_says_what_they_are(store: Store) -> None:
    values = {"title": {"a": "A"}, "photos": {"a": ["/1.jpg", "/2.jpg"]}, "brand": {"b": "B"}}
    given = build_items("ab", values, [PHOTOS, BRAND])
    store.put_catalog(given, {})
    found = Store.open(store.uri).catalog()
    assert found.equals(given, check_metadata=True)
    assert list(columns_of(found.schema).values())[-2:] == [PHOTOS, BRAND]
    before = lance_version(store, "_items")
    store.put_catalog(given, {})
    assert lance_version(store, "_items") == before


PRICE = Column("price", "number")


def test_numbers_come_back_as_they_were_and_are_not_written_again(store: Store) -> None:
    prices = {"a": 12, "b": 0.1, "c": float("nan"), "d": 1e300}
    store.put_catalog(build_items("abcd", {"price": prices}, [PRICE]), {})
    before = lance_version(store, "_items")
    store.put_catalog(build_items("abcd", {"price": prices}, [PRICE]), {})
    found = Store.open(store.uri).catalog()
    assert (columns_of(found.schema)["price"], lance_version(store, "_items")) == (PRICE, before)
    assert found["price"].to_pylist() == [12, 0.1, None, 1e300]
    store.put_catalog(build_items("ae", {"price": {"a": 7, "e": 8}}, [PRICE]), {})
    assert store.catalog()["price"].to_pylist() == [7, 0.1, None, 1e300, 8]


def test_a_store_that_knew_no_numbers_takes_a_column_of_them_and_gives_it_back(store: Store) -> None:
    store.put_catalog(build_items("ab", {"price": {"a": "12"}}, [Column("price", "text")]), {})
    store.put_catalog(build_items("b", {"price": {"b": 3.5}}, [PRICE]), {})
    assert Store.open(store.uri).catalog()["price"].to_pylist() == [None, 3.5]
    store.put_catalog(build_items("ab", {}), {})
    assert store.catalog().schema.equals(CATALOG_SCHEMA, check_metadata=True)


def test_a_column_that_the_dataset_lost_stays_for_items_that_left_it(store: Store) -> None:
    photos = {"a": ["/a.jpg"], "b": ["/b.jpg"]}
    store.put_catalog(build_items("ab", {"photos": photos}, [PHOTOS]), {})
    store.put_catalog(build_items("bc", {"brand": {"c": "C"}}, [BRAND]), {})
    assert [
        (row["item_id"], row["photos"], row["brand"]) for row in Store.open(store.uri).catalog().to_pylist()
    ] == [("a", ["/a.jpg"], None), ("b", None, None), ("c", None, "C")]
    store.put_catalog(build_items("abc", {}), {})
    assert store.catalog().schema.equals(CATALOG_SCHEMA, check_metadata=True)


@pytest.mark.parametrize("changed", [Column("photos", "image"), Column("photos", "video", several=True)])
def test_a_column_is_what_the_dataset_last_said(store: Store, changed: Column) -> None:
    store.put_catalog(build_items("ab", {"photos": {"a": ["/a.jpg"], "b": ["/b.jpg"]}}, [PHOTOS]), {})
    new = ["/b.mp4"] if changed.several else "/b.png"
    store.put_catalog(build_items("b", {"photos": {"b": new}}, [changed]), {})
    found = store.catalog()
    assert columns_of(found.schema)["photos"] == changed
    assert found["photos"].to_pylist() == [None, new]


def test_a_new_modality_alone_is_noticed(store: Store) -> None:
    store.put_catalog(build_items("a", {"x": {"a": "/a"}}, [Column("x", "video")]), {})
    store.put_catalog(build_items("a", {"x": {"a": "/a"}}, [Column("x", "audio")]), {})
    assert columns_of(Store.open(store.uri).catalog().schema)["x"].modality == "audio"


def test_media_may_be_shown_of_every_dataset_from_what_its_newest_run_might_read(store: Store) -> None:
    def put(name: str, root: str, add: bool = False, **titles: str) -> None:
        said = {"name": name, "root": root}
        store.put_catalog(items(**titles), said, store.place_of(items(**titles), said, add))

    def ran(name: str, root: str, *buckets: str) -> None:
        job = {"limits": {"fetch": {"buckets": list(buckets)}}}
        store.record_run({"dataset": {"name": name, "root": root}, "job": job})

    put("table", "/covers.csv", a="A")
    ran("table", "/covers.csv", "s3://before")
    ran("table", "/covers.csv", "s3://covers")
    assert store.media_buckets() == ["s3://covers"]
    put("folder", "gs://clips/2026", add=True, b="B")
    ran("folder", "gs://clips/2026", "s3://posters")
    ran("table", "/refused.csv", "s3://payroll")
    store.record_run({"dataset": {"name": "folder", "root": "gs://clips/2026"}})
    found = Store.open(store.uri)
    assert sorted(found.media_buckets()) == ["gs://clips", "s3://covers", "s3://posters"]

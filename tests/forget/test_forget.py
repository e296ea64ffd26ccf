"""What is forgotten is gone: from every version, snapshot, index and file; and nothing else is."""

from __future__ import annotations

from pathlib import Path

import lance
import numpy as np
import pytest
from forgettable import (
    CAPTION,
    FIRST_CAPTION,
    FIRST_VECTORS,
    ID,
    IDS,
    KEPT,
    OTHERS,
    TEXT,
    URL,
    VECTORS,
    captions,
    codes_spec,
    ids_in_every_version,
    make_store,
    traces,
)
from helpers.storing import make_rows

import mmfeat
from mmfeat.datasets.base import build_items
from mmfeat.extract.media.webcache import WebCache
from mmfeat.schemas.catalog import Column
from mmfeat.schemas.errors import StoreError, UnknownItems, UsageError
from mmfeat.store import Store

REASON = "taken down by its owner"


@pytest.fixture(scope="module")
def forgotten(tmp_path_factory) -> Path:
    """The store after ``ID`` was forgotten; no test writes to it."""
    folder = tmp_path_factory.mktemp("forgotten")
    make_store(folder / "store")
    assert set(traces(folder / "store")) == {
        "caption", "first caption", "title", "url", "vector", "first vector",
    }, "the search finds what is there"  # fmt: skip
    report = mmfeat.open(folder / "store").forget([ID], REASON, cache=folder / "cache")
    assert (report.forgotten, report.snapshots, report.urls) == ([ID], ["first", "second"], 1)
    return folder / "store"


def test_no_file_of_the_store_holds_its_caption_vector_title_or_address(forgotten):
    assert traces(forgotten) == {}


def test_no_version_that_can_still_be_read_holds_its_id(forgotten):
    assert ids_in_every_version(forgotten) == set(OTHERS)


def test_every_other_item_has_the_values_it_had(forgotten):
    found = mmfeat.open(forgotten).lookup(OTHERS, ["clip", "caption", "clip_codes"])
    np.testing.assert_array_equal(found["clip"].matrix, VECTORS[KEPT])
    assert found["caption"].values == [captions(CAPTION)[n] for n in KEPT]
    assert found["clip_codes"].matrix.ravel().tolist() == [n % 4 for n in KEPT]


def test_snapshots_read_as_they_were_without_it_and_say_so(forgotten):
    for name, vectors, caption in (("first", FIRST_VECTORS, FIRST_CAPTION), ("second", VECTORS, CAPTION)):
        then = mmfeat.open(forgotten, snapshot=name)
        assert then.ids == OTHERS
        found = then.lookup(features=["clip", "caption"])
        np.testing.assert_array_equal(found["clip"].matrix, vectors[KEPT])
        assert found["caption"].values == [captions(caption)[n] for n in KEPT]
        assert then.interactions["item_id"].to_pylist() == OTHERS
        with pytest.raises(UnknownItems):
            then.lookup([ID])
    for snapshot in mmfeat.open(forgotten).snapshots():
        assert (snapshot.items, snapshot.forgotten) == (len(OTHERS), 1)
        assert snapshot.rewritten > snapshot.created


def test_searches_find_the_others_through_the_index_and_in_snapshots(forgotten):
    at = OTHERS.index("item-005")
    for snapshot in (None, "second"):
        hits = mmfeat.open(forgotten, snapshot=snapshot).search("clip", vector=VECTORS[IDS.index(ID)], k=99)
        assert sorted(hit.item_id for hit in hits) == sorted(OTHERS)
        nearest = mmfeat.open(forgotten, snapshot=snapshot).search("clip", vector=VECTORS[KEPT[at]], k=1)
        assert nearest[0].item_id == "item-005"
    table = lance.dataset(str(forgotten / f"{Store.open(str(forgotten)).resolve('clip').table}.lance"))
    assert {index.name for index in table.describe_indices()} == {"item_id_idx", "vector_idx"}


def test_codebooks_that_were_fitted_to_its_vector_go_with_it(forgotten):
    store = Store.open(str(forgotten))
    assert store.codebooks(codes_spec().fingerprint) is None
    assert store.at("first").codebooks(codes_spec().fingerprint) is None


def test_a_tombstone_with_its_reason_keeps_it_from_coming_back(forgotten):
    store = Store.open(str(forgotten))
    tombstone = store.forgetting.tombstones()[0]
    assert (tombstone.item_id, tombstone.reason, tombstone.done) == (ID, REASON, True)
    with store.lease("test"), pytest.raises(StoreError, match="'the-item' was forgotten"):
        store.commit(store.resolve("caption"), make_rows(TEXT, [ID, "new"], ["x", "y"]), replace=True)
    assert store.forgetting.without(make_rows(TEXT, [ID, "new"], ["x", "y"]))["item_id"].to_pylist() == [
        "new"
    ]


def test_verify_finds_nothing_and_then_what_was_brought_back_behind_the_stores_back(tmp_path):
    make_store(tmp_path / "store")
    opened = mmfeat.open(tmp_path / "store")
    opened.forget([ID], REASON, cache=tmp_path / "cache")
    assert opened.verify_forgotten().ok
    table = Store.open(str(tmp_path / "store")).resolve("caption").table
    lance.write_dataset(
        make_rows(TEXT, [ID], [CAPTION]), str(tmp_path / "store" / f"{table}.lance"), mode="append"
    )
    report = mmfeat.open(tmp_path / "store").verify_forgotten()
    assert (report.ok, report.remains) == (False, {table: [ID]})
    # Deleted rows are still in the file.
    lance.dataset(str(tmp_path / "store" / f"{table}.lance")).delete(f"item_id = '{ID}'")
    assert mmfeat.open(tmp_path / "store").verify_forgotten().remains == {table: [ID]}
    mmfeat.open(tmp_path / "store").forget([ID], "again", cache=tmp_path / "cache")
    assert mmfeat.open(tmp_path / "store").verify_forgotten().ok


def test_an_unknown_id_forgets_nothing(tmp_path):
    make_store(tmp_path / "store")
    opened = mmfeat.open(tmp_path / "store")
    with pytest.raises(UnknownItems, match="nowhere"):
        opened.forget([ID, "nowhere"], REASON, cache=tmp_path / "cache")
    with pytest.raises(UsageError, match="reason"):
        opened.forget([ID], " ", cache=tmp_path / "cache")
    assert mmfeat.open(tmp_path / "store").lookup([ID], ["caption"])["caption"].values == [CAPTION]
    assert Store.open(str(tmp_path / "store")).forgetting.tombstones() == []


def test_a_rewritten_snapshot_can_be_rewritten_again_and_deleted(tmp_path):
    store = make_store(tmp_path / "store")
    table = tmp_path / "store" / f"{store.resolve('caption').table}.lance"
    opened = mmfeat.open(tmp_path / "store")
    opened.forget([ID], REASON, cache=tmp_path / "cache")
    opened.forget(["item-003", "item-004"], "more", cache=tmp_path / "cache")
    left = [item_id for item_id in OTHERS if item_id not in ("item-003", "item-004")]
    for name in ("first", "second"):
        assert mmfeat.open(tmp_path / "store", snapshot=name).ids == left
    assert [s.forgotten for s in mmfeat.open(tmp_path / "store").snapshots()] == [3, 3]
    assert ids_in_every_version(tmp_path / "store") == set(left)
    opened = mmfeat.open(tmp_path / "store")
    opened.delete_snapshot("first")
    assert len(lance.dataset(str(table)).branches.list()) == 1
    opened.delete_snapshot("second")
    assert lance.dataset(str(table)).branches.list() == {}
    assert mmfeat.open(tmp_path / "store").lookup(left, ["caption"])["caption"].mask.all()


def test_a_rewritten_snapshot_shares_what_did_not_change(tmp_path):
    store = Store.open(str(tmp_path / "store"), create=True)
    with store.lease("test"):
        version = store.add_version(TEXT)
        for part in range(5):
            ids = [f"{part}-{n}" for n in range(10)]
            store.commit(version, make_rows(TEXT, ids, ["x" * 10_000] * 10), replace=False)
        store.create_snapshot("v1")
    mmfeat.open(tmp_path / "store").forget(["2-3"], REASON, cache=tmp_path / "cache")
    folder = tmp_path / "store" / f"{version.table}.lance"
    shared, own = (
        sum(path.stat().st_size for path in folder.glob(f"{pattern}/*.lance"))
        for pattern in ("data", "tree/*/data")
    )
    assert 0 < own < shared / 3
    assert len(mmfeat.open(tmp_path / "store", snapshot="v1").lookup(["0-0", "2-4"], ["caption"]).ids) == 2


def test_its_media_are_removed_from_the_url_cache_and_those_of_others_stay(tmp_path):
    cache = WebCache(tmp_path / "cache", 1 << 20)
    for url in (URL, "http://example.org/other.jpg"):
        cache.keep(url, url, {"ETag": "1"}, url.encode())
    make_store(tmp_path / "store")
    mmfeat.open(tmp_path / "store").forget([ID], REASON, cache=tmp_path / "cache")
    assert cache.find(URL, 1 << 20) is None
    assert cache.find("http://example.org/other.jpg", 1 << 20) is not None
    assert "the-item" not in "".join(p.read_text() for p in (tmp_path / "cache").rglob("*") if p.is_file())


def test_all_media_of_its_columns_are_removed_from_the_url_cache_whatever_these_are_called(tmp_path):
    cache = WebCache(tmp_path / "cache", 1 << 20)
    urls = [f"http://example.org/{name}" for name in ("1.jpg", "2.jpg", "3.mp4", "brand", "other.jpg")]
    for url in urls:
        cache.keep(url, url, {"ETag": "1"}, url.encode())
    columns = [Column("photos", "image", several=True), Column("clip", "video"), Column("brand", "text")]
    values = {
        "photos": {ID: urls[:2], "other": urls[4:]},
        "clip": {ID: urls[2], "other": "/c.mp4"},
        "brand": {ID: urls[3]},
    }
    store = Store.open(str(tmp_path / "store"), create=True)
    with store.lease("test"):
        store.put_catalog(build_items([ID, "other"], values, columns), {"name": "test"})
    report = mmfeat.open(tmp_path / "store").forget([ID], REASON, cache=tmp_path / "cache")
    assert report.urls == 3
    # A text that looks like an address was never fetched for the item.
    assert [cache.find(url, 1 << 20) is None for url in urls] == [True, True, True, False, False]
    assert mmfeat.open(tmp_path / "store").items["photos"].to_pylist() == [urls[4:]]

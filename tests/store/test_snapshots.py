"""A snapshot is the whole store as it was, whatever becomes of the store."""

from __future__ import annotations

import random
import time
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
from helpers.processes import PROCESSES
from helpers.storing import make_rows, text_spec, vector_spec

from mmfeat.schemas.catalog import CATALOG_SCHEMA, INTERACTIONS_SCHEMA
from mmfeat.schemas.errors import StoreError, UnknownFeature, UsageError
from mmfeat.store import Store, database

OLD = {"a": [1, 0, 0, 0], "b": [0, 1, 0, 0], "c": None}
TAG = "mmfeat-snapshot-"


def catalog(*ids: str) -> pa.Table:
    rows = [{"item_id": i, "title": f"title of {i}"} for i in ids]
    return pa.Table.from_pylist(rows, schema=CATALOG_SCHEMA)


def interactions(*pairs: tuple[str, str]) -> pa.Table:
    rows = [{"user_id": u, "item_id": i, "timestamp": None} for u, i in pairs]
    return pa.Table.from_pylist(rows, schema=INTERACTIONS_SCHEMA)


def fill(store: Store) -> None:
    """Items a, b and c, a vector feature with ``OLD``, captions, one interaction, one run."""
    store.put_catalog(catalog("a", "b", "c"), {"name": "old"})
    store.put_interactions(interactions(("u", "a")))
    spec, texts = vector_spec(), text_spec()
    store.commit(store.add_version(spec), make_rows(spec, list(OLD), list(OLD.values())), replace=False)
    store.commit(store.add_version(texts), make_rows(texts, ["a"], ["a red cube"]), replace=False)
    for made in (spec, texts):
        store.set_current(made.name, made.fingerprint)
    store.record_run({"run": 1})


def go_on(store: Store) -> None:
    """Everything that a store goes through: new rows, values, items, versions, and clean-up."""
    spec = vector_spec()
    version = store.resolve(f"clip_image@{spec.fingerprint}")
    for k in range(3):
        rows = make_rows(spec, ["a", "b", "c", "d"], [[k, 2, 2, 2]] * 4)
        store.commit(version, rows, replace=True)
        store.put_catalog(catalog("a", "b", "c", "d", f"e{k}"), {"name": "new"})
        store.put_interactions(interactions(("u", "b"), ("v", f"e{k}")))
        store.finish(version)
    newer = vector_spec(method_version=2)
    store.commit(store.add_version(newer), make_rows(newer, ["a"], [[9, 9, 9, 9]]), replace=False)
    store.set_current("clip_image", newer.fingerprint)
    other = vector_spec("dino")
    store.commit(store.add_version(other), make_rows(other, ["a"], [[5, 5, 5, 5]]), replace=False)
    store.put_codebooks("f", b"state", {})
    store.record_run({"run": 2})


def versions_of(store: Store, table: str) -> list[int]:
    return [v["version"] for v in lance.dataset(str(Path(store.uri, f"{table}.lance"))).versions()]


def tags_of(store: Store) -> dict[str, list[str]]:
    """Snapshot to the tables that have its tag."""
    found: dict[str, list[str]] = {}
    for path in sorted(Path(store.uri).glob("*.lance")):
        for tag in lance.dataset(str(path)).tags.list():
            found.setdefault(tag.removeprefix(TAG), []).append(path.stem)
    return found


def assert_as_filled(view: Store) -> None:
    assert view.catalog()["item_id"].to_pylist() == ["a", "b", "c"]
    assert view.dataset() == {"name": "old"}
    assert view.interactions() == interactions(("u", "a"))
    assert view.current() == {s.name: s.fingerprint for s in (vector_spec(), text_spec())}
    assert [v.name for v in view.versions()] == ["caption", "clip_image"]
    assert view.runs() == [{"run": 1}]
    assert view.codebooks("f") is None
    found = view.lookup(["c", "b", "a"])
    np.testing.assert_array_equal(found["clip_image"].matrix[1:], [OLD["b"], OLD["a"]])
    assert found["clip_image"].status.tolist() == ["failed", "ok", "ok"]
    assert found["caption"].texts == [None, None, "a red cube"]
    hits = view.search(view.resolve("clip_image"), np.array([3, 1, 0, 0]))
    assert [h.item_id for h in hits] == ["a", "b"]
    assert view.counts(view.resolve("clip_image")) == {"ok": 2, "failed": 1}


def test_a_snapshot_reads_the_same_whatever_becomes_of_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "KEEP_OLD_VERSIONS", timedelta(0))
    fill(store)
    made = store.create_snapshot("v1")
    opened_before = Store.open(store.uri).at("v1")
    go_on(store)
    assert_as_filled(opened_before)
    view = Store.open(store.uri).at("v1")
    assert_as_filled(view)
    view.refresh()
    assert_as_filled(view)
    # The clean-up did run: of all that was replaced the snapshot's version alone is left.
    for table in (store.resolve("clip_image@" + vector_spec().fingerprint).table, "_items"):
        assert len(versions_of(store, table)) == 2
        assert made.tables[table] in versions_of(store, table)
    assert store.resolve("clip_image").spec.method_version == 2
    assert store.catalog()["item_id"].to_pylist() == ["a", "b", "c", "d", "e0", "e1", "e2"]


def test_a_snapshot_says_what_is_in_it(store: Store) -> None:
    fill(store)
    made = store.create_snapshot("2025-06.v1_x")
    assert (made.name, made.items) == ("2025-06.v1_x", 3)
    assert made.features == {"caption": text_spec().version, "clip_image": vector_spec().version}
    go_on(store)
    later = store.create_snapshot("later")
    assert later.features["clip_image"] == vector_spec(method_version=2).version
    assert Store.open(store.uri).snapshots() == [made, later]
    assert store.at("later").snapshots() == [made, later]


def test_versions_that_came_later_are_not_in_a_snapshot(store: Store) -> None:
    fill(store)
    store.create_snapshot("v1")
    go_on(store)
    view = store.at("v1")
    for ref in ("dino", vector_spec(method_version=2).version):
        with pytest.raises(UnknownFeature):
            view.lookup(["a"], [ref])


def test_a_version_that_is_not_current_is_kept_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "KEEP_OLD_VERSIONS", timedelta(0))
    fill(store)
    go_on(store)
    store.create_snapshot("v1")
    spec = vector_spec()
    version = store.resolve(spec.version)
    store.commit(version, make_rows(spec, ["a"], [[7, 7, 7, 7]]), replace=True)
    store.finish(version)
    assert store.at("v1").lookup(["a"], [spec.version])["clip_image"].matrix.tolist() == [[2, 2, 2, 2]]


def test_nothing_can_be_written_through_a_snapshot(store: Store) -> None:
    fill(store)
    store.create_snapshot("v1")
    view = Store.open(store.uri).at("v1")
    writes = [
        lambda: view.record_run({}),
        lambda: view.add_version(vector_spec()),
        lambda: view.create_snapshot("v2"),
        lambda: view.delete_snapshot("v1"),
        lambda: view.put_catalog(catalog("z"), {}),
        lambda: view.lease("test").__enter__(),
    ]
    for write in writes:
        with pytest.raises(StoreError, match=r"'v1' .* never changes"):
            write()
    assert_as_filled(Store.open(store.uri))


def test_a_snapshot_is_made_and_deleted_by_the_one_writer(store: Store) -> None:
    fill(store)
    other = Store.open(store.uri)
    for write in (lambda: other.create_snapshot("v1"), lambda: other.delete_snapshot("v1")):
        with pytest.raises(StoreError, match="needs its lease"):
            write()


@pytest.mark.parametrize(
    "name", ["", ".", ".a", "a..b", "a.", "x.lock", "a b", "a/b", "../a", "é", "-a", "a\n", "x" * 65]
)
def test_a_name_that_could_not_be_kept_is_refused_before_anything_is_written(store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be called"):
        store.create_snapshot(name)
    assert tags_of(store) == {}


def test_a_name_that_is_taken_or_not_there_is_refused(store: Store) -> None:
    fill(store)
    first = store.create_snapshot("v1")
    with pytest.raises(UsageError, match=r"a snapshot 'v1' .* already"):
        store.create_snapshot("v1")
    assert store.snapshots() == [first]
    for ask in (store.at, store.delete_snapshot):
        with pytest.raises(UsageError, match="no snapshot 'v2'") as caught:
            ask("v2")
        assert "There are: v1." in str(caught.value.hint)


def test_deleting_removes_the_tags_and_lets_clean_up_have_the_versions(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "KEEP_OLD_VERSIONS", timedelta(0))
    fill(store)
    made = store.create_snapshot("v1")
    store.create_snapshot("v2")
    go_on(store)
    store.delete_snapshot("v1")
    assert list(tags_of(store)) == ["v2"]
    assert_as_filled(store.at("v2"))  # which pins the same versions
    store.delete_snapshot("v2")
    assert tags_of(store) == {}
    store.finish(store.resolve(vector_spec().version))
    table = store.resolve(vector_spec().version).table
    assert made.tables[table] not in versions_of(store, table)
    assert store.snapshots() == []
    store.create_snapshot("v1")  # the name is free again


def test_what_a_killed_creation_left_is_not_seen_and_removed_by_the_next(store: Store) -> None:
    fill(store)
    store.create_snapshot("whole")
    for table in ("_items", store.resolve("caption").table):
        begun = lance.dataset(str(Path(store.uri, f"{table}.lance")))
        for name in ("begun", "begun2"):
            begun.tags.create(TAG + name, begun.version)
        begun.tags.create("somebody-elses", begun.version)
    assert [s.name for s in Store.open(store.uri).snapshots()] == ["whole"]
    store.create_snapshot("begun")  # its own name does not stand in its way
    assert set(tags_of(store)) == {"whole", "begun", "somebody-elses"}
    assert_as_filled(store.at("begun"))


def make_and_delete_until_killed(uri: str, ready: Connection) -> None:
    store = Store.open(uri)
    with store.lease("test"):
        names = [s.name for s in store.snapshots()]
        ready.send("started")
        for k in range(1_000_000):
            store.create_snapshot(f"s{len(names)}-{k}-{time.monotonic_ns()}")
            if len(names := [s.name for s in store.snapshots()]) > 3:
                store.delete_snapshot(names[0])


def test_a_kill_at_any_moment_leaves_whole_snapshots_only(store: Store, tmp_path: Path) -> None:
    uri = str(tmp_path / "killed")
    begun = Store.open(uri, create=True)
    with begun.lease("test"):
        fill(begun)
    chance = random.Random(0)
    for _ in range(8):
        here, there = PROCESSES.Pipe()
        writer = PROCESSES.Process(target=make_and_delete_until_killed, args=(uri, there))
        writer.start()
        here.recv()
        time.sleep(chance.uniform(0, 0.4))
        assert writer.is_alive()
        writer.kill()
        writer.join()
        found = Store.open(uri)
        tags = tags_of(found)
        for snapshot in found.snapshots():
            assert_as_filled(found.at(snapshot.name))
            assert set(tags[snapshot.name]) == set(snapshot.tables)
    with begun.lease("test"):
        begun.create_snapshot("last")
        assert set(tags_of(begun)) == {s.name for s in begun.snapshots()}


def test_a_snapshot_whose_data_were_removed_all_the_same_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "KEEP_OLD_VERSIONS", timedelta(0))
    fill(store)
    store.create_snapshot("v1")
    table = store.resolve("clip_image").table
    lance.dataset(str(Path(store.uri, f"{table}.lance"))).tags.delete(f"{TAG}v1")
    go_on(store)
    with pytest.raises(StoreError, match=f"of {table} is gone"):
        Store.open(store.uri).at("v1")

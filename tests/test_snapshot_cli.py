"""Snapshots from the command line and from Python, on a store that goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import mmfeat
from mmfeat.schemas.errors import UsageError
from mmfeat.store import Store


@pytest.fixture
def store(world, tmp_path) -> Path:
    """A copy of the shared store that a test may write to."""
    return shutil.copytree(world / "store", tmp_path / "store")


def go_on(path: Path) -> None:
    """item-000 gets item-001's clip vector, and a new item joins the catalog."""
    store = Store.open(str(path))
    with store.lease("test"):
        version = store.resolve("clip")
        rows = store.full_rows(version, ["item-001"])
        index = rows.schema.get_field_index("item_id")
        rows = rows.set_column(index, rows.schema.field("item_id"), pa.array(["item-000"]))
        store.commit(version, rows, replace=True)
        new = store.catalog().slice(0, 1)
        new = new.set_column(0, new.schema.field("item_id"), pa.array(["new"]))
        store.put_catalog(new, {"name": "folder"})
        store.finish(version)


def test_create_list_diff_and_delete(run, store):
    code, out, _ = run("snapshot", "create", "v1", "--store", store)
    assert code == 0 and "56 items, 4 features" in out
    before = mmfeat.open(store).lookup(["item-000", "item-001"], ["clip"])["clip"].matrix
    go_on(store)
    _, out, _ = run("snapshot", "create", "v2", "--store", store, "--json")
    assert json.loads(out)["items"] == 57
    _, out, _ = run("snapshot", "list", "--store", store, "--json")
    listed = json.loads(out)
    assert [(s["name"], s["items"]) for s in listed] == [("v1", 56), ("v2", 57)]
    assert listed[0]["features"]["clip"] == mmfeat.open(store).spec("clip").version
    _, out, _ = run("snapshot", "list", "--store", store)
    assert "v1" in out and "v2" in out and "clip@" in out

    _, out, _ = run("snapshot", "diff", "v1", "v2", "--store", store, "--json")
    found = json.loads(out)
    assert (found["added"], found["gone"]) == (["new"], [])
    features = {f["name"]: f for f in found["features"]}
    assert features["clip"]["changed"] == ["item-000"] and features["dino"]["changed"] == []
    a, b = before.astype(np.float64)
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert features["clip"]["drift"]["minimum"] == pytest.approx(cosine, abs=1e-12)
    assert features["clip"]["drift"]["mean"] == pytest.approx((55 + cosine) / 56, abs=1e-12)
    assert features["dino"]["drift"]["minimum"] == 1.0
    code, out, _ = run("snapshot", "diff", "v1", "--store", store)
    assert code == 0
    assert "From v1 to now: 1 item added (new), 0 items gone." in out
    assert "clip: the content changed of item-000" in out and f"{cosine:.4f}" in out

    code, out, _ = run("snapshot", "delete", "v1", "--store", store)
    assert code == 0 and "deleted" in out
    assert [s.name for s in mmfeat.open(store).snapshots()] == ["v2"]


def test_status_lookup_and_search_read_a_snapshot(run, store):
    run("snapshot", "create", "v1", "--store", store)
    at = ("--store", store, "--snapshot", "v1", "--json")
    lookup = ("lookup", "item-000", "--feature", "clip")
    search = ("search", "--feature", "clip", "--item", "item-001", "-k", 56)
    before = [json.loads(run(*words, *at)[1]) for words in (lookup, search, ("status",))]
    go_on(store)
    assert [json.loads(run(*words, *at)[1]) for words in (lookup, search, ("status",))] == before
    assert before[2]["items"] == 56
    now = json.loads(run(*lookup, "--store", store, "--json")[1])
    assert now["features"]["clip"]["values"] != before[0]["features"]["clip"]["values"]
    (hit, *_) = json.loads(run(*search, "--store", store, "--json")[1])
    assert hit["item_id"] == "item-000" and hit["score"] == pytest.approx(1)
    code, _, err = run("lookup", "new", "--store", store, "--snapshot", "v1")
    assert code == 2 and "'new'" in err


def test_a_snapshot_opens_in_python_and_makes_the_same_promises(store):
    opened = mmfeat.open(store)
    opened.create_snapshot("v1")
    before = opened.lookup()
    go_on(store)
    view = mmfeat.open(store, snapshot="v1")
    assert view.ids == before.ids
    for name, column in view.lookup().items():
        if isinstance(column.values, list):
            assert column.values == before[name].values
        else:
            np.testing.assert_array_equal(column.values, before[name].values)
    assert mmfeat.open(store).diff("v1").added == ["new"]
    opened.delete_snapshot("v1")
    with pytest.raises(UsageError, match="no snapshot 'v1'"):
        mmfeat.open(store, snapshot="v1")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["snapshot", "create", "a/b"], 2, "cannot be called"),
        (["snapshot", "create", "v1"], 2, "already"),
        (["snapshot", "delete", "v2"], 2, "There are: v1."),
        (["snapshot", "diff", "v1", "v2"], 2, "no snapshot 'v2'"),
        (["status", "--snapshot", "v2"], 2, "no snapshot 'v2'"),
        (["lookup", "item-000", "--snapshot", "v2"], 2, "no snapshot 'v2'"),
        (["search", "--feature", "clip", "--item", "item-000", "--snapshot", "v2"], 2, "no snapshot 'v2'"),
        (["export", "npy", "--out", "out", "--snapshot", "v2"], 2, "no snapshot 'v2'"),
    ],
)
def test_a_mistake_is_answered_with_what_to_do(run, store, words, code, says):
    mmfeat.open(store).create_snapshot("v1")
    got, _, err = run(*words, "--store", store)
    assert got == code
    assert says in err and "Traceback" not in err


def test_a_snapshot_waits_for_no_run_and_names_the_writer(run, store):
    writer = Store.open(str(store))
    with writer.lease("extract folder"):
        code, _, err = run("snapshot", "create", "v1", "--store", store)
    assert code == 1 and "extract folder" in err

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers.storing import make_rows, text_spec, vector_spec, vectors

from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.errors import UnknownFeature, UnknownItems, UsageError
from mmfeat.store import Store


def items(ids: list[str]) -> pa.Table:
    return pa.Table.from_pylist([{"item_id": i, "title": f"title {i}"} for i in ids], schema=CATALOG_SCHEMA)


@pytest.fixture
def filled(store: Store) -> Store:
    """Items a to e; clip_image of a, b (failed), c; caption of a."""
    store.put_catalog(items(["a", "b", "c", "d", "e"]), {"name": "test"})
    clip, caption = vector_spec(), text_spec()
    store.commit(
        store.add_version(clip),
        make_rows(clip, ["c", "b", "a"], [[3, 3, 3, 3], None, [1, 1, 1, 1]]),
        replace=False,
    )
    store.commit(store.add_version(caption), make_rows(caption, ["a"], ["a red cup"]), replace=False)
    return store


def test_lookup_keeps_the_order_asked_and_repeats(filled: Store) -> None:
    found = filled.lookup(["a", "d", "b", "c", "a"])
    assert found.ids == ["a", "d", "b", "c", "a"]
    assert list(found) == ["caption", "clip_image"]
    clip, caption = found["clip_image"], found["caption"]
    assert clip.status.tolist() == ["ok", "absent", "failed", "ok", "ok"]
    assert clip.mask.tolist() == [True, False, False, True, True]
    assert clip.reason.tolist() == ["", "", "cannot decode b", "", ""]
    assert clip.matrix[[0, 3, 4], 0].tolist() == [1, 3, 1]
    assert np.isnan(clip.matrix[[1, 2]]).all()
    assert clip.matrix.dtype == np.float16
    assert caption.texts == ["a red cup", None, None, None, "a red cup"]
    assert caption.status.tolist() == ["ok", "absent", "absent", "absent", "ok"]


def test_without_ids_all_items_come_in_catalog_order(filled: Store) -> None:
    found = filled.lookup(features=["clip_image"])
    assert found.ids == ["a", "b", "c", "d", "e"]
    assert found["clip_image"].status.tolist() == ["ok", "failed", "ok", "absent", "absent"]


def test_unknown_items_are_all_named_in_the_order_asked(filled: Store) -> None:
    with pytest.raises(UnknownItems, match=r"2 unknown item ids in .*: 'zzz', '01'") as caught:
        filled.lookup(["zzz", "a", "01", "zzz"])
    assert caught.value.ids == ["zzz", "01"]


def test_unknown_items_are_masked_where_asked_for(filled: Store) -> None:
    found = filled.lookup(["zzz", "a"], ["clip_image"], unknown="mask")["clip_image"]
    assert found.status.tolist() == ["absent", "ok"]
    assert found.mask.tolist() == [False, True]


def test_an_item_with_a_row_and_no_catalog_entry_is_known(store: Store) -> None:
    spec = vector_spec()
    store.commit(store.add_version(spec), make_rows(spec, ["x"], [[1, 2, 3, 4]]), replace=False)
    assert store.lookup(["x"])["clip_image"].mask.tolist() == [True]


def test_lookup_takes_one_version_of_a_feature(filled: Store) -> None:
    old, other = filled.resolve("clip_image"), vector_spec(method_version=2)
    new = filled.add_version(other)
    filled.commit(new, make_rows(other, ["a"], [[7, 7, 7, 7]]), replace=False)
    filled.set_current("clip_image", new.fingerprint)
    assert filled.lookup(["a"], ["clip_image"])["clip_image"].matrix[0, 0] == 7
    assert filled.lookup(["a"], [old.version])["clip_image"].matrix[0, 0] == 1
    assert filled.lookup(["a"], [new.version, "clip_image"])["clip_image"].spec == other
    with pytest.raises(UsageError, match="versions of one feature"):
        filled.lookup(["a"], [old.version, new.version])


def test_unknown_features_and_ids_that_are_no_strings_are_refused(filled: Store) -> None:
    with pytest.raises(UnknownFeature):
        filled.lookup(["a"], ["dino"])
    with pytest.raises(UsageError, match="Item ids are strings; 7 is a int"):
        filled.lookup(["a", 7])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="not valid Unicode"):
        filled.lookup(["\udc80"])


def test_no_ids_and_no_features_give_an_empty_set(filled: Store, tmp_path: Path) -> None:
    assert filled.lookup([])["clip_image"].matrix.shape == (0, 4)
    assert dict(filled.lookup(["a"], [])) == {}
    empty = Store.open(str(tmp_path / "empty"), create=True)
    assert (empty.lookup().ids, dict(empty.lookup())) == ([], {})
    with pytest.raises(UnknownItems):
        empty.lookup(["a"])


@pytest.mark.parametrize("n_asked", [3, 2500])
@pytest.mark.parametrize("finished", [False, True])
def test_few_ids_and_many_ids_give_the_same_rows(store: Store, n_asked: int, finished: bool) -> None:
    spec = vector_spec(dtype="float32")
    version = store.add_version(spec)
    ids, values = [f"{k:05d}" for k in range(20_000)], vectors(20_000, dtype="float32")
    for start in range(0, 20_000, 5000):
        part = slice(start, start + 5000)
        store.commit(version, make_rows(spec, ids[part], list(values[part])), replace=False)
    if finished:
        store.finish(version)
        store.commit(version, make_rows(spec, ids[:9], list(values[:9])), replace=True)
    asked = np.random.default_rng(1).permutation(20_000)[:n_asked]
    found = store.lookup([ids[k] for k in asked])["clip_image"]
    assert found.mask.all()
    assert found.matrix.tobytes() == values[asked].tobytes()

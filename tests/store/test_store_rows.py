from __future__ import annotations

import tempfile

import numpy as np
import pyarrow as pa
import pytest
from helpers.storing import CREATED, make_rows, text_spec, vector_spec, vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfeat.schemas.errors import ConservationError, StoreError
from mmfeat.store import Store, rows_schema

AWKWARD = ["'", '"', "it's", "a''b", "\\", "%", "_", "007", "7", " 7", "7 ", "a.b", "ü", "u\u0308", "商品",
           "😀", "x" * 200, "", "NULL", "a\nb", "--", ");", "\x00"]  # fmt: skip
item_ids = st.one_of(
    st.sampled_from(AWKWARD), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)
)


@settings(max_examples=25, deadline=None)
@given(ids=st.lists(item_ids, min_size=1, max_size=30, unique=True), data=st.data())
def test_any_ids_come_back_in_any_order(ids: list[str], data: st.DataObject) -> None:
    spec = vector_spec(dims=2, dtype="float32")
    values = vectors(len(ids), 2, "float32")
    # Among many other rows, so that ids are looked up by filter and not by reading everything.
    others = [f"other-{k}" for k in range(8 * len(ids))]
    asked = data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=len(ids)))
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(folder, create=True)
        with store.lease("test"):
            version = store.add_version(spec)
            store.commit(version, make_rows(spec, ids, list(values)), replace=False)
            store.commit(version, make_rows(spec, others, [[0, 0]] * len(others)), replace=False)
            for indexed in (False, True):
                if indexed:
                    store.finish(version)
                found = store.lookup(asked, ["clip_image"])
                assert found.ids == asked
                expected = values[[ids.index(i) for i in asked]]
                assert found["clip_image"].matrix.tobytes() == expected.tobytes()
                rows = store.full_rows(version, asked)
                assert rows["item_id"].to_pylist() == asked
                assert np.stack(rows["vector"].to_numpy()).tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_vectors_come_back_bit_for_bit(store: Store, dtype: str) -> None:
    spec = vector_spec(dims=7, dtype=dtype)
    version = store.add_version(spec)
    info = np.finfo(dtype)
    values = vectors(50, 7, dtype)
    values[0] = [info.max, info.min, info.tiny, info.smallest_subnormal, -0.0, 0.0, 1 / 3]
    ids = [f"{k}" for k in range(50)]
    store.commit(version, make_rows(spec, ids, list(values)), replace=False)
    store.finish(version)
    found = Store.open(store.uri).lookup(ids, ["clip_image"])["clip_image"].matrix
    assert found.dtype == np.dtype(dtype)
    assert found.tobytes() == values.tobytes()


def test_whole_rows_come_back_as_they_were_committed(store: Store) -> None:
    for spec, values in (
        (vector_spec(), [[1, 2, 3, 4], None, [5, 6, 7, 8]]),
        (text_spec(), ["a red cup", None, ""]),
    ):
        version = store.add_version(spec)
        rows = make_rows(spec, ["a", "b", "c"], values)
        store.commit(version, rows, replace=False)
        found = store.full_rows(version, ["c", "a", "b"])
        assert found.schema.equals(rows_schema(spec))
        assert found.equals(rows.take([2, 0, 1]))
        assert found["created"][0].as_py() == CREATED


def test_a_missing_whole_row_is_an_error(store: Store) -> None:
    spec = text_spec()
    version = store.add_version(spec)
    store.commit(version, make_rows(spec, ["a"], ["text"]), replace=False)
    with pytest.raises(StoreError, match="no row of 1 items, the first being 'b'"):
        store.full_rows(version, ["a", "b"])


def test_the_ledger_has_every_row_and_texts_only_of_text_features(store: Store) -> None:
    vector, text = vector_spec(), text_spec()
    for spec, values in ((vector, [[1, 2, 3, 4], None]), (text, ["a cup", None])):
        store.commit(store.add_version(spec), make_rows(spec, ["a", "b"], values), replace=False)
    assert store.ledger(store.resolve("clip_image")).to_pydict() == {
        "item_id": ["a", "b"],
        "status": ["ok", "failed"],
        "content_hash": ["hash of a", "hash of b"],
        "stamp": ["stamp of a", "stamp of b"],
    }
    assert store.ledger(store.resolve("caption"))["text"].to_pylist() == ["a cup", None]


@pytest.mark.parametrize("finished", [False, True])
def test_replacing_rows_leaves_one_row_per_item(store: Store, finished: bool) -> None:
    spec = vector_spec()
    version = store.add_version(spec)
    ids = [f"{k}" for k in range(20)]
    store.commit(version, make_rows(spec, ids, list(vectors(20))), replace=False)
    if finished:
        store.finish(version)
    new = [[1, 1, 1, 1], None, [3, 3, 3, 3]]
    store.commit(version, make_rows(spec, ["7", "3", "new"], new), replace=True)
    assert sorted(store.ledger(version)["item_id"].to_pylist()) == sorted([*ids, "new"])
    found = store.lookup(["3", "7", "new", "0"], ["clip_image"])["clip_image"]
    assert found.status.tolist() == ["failed", "ok", "ok", "ok"]
    assert found.matrix[1:3].tolist() == [[1] * 4, [3] * 4]
    assert np.isnan(found.matrix[0]).all()
    assert store.counts(version) == {"ok": 20, "failed": 1}
    # A failed row may become ok again.
    store.commit(version, make_rows(spec, ["3"], [[2, 2, 2, 2]]), replace=True)
    assert store.lookup(["3"], ["clip_image"])["clip_image"].matrix.tolist() == [[2] * 4]


def test_failures_say_which_item_where_and_why(store: Store) -> None:
    spec = vector_spec()
    version = store.add_version(spec)
    store.commit(version, make_rows(spec, ["b", "ok", "a"], [None, [1, 2, 3, 4], None]), replace=False)
    assert store.failures(version).to_pylist() == [
        {"item_id": "a", "stage": "decode", "reason": "cannot decode a"},
        {"item_id": "b", "stage": "decode", "reason": "cannot decode b"},
    ]


def test_unsound_groups_are_refused_whole(store: Store) -> None:
    spec = vector_spec()
    version = store.add_version(spec)
    good = make_rows(spec, ["a", "b"], [[1, 2, 3, 4], None])
    status = good.schema.get_field_index("status")

    def with_status(values: list[str]) -> pa.Table:
        return good.set_column(status, good.schema.field("status"), pa.array(values))

    cases = {
        "came twice": make_rows(spec, ["a", "b", "a"], [[1, 2, 3, 4], None, None]),
        "another schema": make_rows(vector_spec(dims=5), ["a"], [[1, 2, 3, 4, 5]]),
        "of another schema": good.drop_columns(["facts"]),
        "unknown status": with_status(["ok", "broken"]),
        "is ok without one": with_status(["ok", "ok"]),
        "has a value and is not ok": with_status(["missing", "failed"]),
    }
    for message, rows in cases.items():
        for replace in (False, True):
            with pytest.raises(ConservationError, match=message):
                store.commit(version, rows, replace=replace)
    assert store.counts(version) == {}


def test_an_empty_group_is_no_error(store: Store) -> None:
    spec = vector_spec()
    version = store.add_version(spec)
    store.commit(version, make_rows(spec, [], []), replace=False)
    store.finish(version)
    assert store.counts(version) == {}
    assert store.ledger(version).num_rows == 0

"""A store of format 1 opens as it is and is raised when it is first written to; what format 2 adds."""

from __future__ import annotations

from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from helpers.storing import make_rows, text_spec, token_spec, vector_spec

from mmfeat.schemas.errors import StoreError, UsageError
from mmfeat.schemas.featureset.arrow import describe, from_arrow, to_arrow
from mmfeat.schemas.featureset.frames import to_pandas
from mmfeat.schemas.featureset.json import to_json
from mmfeat.store import Store, rows_schema
from mmfeat.store.schema import FORMAT

VECTORS = [np.float16([[1, 2, 3], [4, 5, 6]]), None, np.float16([[7, 8, 9]]), np.empty((0, 3), "float16")]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store as format 1 had it: by its header, and without ``rules``."""
    folder = tmp_path / "old"
    store = Store.open(str(folder), create=True)
    with store.lease("test"):
        version = store.add_version(vector_spec())
        store.commit(version, make_rows(version.spec, ["a", "b"], [[1, 2, 3, 4], None]), replace=False)
    lance.dataset(str(folder / f"{version.table}.lance")).drop_columns(["rules"])
    lance.dataset(str(folder / "_store.lance")).update({"format": "1"})
    return folder


def format_of(folder: Path) -> list[dict[str, object]]:
    return lance.dataset(str(folder / "_store.lance")).to_table().to_pylist()


def test_reading_leaves_the_format_and_the_first_writer_raises_it(old: Path) -> None:
    (before,) = format_of(old)
    store = Store.open(str(old))
    version = store.resolve("clip_image")
    assert store.lookup(["a"], unknown="mask")["clip_image"].matrix.tolist() == [[1, 2, 3, 4]]
    assert store.full_rows(version, ["b", "a"]).schema.equals(rows_schema(version.spec))
    batches = store.ledger_batches(version, ["item_id", "rules", "status"])
    assert pa.Table.from_batches(batches).to_pydict() == {
        "item_id": ["a", "b"], "rules": [None, None], "status": ["ok", "failed"],
    }  # fmt: skip
    assert format_of(old) == [before]
    with store.lease("test"):
        assert format_of(old) == [before | {"format": FORMAT}]
    with store.lease("again"):
        assert lance.dataset(str(old / "_store.lance")).count_rows() == 1


def test_a_store_that_got_a_newer_format_since_it_was_opened_is_not_written_to(old: Path) -> None:
    store = Store.open(str(old))
    lance.dataset(str(old / "_store.lance")).update({"format": str(FORMAT + 1)})
    with pytest.raises(StoreError, match=f"has format {FORMAT + 1}"), store.lease("test"):
        pass
    assert store.writer() is None


@pytest.mark.parametrize("replace", [False, True])
def test_a_table_of_format_1_gets_rules_with_its_next_rows_and_no_row_changes(
    old: Path, replace: bool
) -> None:
    store = Store.open(str(old))
    version = store.resolve("clip_image")
    files = set((old / f"{version.table}.lance" / "data").iterdir())
    with store.lease("test"):
        rows = make_rows(version.spec, ["c"], [[5, 6, 7, 8]])
        place = rows.schema.get_field_index("rules")
        rows = rows.set_column(place, "rules", pa.array(["2+1"]))
        store.commit(version, rows, replace)
        store.finish(version)
    found = Store.open(str(old)).full_rows(version, ["a", "b", "c"])
    assert found["rules"].to_pylist() == [None, None, "2+1"]
    assert found["vector"].to_pylist() == [[1, 2, 3, 4], None, [5, 6, 7, 8]]
    assert files <= set((old / f"{version.table}.lance" / "data").iterdir())


def test_any_number_of_vectors_per_item_comes_back_as_it_was(store: Store) -> None:
    spec = token_spec()
    version = store.add_version(spec)
    ids = ["a", "b", "c", "d"]
    store.commit(version, make_rows(spec, ids[:2], VECTORS[:2]), replace=False)
    store.commit(version, make_rows(spec, ids[1:], VECTORS[1:]), replace=True)
    store.finish(version)
    found = Store.open(store.uri).lookup(["d", "c", "a", "b", "x", "a"], unknown="mask")["late"]
    assert found.mask.tolist() == [True, True, True, False, False, True]
    assert [found.tokens[k] is None for k in range(6)] == [False, False, False, True, True, False]
    for k, own in ((0, VECTORS[3]), (1, VECTORS[2]), (2, VECTORS[0]), (5, VECTORS[0])):
        assert (found.tokens[k].dtype, found.tokens[k].shape) == (np.float16, own.shape)
        np.testing.assert_array_equal(found.tokens[k], own)


def test_items_with_the_same_number_of_vectors_keep_their_own(store: Store) -> None:
    spec = token_spec(dtype="float32")
    version = store.add_version(spec)
    own = {str(n): np.full((2, 3), n, "float32") for n in range(50)}
    store.commit(version, make_rows(spec, list(own), list(own.values())), replace=False)
    found = store.lookup(list(own), unknown="mask")["late"].tokens
    assert all((found[n] == n).all() and found[n].shape == (2, 3) for n in range(50))


def test_token_vectors_are_no_matrix_and_no_text(store: Store) -> None:
    late, text = token_spec(), text_spec()
    for spec, value in ((late, VECTORS[0]), (text, "a cup")):
        store.commit(store.add_version(spec), make_rows(spec, ["a"], [value]), replace=False)
    found = store.lookup(["a"], unknown="mask")
    with pytest.raises(TypeError, match=r"any number of vectors per item: see \.tokens"):
        _ = found["late"].matrix
    with pytest.raises(TypeError, match="vectors, not texts"):
        _ = found["late"].texts
    with pytest.raises(TypeError, match="no token vectors but caption"):
        _ = found["caption"].tokens


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [1], [0, 2], []])
def test_token_vectors_survive_arrow_and_files(store: Store, tmp_path: Path, rows: list[int]) -> None:
    spec = token_spec()
    version = store.add_version(spec)
    store.commit(version, make_rows(spec, list("abcd"), VECTORS), replace=False)
    features = store.lookup([f"{'abcd'[row]}" for row in rows], ["late"], unknown="mask")
    table = to_arrow(features)
    assert table.schema.field("late").type == pa.list_(pa.list_(pa.float16(), 3))
    pq.write_table(table, tmp_path / "f.parquet")
    pyarrow.feather.write_feather(table, tmp_path / "f.feather")
    for back in (
        from_arrow(table),
        from_arrow(pq.read_table(tmp_path / "f.parquet")),
        from_arrow(pyarrow.feather.read_table(tmp_path / "f.feather")),
    ):
        assert back["late"].mask.tolist() == features["late"].mask.tolist()
        for given, found in zip(features["late"].tokens, back["late"].tokens, strict=True):
            if given is None:
                assert found is None
            else:
                np.testing.assert_array_equal(given, found)
    assert (describe(features["late"])["dtype"], describe(features["late"])["shape"]) == (
        "float16",
        [None, 3],
    )
    values = to_json(features)["features"]["late"]["values"]
    assert values == [None if VECTORS[row] is None else VECTORS[row].tolist() for row in rows]


def test_token_vectors_become_frames_and_tensors(store: Store) -> None:
    torch = pytest.importorskip("torch")
    spec = token_spec()
    version = store.add_version(spec)
    store.commit(version, make_rows(spec, list("abcd"), VECTORS), replace=False)
    features = store.lookup(list("abcd"), ["late"], unknown="mask")
    frame = to_pandas(features)
    np.testing.assert_array_equal(np.stack(frame["late"]["a"]), VECTORS[0])
    assert frame["late"]["b"] is None
    data = features.to_torch()
    assert [tuple(data[k]["late"].shape) for k in range(4)] == [(2, 3), (0, 3), (1, 3), (0, 3)]
    assert data[0]["late"].dtype == torch.float16
    assert [bool(data[k]["late.mask"]) for k in range(4)] == [True, False, True, True]
    with pytest.raises(UsageError, match="holds no vectors but tokens"):
        features["late"].to_embedding()

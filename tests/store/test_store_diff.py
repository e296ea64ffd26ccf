"""What a diff says, held to numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers.storing import make_rows, text_spec, vector_spec
from hypothesis import given
from hypothesis import strategies as st

from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.inputs import Input
from mmfeat.schemas.outputs import VectorOut
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import Store, diff
from mmfeat.store.diff import FeatureDiff, cosines, spec_changes


def put(store: Store, spec: FeatureSpec, values: Mapping[str, object], changed: tuple[str, ...] = ()) -> None:
    """Rows for ``values``, the content of ``changed`` other than before; the version becomes current."""
    rows = make_rows(spec, list(values), list(values.values()))
    hashes = [f"{h}{' changed' * (i in changed)}" for i, h in zip(values, _hashes(rows), strict=True)]
    rows = rows.set_column(rows.schema.get_field_index("content_hash"), "content_hash", pa.array(hashes))
    store.commit(store.add_version(spec), rows, replace=True)
    store.set_current(spec.name, spec.fingerprint)


def put_items(store: Store, *ids: str) -> None:
    store.put_catalog(
        pa.Table.from_pylist([{"item_id": i} for i in ids], schema=CATALOG_SCHEMA), {"name": "d"}
    )


def _hashes(rows: pa.Table) -> list[str]:
    return rows["content_hash"].to_pylist()


def only(store: Store, before: str) -> FeatureDiff:
    (found,) = diff(store.at(before), store).features
    return found


def test_items_rows_contents_and_statuses_are_named(store: Store) -> None:
    spec = vector_spec()
    put_items(store, "a", "b", "c", "d")
    put(store, spec, {"d": [1, 0, 0, 0], "b": [1, 0, 0, 0], "c": None, "a": [1, 0, 0, 0]})
    store.create_snapshot("old")
    put_items(store, "a", "b", "c", "d", "z", "e")
    put(store, spec, {"e": [1, 1, 1, 1], "d": [1, 1, 0, 0], "c": [1, 0, 0, 0], "b": None}, changed=("d", "b"))
    found = diff(store.at("old"), store)
    assert (found.added, found.gone) == (["z", "e"], [])
    (feature,) = found.features
    assert (feature.before, feature.after, feature.spec) == (spec.version, spec.version, {})
    assert (feature.added, feature.gone, feature.changed) == (["e"], [], ["b", "d"])
    assert feature.status == {"failed -> ok": 1, "ok -> failed": 1}
    back = diff(store, store.at("old"))
    assert (back.added, back.gone) == ([], ["z", "e"])
    assert (back.features[0].added, back.features[0].gone) == ([], ["e"])


def test_drift_is_the_cosine_of_items_that_have_both_vectors(store: Store) -> None:
    old, new = vector_spec(dtype="float32"), vector_spec(dtype="float32", method_version=2)
    put(store, old, {"a": [1, 0, 0, 0], "b": [2, 0, 0, 0], "c": [0, 5, 0, 0], "d": None, "e": [1, 1, 1, 1],
                     "f": [3, 1, 2, 5], "z": [0, 0, 0, 0]})  # fmt: skip
    store.create_snapshot("old")
    put(store, new, {"z": [1, 0, 0, 0], "f": [3, 1, 2, 5], "c": [0, -1, 0, 0], "b": [3, 4, 0, 0],
                     "a": [0, 1, 0, 0], "d": [1, 0, 0, 0], "e": None})  # fmt: skip
    feature = only(store, "old")
    drift = feature.drift
    assert drift is not None and feature.no_drift == ""
    # a: 0, b: 0.6, c: -1, f: 1; d and e have one vector only, z's first has no direction.
    assert (drift.items, drift.no_direction) == (4, 1)
    assert drift.mean == pytest.approx(0.15, abs=1e-15)
    assert drift.minimum == -1.0
    assert drift.quantiles == pytest.approx({"0.01": -0.97, "0.05": -0.85, "0.25": -0.25, "0.5": 0.3})
    assert feature.spec == {"method_version": (1, 2)}


def test_unchanged_rows_have_a_cosine_of_exactly_one(store: Store) -> None:
    vectors = np.random.default_rng(0).standard_normal((500, 4)).astype(np.float16)
    put(store, vector_spec(), {str(k): list(v) for k, v in enumerate(vectors)})
    store.create_snapshot("old")
    store.finish(store.resolve("clip_image"))
    drift = only(store, "old").drift
    assert drift is not None
    assert (drift.items, drift.mean, drift.minimum, set(drift.quantiles.values())) == (500, 1.0, 1.0, {1.0})


@given(st.lists(st.floats(-(2.0**50), 2.0**50, width=32), min_size=3, max_size=3))
def test_a_vector_and_itself_have_the_cosine_one_at_any_scale(numbers: list[float]) -> None:
    row = np.array([numbers], np.float32)
    (found,) = cosines(row, row)
    assert found == 1.0 or (np.isnan(found) and (row.astype(np.float64) ** 2).sum() < 1e-150)


def test_what_has_no_cosine_says_why(store: Store, tmp_path: Path) -> None:
    put(store, vector_spec(dims=4), {"a": [1, 0, 0, 0]})
    put(store, text_spec(), {"a": "a cube"})
    put(store, vector_spec("gone_soon"), {"a": [1, 0, 0, 0]})
    put(store, vector_spec("empty"), {"a": None})
    store.create_snapshot("old")
    put(store, vector_spec(dims=8), {"a": [1] * 8})
    put(store, text_spec(), {"a": "a ball"})
    other = Store.open(str(tmp_path / "other"), create=True)
    with other.lease("test"):
        put(other, vector_spec("added"), {"a": [1, 0, 0, 0]})
    found = {f.name: f for f in diff(store.at("old"), store).features}
    assert {name: f.drift for name, f in found.items() if name != "gone_soon"} == {
        "caption": None, "clip_image": None, "empty": None,
    }  # fmt: skip
    assert "has 4 dims" in found["clip_image"].no_drift and "8" in found["clip_image"].no_drift
    assert found["caption"].no_drift == f"{text_spec().version} is of the kind caption"
    assert found["empty"].no_drift == "no item has a vector in both"
    lone = {f.name: f for f in diff(store, other).features}
    assert (lone["added"].before, lone["added"].added) == (None, ["a"])
    assert (lone["gone_soon"].after, lone["gone_soon"].gone) == (None, ["a"])
    assert lone["added"].no_drift == lone["gone_soon"].no_drift == "it is in one of the two only"


def test_spec_changes_name_the_fields_that_decide_values() -> None:
    old = vector_spec().with_options(normalize=False)
    new = old.with_options(normalize=True, pooling="cls").model_copy(
        update={
            "output": VectorOut(dims=8, dtype="float16"),
            "weights": old.weights.model_copy(update={"ref": "seed=1", "location": "/elsewhere"}),
            "inputs": (Input(source="cover", modality="image"), Input(source="title", modality="text")),
        }
    )
    assert spec_changes(old, new) == {
        "inputs.order": (None, ["cover", "title"]),
        "inputs.title.modality": (None, "text"),
        "inputs.title.source": (None, "title"),
        "normalize": (False, True),
        "output.dims": (4, 8),
        "pooling": (None, "cls"),
        "weights.ref": ("seed=0", "seed=1"),
    }
    moved = old.model_copy(update={"weights": old.weights.model_copy(update={"location": "/elsewhere"})})
    assert spec_changes(old, moved) == {}

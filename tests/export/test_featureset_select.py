"""Selections on feature sets, and the feature set as an Arrow table."""

import json
from dataclasses import replace

import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.echo import column, value
from sklearn.decomposition import PCA

from mmfeat.export.select import cut, join, project, quantize, take
from mmfeat.schemas.errors import UnknownItems, UsageError
from mmfeat.schemas.featureset import FeatureSet
from mmfeat.schemas.featureset.arrow import from_arrow, json_schema, to_arrow

IDS = [f"i{k}" for k in range(40)]
MASK = np.arange(40) % 5 != 0


def features(**kinds):
    return FeatureSet(IDS, {name: column(IDS, name, kind, mask=MASK) for name, kind in kinds.items()})


def test_taken_items_keep_their_own_values_in_the_order_asked():
    found = take(features(f="vector", t="text"), ["i7", "i1", "i5"])
    np.testing.assert_array_equal(found["f"].matrix[0], value("i7", "vector", "f"))
    assert found["t"].texts == ["t of i7", "t of i1", None]
    assert found["f"].mask.tolist() == [True, True, False]
    with pytest.raises(UnknownItems, match="'z'"):
        take(found, ["z"])


def test_a_join_concatenates_unit_vectors_and_needs_every_part():
    parts = features(a="vector", b="vector")
    parts.columns["b"] = column(IDS, "b", mask=np.arange(40) % 2 == 0)
    found = join(parts, ["a", "b"], "ab")["ab"]
    np.testing.assert_array_equal(found.mask, MASK & (np.arange(40) % 2 == 0))
    a, b = (value("i2", "vector", n) for n in "ab")
    np.testing.assert_allclose(
        found.matrix[2], [*(a / np.linalg.norm(a)), *(b / np.linalg.norm(b))], rtol=1e-6
    )
    assert (found.spec.dims, [s.name for s in found.steps[0].inputs]) == (16, ["a", "b"])
    assert (found.status[3], found.status[0]) == ("missing", "missing")


def test_joins_of_other_features_have_other_fingerprints():
    parts = features(a="vector", b="vector")
    one = join(parts, ["a", "b"], "x")["x"].spec.fingerprint
    assert one != join(parts, ["b", "a"], "x")["x"].spec.fingerprint
    assert one != join(cut(parts, "a", 4), ["a", "b"], "x")["x"].spec.fingerprint


def test_a_cut_keeps_the_first_dims_at_unit_length():
    found = cut(features(f="vector"), "f", 3)["f"]
    own = value("i1", "vector", "f")[:3]
    np.testing.assert_allclose(found.matrix[1], own / np.linalg.norm(own), rtol=1e-6)
    assert found.steps[0].params == {"dims": 3, "normalized": True}
    with pytest.raises(UsageError, match="8 dims, so 9"):
        cut(features(f="vector"), "f", 9)


def test_a_projection_agrees_with_scikit_learn_and_can_be_repeated_from_its_step():
    given = features(f="vector")
    found = project(given, "f", 3)["f"]
    reference = PCA(3, svd_solver="full").fit(given["f"].matrix[MASK])
    np.testing.assert_allclose(
        np.abs(found.matrix[MASK]), np.abs(reference.transform(given["f"].matrix[MASK])), atol=1e-2
    )
    arrays = found.steps[0].arrays
    np.testing.assert_allclose(
        arrays["explained_variance_ratio"], reference.explained_variance_ratio_, rtol=1e-4
    )
    again = (given["f"].matrix[MASK] - arrays["mean"]) @ arrays["components"].T
    np.testing.assert_allclose(found.matrix[MASK], again, rtol=1e-5, atol=1e-3)
    assert np.isnan(found.matrix[~MASK]).all()


@pytest.mark.parametrize("scale", ["row", "matrix"])
def test_quantised_values_come_back_to_within_half_a_scale(scale):
    given = features(f="vector")
    found = quantize(given, "f", scale)["f"]
    scales = found.steps[0].arrays["scale"]
    assert found.matrix.dtype == np.int8
    assert scales.shape == ((40,) if scale == "row" else (1,))
    back = found.matrix * np.broadcast_to(scales, (40,))[:, None]
    error = np.abs(back[MASK] - given["f"].matrix[MASK])
    assert (error <= np.broadcast_to(scales, (40,))[MASK, None] * 0.5001).all()
    assert np.abs(found.matrix).max() == 127
    assert not found.matrix[~MASK].any()


def test_a_scale_per_row_follows_its_item():
    small = quantize(features(f="vector"), "f")
    taken = take(small, ["i9", "i3"])["f"]
    own = value("i9", "vector", "f")
    np.testing.assert_allclose(taken.matrix[0] * taken.steps[0].arrays["scale"][0], own, atol=1.01)


def test_steps_add_up_and_quantising_comes_last():
    done = quantize(cut(features(f="vector"), "f", 4), "f")
    assert [s.op for s in done["f"].steps] == ["cut", "quantize"]
    with pytest.raises(UsageError, match="integers"):
        cut(done, "f", 2)


# -- Arrow


def assert_same(left: FeatureSet, right: FeatureSet):
    assert left.ids == right.ids
    assert list(left) == list(right)
    for name in left:
        one, two = left[name], right[name]
        assert (one.spec, one.licence) == (two.spec, two.licence)
        np.testing.assert_array_equal(one.mask, two.mask)
        np.testing.assert_array_equal(one.status, two.status)
        np.testing.assert_array_equal(one.reason, two.reason)
        if isinstance(one.values, list):
            assert one.values == two.values
        else:
            assert one.matrix.dtype == two.matrix.dtype
            np.testing.assert_array_equal(one.matrix, two.matrix)
        for a, b in zip(one.steps, two.steps, strict=True):
            assert (a.op, a.params, a.inputs) == (b.op, b.params, b.inputs)
            for key in a.arrays:
                np.testing.assert_array_equal(a.arrays[key], b.arrays[key])


def everything():
    found = quantize(features(f="vector", h="vectors", t="text", c="codes"), "f")
    half = replace(column(IDS, "half"), values=np.ones((40, 8), np.float16), licence="MIT")
    return FeatureSet(IDS, {**found.columns, "half": half})


def test_a_feature_set_survives_arrow_and_a_parquet_file(tmp_path):
    given = everything()
    assert_same(from_arrow(to_arrow(given)), given)
    pq.write_table(to_arrow(given), tmp_path / "x.parquet")
    assert_same(from_arrow(pq.read_table(tmp_path / "x.parquet")), given)


def test_it_is_read_with_pyarrow_alone(tmp_path):
    pq.write_table(to_arrow(features(f="vector", h="vectors")), tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    rows = {r["item_id"]: r for r in table.to_pylist()}
    assert rows["i0"]["f"] is None
    assert rows["i0"]["f.status"] == "missing"
    np.testing.assert_array_equal(rows["i3"]["f"], value("i3", "vector", "f"))
    np.testing.assert_array_equal(rows["i3"]["h"], value("i3", "vectors", "h"))
    assert table.schema.metadata[b"mmfeat.featureset.version"] == b"2"
    frame = table.to_pandas()
    np.testing.assert_array_equal(np.stack(frame["f"].dropna())[0], value("i1", "vector", "f"))


def test_its_metadata_is_what_the_json_schema_says():
    document = json.loads(to_arrow(everything()).schema.metadata[b"mmfeat.featureset"])
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(document, json_schema())
    document["features"]["f"].pop("fingerprint")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, json_schema())


def test_vectors_are_not_copied():
    given = features(f="vector")
    full = FeatureSet(IDS, {"f": column(IDS, "f")})
    values = to_arrow(full)["f"].chunk(0).flatten()
    assert values.buffers()[1].address == full["f"].matrix.ctypes.data
    assert given["f"].matrix is not full["f"].matrix


@pytest.mark.parametrize(("version", "why"), [(None, "no FeatureSet"), (b"3", "version 3")])
def test_another_table_or_version_is_refused(version, why):
    table = to_arrow(features(f="vector"))
    metadata = {k: v for k, v in table.schema.metadata.items() if k != b"mmfeat.featureset.version"}
    if version:
        metadata[b"mmfeat.featureset.version"] = version
    with pytest.raises(UsageError, match=why):
        from_arrow(table.replace_schema_metadata(metadata))

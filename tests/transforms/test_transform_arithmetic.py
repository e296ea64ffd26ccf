"""The arithmetic of transforms: as scikit-learn has it, and of each item by itself, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from mmfeat.export.formats.muse import Muse
from mmfeat.export.select import cut, join, project
from mmfeat.extract.fitted.transforms import Vectors
from mmfeat.extract.fitted.vectors import nearest_kept, projected, rounded, scaled_to_maximum, truncated
from mmfeat.extract.registry import METHODS, resolve_one
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import FeatureColumn, FeatureSet
from mmfeat.schemas.inputs import Input
from mmfeat.schemas.outputs import VectorOut
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec, Weights

RNG = np.random.default_rng(0)
DIMS, N = 12, 200
# Far from the origin and of uneven variances, as models' vectors are.
X = (RNG.standard_normal((N, DIMS)) * np.linspace(3, 0.1, DIMS) + 5).astype(np.float32)
Y = (RNG.standard_normal((N, 7)) + 1).astype(np.float32)
TABLES = {
    "pca": {"source": "x", "transform": "pca", "dims": 5},
    "whiten": {"source": "x", "transform": "whiten", "dims": 5},
    "truncate": {"source": "x", "transform": "truncate", "dims": 5},
    "maximum": {"source": "x", "transform": "int8"},
    "round": {"source": "x", "transform": "int8", "rule": "round"},
    "fuse": {"inputs": ["x", "y"], "transform": "fuse"},
    "sum": {"inputs": ["x", "z"], "transform": "fuse", "mode": "sum", "weights": [2.0, 1.0]},
}


def spec_of(name: str, dims: int) -> FeatureSpec:
    return FeatureSpec(
        name=name, inputs=[Input(source="title", modality="text")], output=VectorOut(dims=dims),
        method="m", model=name, weights=Weights(origin="random", ref="seed=0"),
    )  # fmt: skip


PARTS = {"x": X, "y": Y, "z": X[::-1].copy()}


def fitted(table: dict, parts: list[np.ndarray] | None = None):
    upstreams = {name: spec_of(name, part.shape[1]) for name, part in PARTS.items()}
    recipe = resolve_one("made", FeatureConfig(**table), upstreams)
    chosen = parts or [PARTS[name] for name in recipe.sources]
    vectors = Vectors(
        len(chosen[0]), sum(p.shape[1] for p in chosen), lambda at: tuple(p[at] for p in chosen)
    )
    return METHODS["transform"].get(table["transform"]).fit(recipe, vectors), chosen


def made(table: dict, parts: list[np.ndarray] | None = None) -> np.ndarray:
    transform, chosen = fitted(table, parts)
    return transform.apply(chosen)


def column(name: str) -> FeatureColumn:
    n = len(PARTS[name])
    return FeatureColumn(
        spec_of(name, PARTS[name].shape[1]),
        PARTS[name],
        np.ones(n, bool),
        np.full(n, "ok", object),
        np.full(n, "", object),
    )


SET = FeatureSet([str(n) for n in range(N)], {name: column(name) for name in PARTS})


def test_pca_is_scikit_learns():
    theirs = PCA(5, svd_solver="full").fit(X.astype(np.float64))
    transform, _ = fitted(TABLES["pca"])
    assert np.allclose(transform.apply([X]), theirs.transform(X.astype(np.float64)), atol=1e-5)
    assert transform.facts["variance_kept"] == pytest.approx(theirs.explained_variance_ratio_.sum(), rel=1e-5)


def test_whitening_is_scikit_learns_without_regularization():
    theirs = PCA(DIMS, svd_solver="full", whiten=True).fit_transform(X.astype(np.float64))
    ours = made({"source": "x", "transform": "whiten", "regularization": 0})
    assert np.allclose(ours, theirs, atol=1e-4)
    assert np.allclose(np.cov(ours.T), np.eye(DIMS), atol=1e-3)


def test_a_direction_without_variance_is_refused_or_regularised():
    flat = X.copy()
    flat[:, 3] = 1
    table = {"source": "x", "transform": "whiten"}
    with pytest.raises(UsageError, match="do not differ in all 12 directions"):
        made({**table, "regularization": 0}, [flat])
    assert np.abs(made(table, [flat])).max() < 10


@pytest.mark.parametrize("table", [TABLES["pca"], TABLES["whiten"]])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
def test_vectors_that_agree_have_no_components(table, value):
    with pytest.raises(UsageError, match="all vectors of x are the same"):
        fitted(table, [np.full((N, DIMS), value, np.float32)])


def test_exports_project_join_and_cut_by_the_same_arithmetic():
    theirs = project(SET, "x", 5)["x"].matrix
    assert np.array_equal(made(TABLES["pca"]), theirs)
    assert np.array_equal(made({"source": "x", "transform": "project", "dims": 5}), theirs)
    unit = {**TABLES["fuse"], "scale": "unit"}
    assert np.array_equal(made(unit), join(SET, ["x", "y"], "xy")["xy"].matrix)
    assert np.array_equal(made(TABLES["truncate"]), cut(SET, "x", 5)["x"].matrix)


def test_inputs_count_alike_however_narrow_their_cone_is():
    narrow = (Y * 0.01 + 1).astype(np.float32)
    whole = made(TABLES["fuse"], [X, narrow])
    shares = [np.square(part - part.mean(0)).sum() for part in (whole[:, :DIMS], whole[:, DIMS:])]
    assert shares[0] == pytest.approx(shares[1], rel=1e-3)
    heavy = made({**TABLES["fuse"], "weights": [2.0, 1.0]}, [X, narrow])
    assert np.allclose(heavy[:, :DIMS], 2 * whole[:, :DIMS], rtol=1e-6)


def test_a_sum_is_of_normalised_vectors_by_their_weights():
    x, z = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (X, PARTS["z"]))
    assert np.allclose(made({**TABLES["sum"], "scale": "unit"}), 2 * x + z, atol=1e-6)


def test_vectors_with_one_direction_have_no_scale():
    with pytest.raises(UsageError, match="all vectors of y have the same direction"):
        made(TABLES["fuse"], [X, np.ones_like(Y)])


def test_the_rules_of_int8_and_that_scaling_to_the_maximum_loses_least():
    vectors = RNG.standard_normal((600, 128)).astype(np.float32)
    assert np.array_equal(truncated(vectors), Muse().convert("item", vectors))
    kept = [nearest_kept(vectors, rule(vectors)) for rule in (truncated, rounded, scaled_to_maximum)]
    assert kept[0] < kept[1] < kept[2]
    assert (scaled_to_maximum(vectors) == 127).any(axis=1).sum() + (scaled_to_maximum(vectors) == -127).any(
        axis=1
    ).sum() >= 600
    transform, _ = fitted(TABLES["maximum"])
    assert transform.facts["nearest_kept"] > 0.9
    assert np.array_equal(transform.apply([X]).astype(np.int8), scaled_to_maximum(X))


@pytest.mark.parametrize("name", TABLES)
def test_an_items_vector_is_the_same_in_every_batch_bit_by_bit(name):
    transform, parts = fitted(TABLES[name])
    whole = transform.apply(parts)
    for start, size in ((0, 1), (7, 1), (3, 2), (11, 5), (40, 100), (199, 1)):
        some = transform.apply([part[start : start + size] for part in parts])
        assert some.tobytes() == whole[start : start + size].tobytes()


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 300).flatmap(
        lambda d: st.tuples(st.just(d), st.integers(1, min(d, 40)), st.integers(0, 2**31))
    ),
    st.floats(-30, 30),
)
def test_a_projection_is_the_same_in_every_batch_and_as_exact_as_float64(shape, exponent):
    dims, kept, seed = shape
    rng = np.random.default_rng(seed)
    matrix = (rng.standard_normal((9, dims)) * 10.0**exponent).astype(np.float32)
    components = np.linalg.qr(rng.standard_normal((dims, dims)))[0][:kept].astype(np.float32)
    mean = matrix.mean(axis=0)
    whole = projected(matrix, mean, components)
    for row in range(9):
        assert projected(matrix[row : row + 1], mean, components).tobytes() == whole[row].tobytes()
    exact = (matrix.astype(np.float64) - mean) @ components.T.astype(np.float64)
    largest = np.abs(matrix.astype(np.float64) - mean).max(axis=1, keepdims=True)
    assert (np.abs(whole - exact) <= 1e-9 * largest).all()


def test_fewer_items_than_components_are_refused():
    with pytest.raises(UsageError, match="4 items with x are too few for 5 components"):
        made(TABLES["pca"], [X[:4]])

"""Token vectors stored as int8: compact, looked up and searched as float32, and near the real ones."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from helpers import worlds
from helpers.storing import token_spec, vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from test_store_maxsim import brute_force

from mmfeat.extract.registry import resolve_all
from mmfeat.pipelines.execution.batch import encoded
from mmfeat.pipelines.execution.commit import computed_rows
from mmfeat.schemas.catalog import Column
from mmfeat.schemas.errors import ConfigError, UsageError
from mmfeat.schemas.featureset.arrow import from_arrow, to_arrow
from mmfeat.schemas.int8 import SCALE_BYTES, packed, unpacked
from mmfeat.schemas.spec import FeatureConfig
from mmfeat.store import FeatureVersion, Store

DIMS = 128
EACH = {**worlds.CLIP, "source": "photos", "pictures": "each"}
PHOTOS = {"photos": Column("photos", "image", several=True), "cover": Column("cover", "image")}
NUMBERS = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)


def filled(store: Store, items: list[np.ndarray]) -> FeatureVersion:
    """A version whose rows went the way of a run's results."""
    spec = token_spec(dims=items[0].shape[1], dtype="int8")
    version = store.add_version(spec)
    results = pa.Table.from_pylist([vars(encoded(spec, own, None)) for own in items])
    ids, stamps = (pa.array([f"{k:05d}" for k in range(len(items))]), pa.array([""] * len(items)))
    store.commit(version, computed_rows(spec, results, ids, stamps), replace=False)
    return version


def ragged(number: int, seed: int = 0) -> list[np.ndarray]:
    """Vectors around a few centres, as tokens lie."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((40, DIMS))
    counts = rng.integers(1, 30, number)
    return [
        (centres[rng.integers(0, 40, n)] + 0.7 * rng.standard_normal((n, DIMS))).astype(np.float32)
        for n in counts
    ]


@settings(deadline=None)
@given(rows=st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=8))
def test_no_number_is_off_by_more_than_half_a_step_of_its_vector(rows):
    exact = np.array(rows, np.float32)
    stored = packed(exact)
    assert (stored.dtype, stored.shape) == (np.int8, (len(rows), 3 + SCALE_BYTES))
    step = np.abs(exact.astype(np.float64)).max(axis=1, keepdims=True) / 127
    off = np.abs(unpacked(stored).astype(np.float64) - exact)
    assert (off <= 0.5001 * step + 1e-35).all()
    assert (unpacked(stored)[exact == 0] == 0).all()


def test_vectors_take_a_byte_a_number_and_four_and_come_back_as_float32(store):
    items = ragged(60)
    version = filled(store, items)
    (value,) = (encoded(version.spec, items[0], None).value,)
    assert len(value) == len(items[0]) * (DIMS + 4)
    found = store.lookup(["00003", "00001"], [version.version])[version.name]
    for own, exact in zip(found.tokens, (items[3], items[1]), strict=True):
        assert own.dtype == np.float32
        assert worlds.cosines(own, exact).min() > 0.9999
    assert found.ragged.values.dtype == np.float32
    assert found.to_padded()[0].dtype.is_floating_point


def test_a_search_finds_what_brute_force_over_the_looked_up_values_finds(store):
    version = filled(store, ragged(300))
    looked_up = store.lookup([f"{k:05d}" for k in range(300)], [version.version])[version.name].tokens
    for number, k in ((1, 10), (32, 25), (5, 1000)):
        query = vectors(number, DIMS, "float64", seed=number)
        hits = store.search(version, query, k=k)
        scores = brute_force(looked_up, query)
        np.testing.assert_allclose([h.score for h in hits], np.sort(scores)[::-1][:k], atol=1e-5)


def test_int8_keeps_the_neighbours_of_the_full_vectors(store):
    items = ragged(400)
    version = filled(store, items)
    kept = []
    for seed in range(10):
        query = ragged(1, seed=100 + seed)[0]
        true = set(np.argsort(-brute_force(items, query))[:10].tolist())
        kept.append(len(true & {int(hit.item_id) for hit in store.search(version, query, k=10)}) / 10)
    assert np.mean(kept) >= 0.95


def test_what_is_exported_is_what_is_looked_up(store):
    found = store.lookup(["00000", "00001"], [filled(store, ragged(2)).version])
    again = from_arrow(to_arrow(found))
    for name in found:
        for own, other in zip(found[name].tokens, again[name].tokens, strict=True):
            np.testing.assert_array_equal(own, other)
            assert other.dtype == np.float32


def test_an_index_of_int8_vectors_is_refused_and_says_what_to_do(store):
    with pytest.raises(UsageError, match="stored as int8") as refused:
        store.build_vector_index(filled(store, ragged(3)))
    assert "float16" in refused.value.hint


def test_int8_is_for_many_vectors_and_changes_no_other_fingerprint():
    def spec(**table):
        return resolve_all({"f": FeatureConfig(**table)}, PHOTOS)[0]

    assert spec(**EACH).fingerprint == spec(**EACH, store_dtype="float32").fingerprint
    stored = spec(**EACH, store_dtype="int8")
    assert stored.fingerprint != spec(**EACH).fingerprint
    assert (stored.store_dtype, stored.value_dtype) == ("int8", "float32")
    with pytest.raises(ConfigError, match="goes with any number of vectors"):
        spec(**worlds.CLIP, store_dtype="int8")


def test_vectors_that_are_no_numbers_are_refused_and_zeros_stay_zeros():
    spec = token_spec(dims=2, dtype="int8")
    assert encoded(spec, np.array([[np.nan, 1.0]]), None).reason == "the model gave NaN or infinity"
    np.testing.assert_array_equal(unpacked(packed(np.zeros((2, 2)))), np.zeros((2, 2)))

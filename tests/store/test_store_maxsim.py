"""Searches of features with any number of vectors per item are what NumPy's brute force finds."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from helpers.storing import CREATED, make_rows, token_spec, vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfeat.feature_store import FeatureStore
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset.arrow import token_array
from mmfeat.store import FeatureVersion, Store, rows_schema

DIMS = 5


def ragged(
    counts: Sequence[int], dims: int = DIMS, dtype: str = "float16", seed: int = 0
) -> list[np.ndarray]:
    return [vectors(n, dims, dtype, seed=1000 * seed + k) for k, n in enumerate(counts)]


def fill(store: Store, items: Sequence[np.ndarray], name: str = "late") -> FeatureVersion:
    """A version with one row per item, ``00000`` on, and a failed one."""
    spec = token_spec(name, items[0].shape[1], str(items[0].dtype))
    version = store.add_version(spec)
    ids = [f"{k:05d}" for k in range(len(items))]
    rows = make_rows(spec, [*ids, "failed"], [*map(list, items), None])
    store.commit(version, rows, replace=False)
    return version


def brute_force(items: Sequence[np.ndarray], query: np.ndarray) -> np.ndarray:
    """The MaxSim of every item, in float64; -inf of one whose vectors are all zero."""
    asked = np.atleast_2d(query).astype(np.float64)
    scores = []
    for own in items:
        exact = own.astype(np.float64)[own.any(axis=1)]
        cosines = exact @ asked.T / np.outer(np.linalg.norm(exact, axis=1), np.linalg.norm(asked, axis=1))
        scores.append(cosines.max(axis=0).sum() if len(exact) else -np.inf)
    return np.array(scores)


def check_hits(store: Store, version: FeatureVersion, items: Sequence[np.ndarray], query: np.ndarray, k: int):
    """What is found are the best of the brute force, in their order."""
    scores = brute_force(items, query)
    hits = store.search(version, query, k=k)
    found = np.array([h.score for h in hits])
    best = np.sort(scores[np.isfinite(scores)])[::-1][:k]
    np.testing.assert_allclose(found, best, atol=1e-9)
    np.testing.assert_allclose([scores[int(h.item_id)] for h in hits], found, atol=1e-9)
    assert hits == sorted(hits, key=lambda h: (-h.score, h.item_id))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_a_search_finds_what_brute_force_finds_whatever_the_number_of_vectors(store, dtype, scale):
    counts = np.random.default_rng(1).integers(1, 40, 400)
    items = [(own * scale).astype(dtype) for own in ragged(counts, dims=17)]
    version = fill(store, items)
    for number, k in ((1, 10), (3, 1), (32, 25), (7, 1000)):
        check_hits(store, version, items, vectors(number, 17, "float64", seed=number) * 1e6, k)


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(1, 6), min_size=1, max_size=12),
    number=st.integers(1, 5),
    k=st.integers(1, 14),
    zero=st.lists(st.booleans(), min_size=72, max_size=72),
    few=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_any_ragged_vectors_are_ranked_as_by_brute_force(
    tmp_path_factory, counts, number, k, zero, few, seed
):
    rng = np.random.default_rng(seed)
    # Few directions make many items equally near.
    draw = (lambda n: rng.integers(-1, 2, (n, 3))) if few else (lambda n: rng.standard_normal((n, 3)))
    flat = draw(sum(counts)).astype(np.float16)
    flat[np.array(zero[: len(flat)]) & (rng.random(len(flat)) < 0.3)] = 0
    items = np.split(flat, np.cumsum(counts)[:-1])
    store = Store.open(str(tmp_path_factory.mktemp("ragged") / "store"), create=True)
    with store.lease("test"):
        version = fill(store, items)
        check_hits(store, version, items, rng.standard_normal((number, 3)), k)


def test_items_whose_vectors_differ_by_less_than_float32_tells_are_ranked_exactly(store):
    # Scores that differ in the seventh digit, of sums of 16 cosines.
    rng = np.random.default_rng(3)
    base = 1 + 0.01 * rng.standard_normal((8, 64))
    items = [(base + 1e-6 * rng.standard_normal((8, 64))).astype(np.float32) for _ in range(300)]
    version = fill(store, items)
    query = 1 + 0.01 * rng.standard_normal((16, 64))
    order = np.argsort(-brute_force(items, query))[:20]
    assert [int(h.item_id) for h in store.search(version, query, k=20)] == order.tolist()
    half = [own.astype(np.float16) for own in items]
    check_hits(store, fill(store, half, "half"), half, query, 20)


def test_equal_items_come_in_the_order_of_ids_wherever_they_are_stored(store):
    own = vectors(9, 33)
    # The same vectors, in other orders and beside others: 7 rows of each kind.
    items = [own[np.random.default_rng(k).permutation(9)] for k in range(200)]
    version = fill(store, items)
    hits = store.search(version, vectors(4, 33, seed=5), k=7)
    assert [h.item_id for h in hits] == [f"{k:05d}" for k in range(7)]
    assert len({h.score for h in hits}) == 1


def test_one_vector_is_a_query_too(store):
    items = ragged([3, 1, 4, 2])
    version = fill(store, items)
    query = vectors(1, DIMS, seed=9)[0]
    assert store.search(version, query) == store.search(version, query[None])
    check_hits(store, version, items, query, 4)


def test_what_is_left_out_makes_room_for_the_next(store):
    items = ragged([1, 2, 3, 4, 5, 6])
    version = fill(store, items)
    query = vectors(2, DIMS, seed=8)
    everything = [h.item_id for h in store.search(version, query, k=6)]
    assert [h.item_id for h in store.search(version, query, k=2, exclude=everything[:3])] == everything[3:5]
    few = [everything[5], everything[2], "unknown"]
    assert [h.item_id for h in store.search(version, query, k=2, among=few)] == everything[2::3]
    assert store.search(version, query, among=[]) == []
    assert store.search(store.add_version(token_spec("empty", DIMS)), query) == []


def test_an_item_is_searched_by_all_of_its_own_vectors_and_is_nearest_to_itself(store):
    items = ragged([2, 5, 3, 7])
    version = fill(store, items)
    hit = store.search(version, items[1], k=1)[0]
    assert hit.item_id == "00001" and hit.score == pytest.approx(5, abs=1e-9)
    found = FeatureStore(store).search("late", vector=items[1], k=4)
    assert [h.item_id for h in found[1:]] == [
        h.item_id for h in FeatureStore(store).search("late", item="00001")
    ]


def test_senseless_queries_are_refused(store):
    version = fill(store, ragged([2, 3]))
    for query, message in (
        (np.ones(4), "vectors of 5 dims"),
        (np.ones((1, 2, DIMS)), r"the shape \(1, 2, 5\)"),
        (np.empty((0, DIMS)), r"the shape \(0, 5\)"),
        (np.array([[1.0] * DIMS, [0.0] * DIMS]), "no direction"),
        (np.full((2, DIMS), np.nan), "no direction"),
    ):
        with pytest.raises(UsageError, match=message):
            store.search(version, query)
    with pytest.raises(UsageError, match="k is at least 1"):
        store.search(version, np.ones(DIMS), k=0)


def test_a_search_of_many_vectors_holds_a_part_of_them_at_a_time(store):
    items, of_each, dims = 2000, 100, 64
    values = np.random.default_rng(0).standard_normal((items * of_each, dims)).astype(np.float16)
    spec = token_spec(dims=dims)
    version = store.add_version(spec)
    columns = {field.name: pa.nulls(items, field.type) for field in rows_schema(spec)}
    columns["item_id"] = pa.array([f"{k:05d}" for k in range(items)])
    columns["status"] = pa.array(["ok"] * items)
    columns["tokens"] = token_array(np.split(values, items), (dims,), "float16")
    columns["created"] = pa.array([CREATED] * items, rows_schema(spec).field("created").type)
    store.commit(version, pa.table(columns, schema=rows_schema(spec)), replace=False)
    tracemalloc.start()
    try:
        store.search(version, values[:32], k=10)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # In float32, as they are compared, all of them are 51 MB.
    assert peak < 0.4 * values.size * 4


def test_a_search_through_an_index_scores_exactly_and_finds_the_share_that_it_states(store):
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((60, 16))
    items = [
        (centres[rng.integers(0, 60, n)] + 0.4 * rng.standard_normal((n, 16))).astype(np.float16)
        for n in rng.integers(1, 12, 700)
    ]
    version = fill(store, items)
    index = store.build_vector_index(version, 0.9)
    assert store.vector_index(version) == index and index.rows == 700
    assert index.recall is not None and index.recall >= 0.9
    queries = [centres[rng.integers(0, 60, 6)] + 0.4 * rng.standard_normal((6, 16)) for _ in range(20)]
    shares = []
    for query in queries:
        scores = brute_force(items, query)
        hits = store.search(version, query, k=10)
        np.testing.assert_allclose([scores[int(h.item_id)] for h in hits], [h.score for h in hits], atol=1e-9)
        exact = store.search(version, query, k=10, exact=True)
        shares.append(len({h.item_id for h in hits} & {h.item_id for h in exact}) / 10)
        assert [int(h.item_id) for h in exact] == np.argsort(-scores, kind="stable")[:10].tolist()
    assert np.mean(shares) > index.recall - 0.1
    # What the index does not know of: all items, few of them, and those that came later.
    assert len(store.search(version, queries[0], k=700)) == 700
    few = store.search(version, queries[0], k=3, among=["00001", "00002"])
    assert {h.item_id for h in few} == {"00001", "00002"}
    late = make_rows(version.spec, ["late"], [list(queries[0].astype(np.float16))])
    store.commit(version, late, replace=False)
    for _ in range(2):
        assert store.search(version, queries[0], k=1)[0].item_id == "late"
        store.finish(version)

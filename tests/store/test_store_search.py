from __future__ import annotations

import numpy as np
import pytest
from storing import make_rows, text_spec, vector_spec, vectors

from mmfeat.schemas.errors import UsageError
from mmfeat.store import FeatureVersion, Store


def fill(store: Store, values: np.ndarray, ids: list[str] | None = None) -> FeatureVersion:
    spec = vector_spec(dims=values.shape[1], dtype=str(values.dtype))
    version = store.add_version(spec)
    names = ids or [f"{k:05d}" for k in range(len(values))]
    store.commit(version, make_rows(spec, [*names, "failed"], [*values, None]), replace=False)
    return version


def brute_force(values: np.ndarray, query: np.ndarray, k: int) -> tuple[list[str], np.ndarray]:
    exact = values.astype(np.float64)
    scores = exact @ query / np.linalg.norm(exact, axis=1) / np.linalg.norm(query)
    order = np.argsort(-scores, kind="stable")[:k]
    return [f"{i:05d}" for i in order], scores[order]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_search_is_exact(store: Store, dtype: str, scale: float) -> None:
    values = (vectors(3000, 33, "float64") * scale).astype(dtype)
    version = fill(store, values)
    for seed in range(5):
        query = vectors(1, 33, "float64", seed=100 + seed)[0] * 1e5
        ids, scores = brute_force(values, query, 20)
        hits = store.search(version, query, k=20)
        assert [h.item_id for h in hits] == ids
        np.testing.assert_allclose([h.score for h in hits], scores, atol=1e-12)


def test_vectors_close_together_are_still_ranked_exactly(store: Store) -> None:
    # Cosines that differ by less than Lance's own arithmetic resolves in float16.
    values = (1 + 0.01 * vectors(3000, 64, "float64")).astype(np.float16)
    version = fill(store, values)
    query = np.ones(64) + 0.005 * vectors(1, 64, "float64", seed=9)[0]
    ids, _ = brute_force(values, query, 10)
    assert [h.item_id for h in store.search(version, query)] == ids


def test_equal_scores_come_in_the_order_of_ids(store: Store) -> None:
    values = np.tile(vectors(1, 13), (500, 1))
    names = [f"{k:03d}" for k in np.random.default_rng(0).permutation(500)]
    version = fill(store, values, names)
    hits = store.search(version, vectors(1, 13, seed=5)[0], k=7)
    assert [h.item_id for h in hits] == [f"{k:03d}" for k in range(7)]
    assert len({h.score for h in hits}) == 1


def test_excluded_items_make_room_for_the_next(store: Store) -> None:
    values = vectors(200, 8)
    version = fill(store, values)
    ids, _ = brute_force(values, values[3].astype(np.float64), 30)
    hits = store.search(version, values[3], k=5, exclude=ids[:20])
    assert [h.item_id for h in hits] == ids[20:25]


def test_a_search_for_more_than_there_is_gives_all_vectors(store: Store) -> None:
    version = fill(store, vectors(5))
    assert len(store.search(version, np.ones(4), k=100)) == 5
    empty = store.add_version(vector_spec("empty"))
    assert store.search(empty, np.ones(4)) == []


def test_a_zero_vector_is_never_a_hit(store: Store) -> None:
    values = vectors(300)
    values[7] = 0
    version = fill(store, values)
    for _ in range(2):
        assert "00007" not in {h.item_id for h in store.search(version, np.ones(4), k=300)}
        store.build_vector_index(version)


def test_senseless_queries_are_refused(store: Store) -> None:
    version = fill(store, vectors(5))
    for query, message in (
        (np.ones(5), "vectors of 4 dims"),
        (np.ones((1, 4)), "shape"),
        (np.zeros(4), "no direction"),
        (np.array([1, 2, np.nan, 0]), "no direction"),
        (np.array([1, 2, np.inf, 0]), "no direction"),
    ):
        with pytest.raises(UsageError, match=message):
            store.search(version, query)
    with pytest.raises(UsageError, match="k is at least 1"):
        store.search(version, np.ones(4), k=0)
    with pytest.raises(UsageError, match="no distance"):
        store.search(store.add_version(text_spec()), np.ones(4))


def test_the_vector_index_finds_nearly_what_exact_search_finds(store: Store) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((200, 32))
    values = (centres[rng.integers(0, 200, 20_000)] + 0.5 * rng.standard_normal((20_000, 32))).astype(
        "float16"
    )
    version = fill(store, values)
    queries = values[:30].astype(np.float64) + 0.2 * rng.standard_normal((30, 32))
    exact = [store.search(version, q) for q in queries]
    store.build_vector_index(version)
    found = [store.search(version, q) for q in queries]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)])
    assert recall >= 0.95


def test_rows_after_the_index_was_built_are_found_before_and_after_finish(store: Store) -> None:
    values = vectors(600, 8)
    version = fill(store, values)
    store.build_vector_index(version)
    query = np.arange(1.0, 9.0)
    store.commit(version, make_rows(version.spec, ["late"], [query]), replace=False)
    assert store.search(version, query, k=1)[0].item_id == "late"
    store.commit(version, make_rows(version.spec, ["00005"], [-query]), replace=True)
    for _ in range(2):
        assert store.search(version, query, k=1)[0].item_id == "late"
        assert store.search(version, -query, k=1)[0].item_id == "00005"
        store.finish(version)


def test_an_index_needs_vectors(store: Store) -> None:
    with pytest.raises(UsageError, match="nothing to index"):
        store.build_vector_index(store.add_version(vector_spec()))
    with pytest.raises(UsageError, match="only vector features"):
        store.build_vector_index(store.add_version(text_spec()))

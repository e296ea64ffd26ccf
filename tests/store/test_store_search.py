from __future__ import annotations

from collections.abc import Callable

import lance
import numpy as np
import pytest
from helpers.storing import make_rows, text_spec, vector_spec, vectors

from mmfeat.feature_store import FeatureStore
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.errors import UsageError
from mmfeat.store import FeatureVersion, Store, VectorIndex


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


def clustered(n: int, dims: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((200, dims))
    return (centres[rng.integers(0, 200, n)] + 0.5 * rng.standard_normal((n, dims))).astype("float16")


def recall(store: Store, version: FeatureVersion, queries: np.ndarray, k: int = 10) -> float:
    """Share of what an exact search finds that a search through the index finds too."""
    shares = []
    for query in queries:
        exact, found = (
            {h.item_id for h in store.search(version, query, k, exact=exact)} for exact in (True, False)
        )
        shares.append(len(exact & found) / k)
    return float(np.mean(shares))


def drop_record(store: Store, version: FeatureVersion) -> None:
    """Let the index be one of before recall was measured."""
    table = lance.dataset(f"{store.uri}/{version.table}.lance")
    assert "mmfeat.vector_index" in table.config()
    table.update_config({"mmfeat.vector_index": None})
    store.refresh()


@pytest.mark.parametrize("target", [0.8, 0.98])
@pytest.mark.parametrize("drawn", [vectors, clustered])
def test_an_index_states_the_recall_that_other_queries_than_those_measured_get(
    store: Store, drawn: Callable[[int, int], np.ndarray], target: float
) -> None:
    values = drawn(12_200, 32)
    version = fill(store, values[:12_000])
    index = store.build_vector_index(version, target)
    assert index.recall is not None and index.recall >= target
    assert abs(index.recall - recall(store, version, values[12_000:].astype(np.float64))) < 0.1


@pytest.mark.slow  # the test of other queries above is its short form
def test_vectors_without_clusters_are_found_as_well_as_the_default_target_says(store: Store) -> None:
    values = vectors(60_300, 64)
    version = fill(store, values[:60_000])
    index = store.build_vector_index(version)
    assert (index.target_recall, index.rows) == (0.98, 60_000)
    queries = values[60_000:].astype(np.float64)
    assert recall(store, version, queries) > 0.965
    # What was searched before anything was measured: 32 of the 58 partitions.
    drop_record(store, version)
    assert recall(store, version, queries) < 0.955


def test_a_search_for_many_finds_no_smaller_share_than_one_for_ten(store: Store) -> None:
    version = fill(store, clustered(12_000, 32))
    index = store.build_vector_index(version)
    queries = vectors(10, 32, "float64", seed=7)
    assert index.probes < 11
    assert recall(store, version, queries, k=200) > 0.97
    assert len(store.search(version, queries[0], k=12_000)) == 12_000


def test_an_exact_search_compares_with_every_vector_whatever_the_index_finds(store: Store) -> None:
    values = vectors(6000, 64)
    version = fill(store, values)
    store.build_vector_index(version, target_recall=0.3)
    for query in vectors(20, 64, "float64", seed=3):
        ids, _ = brute_force(values, query, 10)
        assert [h.item_id for h in store.search(version, query, exact=True)] == ids


def test_the_record_of_an_index_is_read_by_others_and_goes_with_a_snapshot(store: Store) -> None:
    version = fill(store, vectors(300, 8))
    assert store.vector_index(version) is None
    index = store.build_vector_index(version, target_recall=0.9)
    store.create_snapshot("first")
    store.commit(version, make_rows(version.spec, ["late"], [np.ones(8)]), replace=True)
    store.finish(version)
    for reader in (store, Store.open(store.uri), store.at("first")):
        assert reader.vector_index(version) == index


def test_an_index_that_an_earlier_version_built_is_used_and_its_recall_is_unknown(store: Store) -> None:
    values = clustered(3000, 16)
    version = fill(store, values)
    store.build_vector_index(version)
    drop_record(store, version)
    index = store.vector_index(version)
    assert index is not None and (index.recall, index.missed) == (None, None)
    assert "unknown" in str(index)
    assert recall(store, version, values[:10].astype(np.float64)) > 0.97


def test_duplicates_and_zero_vectors_do_not_mar_what_an_index_states(store: Store) -> None:
    values = np.repeat(vectors(100, 8), 30, axis=0)
    values[::7] = 0
    assert store.build_vector_index(fill(store, values)).recall == 1.0


def test_a_vector_without_another_is_indexed_and_nothing_is_missed(store: Store) -> None:
    assert store.build_vector_index(fill(store, vectors(1))).recall == 1.0


def test_a_target_that_no_setting_reaches_is_said_and_no_share_is_rounded_up() -> None:
    index = VectorIndex(probes=5, refine=128, recall=0.97999, target_recall=0.98, rows=6000)
    assert "97.9 %" in str(index)
    assert index.missed == "the 98 % asked for"
    assert VectorIndex(5, 8, 0.98, 0.98, 6000).missed is None
    assert "99.9 %" in str(VectorIndex(5, 8, 0.99999, 1.0, 6000))


@pytest.mark.parametrize("target", [0.0, -0.5, 1.01, 98, float("nan")])
def test_a_target_that_is_no_share_is_refused_and_nothing_is_built(store: Store, target: float) -> None:
    version = fill(store, vectors(20))
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        store.build_vector_index(version, target)
    assert store.vector_index(version) is None


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


@pytest.mark.parametrize("k", [10**20, 2**63, float("inf"), float("nan"), 2.5, 0, -1, "10"])
def test_a_search_for_a_number_of_items_that_is_none_is_refused_in_words(store: Store, k: object) -> None:
    version = fill(store, vectors(3, 4))
    store.put_catalog(CATALOG_SCHEMA.empty_table(), {"name": "test"})
    with pytest.raises(UsageError, match="A search for k = "):
        FeatureStore(store).search(version.version, vector=np.ones(4), k=k)
    assert len(FeatureStore(store).search(version.version, vector=np.ones(4), k=10**9)) == 3

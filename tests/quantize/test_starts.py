"""Starts of k-means that are drawn in batches: by the law of k-means++, in few passes over the vectors."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from coded import Coded
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfeat.extract.fitted.codes import ResidualKMeans, residual_kmeans
from mmfeat.extract.fitted.codes.balanced_kmeans import BalancedKMeans
from mmfeat.extract.fitted.codes.starts import starts
from mmfeat.store import Store


class Counted(np.ndarray):
    """Counts the matrix products that it and what is made of it take part in."""

    products = 0

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        Counted.products += ufunc is np.matmul
        plain = [one.view(np.ndarray) if isinstance(one, Counted) else one for one in inputs]
        if "out" in kwargs:
            kwargs["out"] = tuple(one.view(np.ndarray) for one in kwargs["out"])
        made = getattr(ufunc, method)(*plain, **kwargs)
        return made.view(Counted) if isinstance(made, np.ndarray) else made


def test_a_thousand_centroids_are_drawn_in_few_products_with_all_vectors():
    vectors = np.random.default_rng(0).standard_normal((2000, 16)).astype(np.float32)
    Counted.products = 0
    rows = starts(vectors.view(Counted), 1000, 0)
    assert len(set(rows.tolist())) == 1000
    # Of 64 candidates each; one by one there would be a thousand.
    assert 1000 / 64 < Counted.products < 40


def test_starts_are_drawn_as_by_k_means_plus_plus():
    # Distances of very different sizes, so that most of a batch is drawn by what no longer holds.
    vectors = np.array([[0, 0], [1, 0], [0, 2], [8, 0], [9, 1]], np.float32)
    draws = 6000
    found = Counter(tuple(starts(vectors, 3, seed).tolist()) for seed in range(draws))
    expected = {rows: probability(vectors, rows) for rows in permutations(range(len(vectors)), 3)}
    assert abs(sum(expected.values()) - 1) < 1e-9
    for rows, share in expected.items():
        # Five deviations of a binomial count: 60 of them all hold but for one time in 30,000.
        allowed = 5 * np.sqrt(draws * share * (1 - share)) + 1
        assert abs(found[rows] - draws * share) < allowed, rows


def probability(vectors: np.ndarray, rows: tuple[int, ...]) -> float:
    """That k-means++ draws these rows one after the other."""
    found = 1 / len(vectors)
    for n in range(1, len(rows)):
        between = vectors[:, None].astype(np.float64) - vectors[list(rows[:n])]
        nearest = (between**2).sum(axis=2).min(axis=1)
        found *= nearest[rows[n]] / nearest.sum()
    return float(found)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 150), distinct=st.integers(1, 150), offset=st.sampled_from([0, 1e3]), data=st.data())
def test_starts_are_different_rows_whatever_the_vectors(n, distinct, offset, data):
    k = data.draw(st.integers(1, n))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    scale = 10.0 ** data.draw(st.integers(-6, 6))
    made = scale * (rng.standard_normal((distinct, 5)) + offset)
    vectors = made[rng.integers(distinct, size=n)].astype(np.float32)
    rows = starts(vectors, k, 3)
    assert len(set(rows.tolist())) == k and rows.min() >= 0 and rows.max() < n
    np.testing.assert_array_equal(rows, starts(vectors, k, 3))


def test_the_starts_of_far_clusters_are_of_different_ones():
    rng = np.random.default_rng(0)
    label = rng.permutation(np.arange(600) % 100)
    vectors = (1000 * rng.standard_normal((100, 8)))[label] + 1e-3 * rng.standard_normal((600, 8))
    rows = starts(vectors.astype(np.float32), 100, 0)
    assert len(set(label[rows].tolist())) == 100


@pytest.mark.parametrize(("size", "version"), [(256, 1), (1023, 1), (1024, 2), (8192, 2)])
def test_codebooks_that_start_otherwise_than_before_say_so_in_their_version(size, version):
    assert ResidualKMeans.version_for(size) == version
    assert BalancedKMeans.version_for(size) == 1


def test_a_large_codebook_starts_from_the_batches_and_fits_as_well_as_by_faiss(monkeypatch):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((1500, 8))[rng.integers(0, 1500, 6000)] + 0.1 * rng.standard_normal(
        (6000, 8)
    )
    ours, theirs = (fitted(vectors.astype(np.float32), many, monkeypatch) for many in (1024, 1025))
    assert (ours.codebooks != theirs.codebooks).any()
    assert error(ours, vectors) < 1.03 * error(theirs, vectors)


def fitted(vectors: np.ndarray, many: int, monkeypatch: pytest.MonkeyPatch) -> ResidualKMeans:
    monkeypatch.setattr(residual_kmeans, "_MANY", many)
    return ResidualKMeans.fit(vectors, levels=1, codebook_size=1024, seed=0)


def error(quantizer: ResidualKMeans, vectors: np.ndarray) -> float:
    return float(((vectors - quantizer.decode(quantizer.encode(vectors))) ** 2).mean())


def test_codes_that_an_earlier_rule_fitted_stay_until_somebody_asks_for_a_fit(tmp_path, monkeypatch):
    coded = Coded(tmp_path, {f"item-{n}": n for n in range(12)})
    first = coded.code()
    before = coded.codes()
    # From now on codebooks of this size have a newer rule.
    monkeypatch.setattr(residual_kmeans, "_MANY", 2)
    coded.set({"new": 99})
    again = coded.code()
    assert (again.fitted, again.version, again.committed) == (False, first.version, 1)
    after = coded.codes()
    assert {i: after[i] for i in before} == before
    anew = coded.code(refit=True)
    assert anew.fitted
    versions = [Store.open(coded.uri).resolve(one.version).spec.method_version for one in (again, anew)]
    assert versions == [1, 2]

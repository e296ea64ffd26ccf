"""The figures of a report on vectors, against plain formulas and values made by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from mmfeat.report.pictures import unit
from mmfeat.report.vectors import nearest as module
from mmfeat.report.vectors.clusters import clusters_of, silhouette, telling_words
from mmfeat.report.vectors.geometry import (
    effective_rank,
    mean_cosine,
    occurrences,
    participation,
    principal_axes,
    robin_hood,
    skewness,
    two_nn,
)
from mmfeat.report.vectors.nearest import Nearest, connected, in_common, jaccard, jaccard_by_chance, nearest
from mmfeat.report.vectors.plane import Field, coloured, same_group


def quiet(what: str, done: int, total: int) -> None:
    """Tell nobody."""


def drawn(n: int, dims: int, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).standard_normal((n, dims)))


@pytest.mark.parametrize("at_once", [1 << 24, 150])
def test_neighbours_are_those_of_all_cosines_whatever_the_blocks(monkeypatch, at_once):
    monkeypatch.setattr(module, "_SCORES", at_once)
    vectors, told = drawn(50, 6), []
    found = nearest(vectors, 4, lambda *said: told.append(said))
    cosines = vectors @ vectors.T
    for row in range(50):
        order = sorted((other for other in range(50) if other != row), key=lambda o: -cosines[row, o])
        assert found.at[row].tolist() == order[:4]
        assert np.allclose(found.cosines[row], cosines[row, order[:4]])
    assert told[-1][1:] == (50, 50) and len(told) == (1 if at_once > 2500 else 17)


def test_neighbours_in_common_are_counted_whatever_their_order():
    a, b = np.array([[1, 2, 3], [0, 2, 3]]), np.array([[3, 1, 9], [4, 5, 6]])
    shared = in_common(a, b)
    assert shared.tolist() == [2, 0]
    assert jaccard(shared, 3).tolist() == [2 / 4, 0]


def test_the_jaccard_index_by_chance_is_the_mean_over_all_draws():
    sets = [set(one) for one in combinations(range(6), 2)]
    every = [len(a & b) / len(a | b) for a in sets for b in sets]
    assert jaccard_by_chance(6, 2) == pytest.approx(np.mean(every))


def test_groups_are_what_near_pairs_connect():
    at = np.array([[1], [0], [1], [4], [3], [0]])
    cosines = np.array([[1], [0.99], [0.98], [0.99], [0.99], [0.5]], np.float32)
    assert [group.tolist() for group in connected(Nearest(at, cosines), 0.98)] == [[0, 1, 2], [3, 4]]
    assert connected(Nearest(at, cosines), 1.1) == []


@pytest.mark.parametrize("n", [5, 40])
def test_principal_axes_are_the_eigenvectors_of_the_covariance(n):
    vectors = drawn(n, 8)
    found = principal_axes(vectors)
    covariance = np.cov(vectors.T, bias=True)
    assert found.variances.sum() == pytest.approx(np.trace(covariance))
    for axis, variance in zip(found.axes[:3], found.variances[:3], strict=True):
        assert np.allclose(covariance @ axis, variance * axis, atol=1e-6)
        assert axis[np.abs(axis).argmax()] > 0


def test_ranks_of_shares_are_those_of_the_formulas():
    assert participation(np.array([0.5, 0.5, 0])) == pytest.approx(2)
    assert effective_rank(np.array([0.25] * 4)) == pytest.approx(4)
    assert effective_rank(np.array([0.5, 0.25, 0.25])) == pytest.approx(2**1.5)
    assert participation(np.zeros(3)) == effective_rank(np.zeros(3)) == 0


def test_the_mean_cosine_is_that_of_all_pairs():
    vectors = drawn(30, 4)
    cosines = [float(a @ b) for a, b in combinations(vectors, 2)]
    assert mean_cosine(vectors) == pytest.approx(np.mean(cosines), abs=1e-6)


def test_two_nn_is_the_formula_of_the_paper():
    """Written out for each point, as Facco et al. (2017) have it."""
    points = np.random.default_rng(1).random((40, 3))
    ratios, neighbours = [], []
    for row in range(40):
        apart = [float(np.linalg.norm(points[row] - other)) for other in points]
        order = sorted((other for other in range(40) if other != row), key=lambda o: apart[o])
        ratios.append(apart[order[1]] / apart[order[0]])
        neighbours.append(order[:2])
    pairs = [(np.log(mu), -np.log(1 - i / 40)) for i, mu in enumerate(sorted(ratios), start=1) if i <= 36]
    expected = sum(x * y for x, y in pairs) / sum(x * x for x, _ in pairs)
    # Either order of the two neighbours gives the same.
    for at in (np.array(neighbours), np.array(neighbours)[:, ::-1]):
        assert two_nn(points, at) == pytest.approx(expected)
    assert two_nn(points[:10], np.zeros((10, 2), int)) is None


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_two_nn_finds_the_dimension_of_a_patch_bent_into_more(dimension):
    rng = np.random.default_rng(dimension)
    patch = rng.random((1500, dimension))
    turned = np.concatenate([np.cos(patch), np.sin(patch)], axis=1) @ rng.standard_normal((2 * dimension, 20))
    apart = ((turned[:, None, :5] - turned[None, :, :5]) ** 2).sum(2)
    for start in (5, 10, 15):
        apart += ((turned[:, None, start : start + 5] - turned[None, :, start : start + 5]) ** 2).sum(2)
    np.fill_diagonal(apart, np.inf)
    found = two_nn(turned, np.argsort(apart, axis=1)[:, :2])
    assert found == pytest.approx(dimension, rel=0.15)


def test_hubness_is_that_of_the_formulas():
    # All point to 0, which points to 1 and 2.
    at = np.array([[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]])
    times = occurrences(at)
    assert times.tolist() == [4, 4, 2, 0, 0]
    deviations = [t - 2 for t in times]
    second, third = (sum(d**power for d in deviations) / 5 for power in (2, 3))
    assert skewness(times) == pytest.approx(third / second**1.5)
    assert skewness(np.array([1, 1, 1, 7])) > 1 and skewness(np.array([3, 3])) == 0
    # Four places of ten would have to change hands.
    assert robin_hood(times, 2) == pytest.approx(4 / 10)


def test_clusters_are_the_blobs_that_were_planted_and_come_largest_first():
    rng = np.random.default_rng(0)
    planted = np.repeat([0, 1, 2, 3], [60, 40, 20, 8])
    vectors = unit(np.eye(8)[planted] + 0.02 * rng.standard_normal((128, 8)))
    of, centres = clusters_of(vectors, seed=0)
    assert np.bincount(of).tolist() == sorted(np.bincount(of).tolist(), reverse=True)
    # Eight clusters: a blob may be cut, and none holds items of two.
    assert all(len(set(planted[of == cluster])) == 1 for cluster in range(len(centres)))
    assert np.allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-6)
    same = clusters_of(np.repeat(vectors[:1], 10, axis=0), seed=0)
    assert same[0].tolist() == [0] * 10 and len(same[1]) == 1


def test_the_silhouette_is_by_the_own_and_the_next_centre():
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    centres = np.array([[1, 0], [0, 1]], np.float32)
    assert silhouette(vectors, np.array([0, 1, 1]), centres) == pytest.approx((1 + 1 + (0.4 - 0.2) / 0.4) / 3)
    assert silhouette(vectors, np.array([0, 0, 0]), centres[:1]) == 0


def test_words_of_a_cluster_are_those_that_others_lack():
    titles = ["red shoe", "red boot shoe", "the green lamp", "green lamp", "red green"]
    assert telling_words(titles, np.array([0, 0, 1, 1, 2])) == [("shoe", "red"), ("lamp", "green"), ()]


def test_groups_of_neighbours_are_held_against_chance():
    of = np.array([0, 0, 1, 1, -1])
    near = np.array([[1, 2], [0, 4], [3, 0], [2, 4], [0, 1]])
    # Pairs with groups on both sides: 0-1 0-2 1-0 2-3 2-0 3-2.
    assert same_group(of, near) == (pytest.approx(4 / 6), pytest.approx(4 / 12))
    assert same_group(np.full(5, -1), near) == (None, None)


def test_a_scale_is_cut_into_parts_and_the_rarest_groups_become_others():
    near = np.zeros((100, 1), int)
    numbers = Field("price", [None, *map(float, range(99))])
    found = coloured(numbers, near, np.arange(100))
    assert (found.ordered, len(found.groups), found.of[0]) == (True, 5, -1)
    assert found.groups[0] == "0 to 19" and sorted(set(found.of)) == [-1, 0, 1, 2, 3, 4]
    texts = Field("brand", [f"b{n % 12}" for n in range(98)] + ["b0", None])
    found = coloured(texts, near, np.arange(100))
    assert len(found.groups) == 10 and found.groups[0] == "b0" and found.groups[-1] == "others"
    assert found.of[-1] == -1 and max(found.of) == 9

"""Ranks, metrics and intervals: by hand on toy data, by brute force, and as a library of the field has
them.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.stats import ttest_rel

from mmfeat.evaluate import metrics, statistics
from mmfeat.evaluate.cases import Cases, Ragged
from mmfeat.evaluate.features import Feature, unit
from mmfeat.evaluate.spaces import Dense, Ordered, Sparse, ranks

DEPTHS = (1, 3, 10)


def ragged(rows: list[list[int]]) -> Ragged:
    starts = np.cumsum([0, *map(len, rows)])
    return Ragged(np.array([value for row in rows for value in row], np.int64), starts)


def drawn_cases(rng: np.random.Generator, n_items: int, rows: int) -> Cases:
    known, sought = [], []
    for _ in range(rows):
        order = rng.permutation(n_items)
        history = int(rng.integers(1, 5))
        known.append(order[:history].tolist())
        sought.append(order[history : history + int(rng.integers(1, 5))].tolist())
    return Cases(ragged(known), ragged(sought), ragged(known))


def by_brute_force(scores: np.ndarray, cases: Cases) -> list[float]:
    """Ranks of a whole matrix of scores, equal ones the mean of theirs."""
    found = []
    for row, (sought, excluded) in enumerate(zip(_rows(cases.sought), _rows(cases.excluded), strict=True)):
        among = np.setdiff1d(np.arange(scores.shape[1]), excluded)
        for item in sought:
            mine = scores[row, among] - scores[row, item]
            higher, equal = (mine > 1e-5).sum(), (np.abs(mine) <= 1e-5).sum()
            found.append(1 + higher + (equal - 1) / 2)
    return found


def _rows(part: Ragged) -> list[np.ndarray]:
    return np.split(part.values, part.starts[1:-1])


def test_metrics_of_toy_data_are_what_they_are_by_hand():
    # Two users: the first seeks items at ranks 1 and 4, the second one at rank 3.
    found, sought = np.array([1.0, 4, 3]), ragged([[7, 8], [9]])
    log = np.log2
    assert metrics.hit_rate(found, sought, 1).tolist() == [1, 0]
    assert metrics.recall(found, sought, 3).tolist() == [0.5, 1]
    assert metrics.mrr(found, sought, 10).tolist() == [1, 1 / 3]
    assert metrics.ndcg(found, sought, 3) == pytest.approx([1 / (1 + 1 / log(3)), 1 / log(4)])
    assert metrics.ndcg(found, sought, 10) == pytest.approx([(1 + 1 / log(5)) / (1 + 1 / log(3)), 0.5])
    # Of 5 candidates: 6 pairs, in which the item at rank 4 has two others above it; of 4 pairs, two.
    assert metrics.auc(found, sought, np.array([5, 5])) == pytest.approx([1 - 2 / 6, 1 - 2 / 4])
    assert np.isnan(metrics.auc(np.array([1.0]), ragged([[0]]), np.array([1])))


def test_equal_scores_are_no_merit():
    cases = Cases(ragged([[0]]), ragged([[3]]), ragged([[0]]))
    assert ranks(Dense(np.ones((101, 4), np.float32) / 2), cases) == pytest.approx([50.5])
    assert ranks(Ordered(np.zeros(101)), cases) == pytest.approx([50.5])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(12, 60), st.integers(1, 40))
def test_ranks_are_those_of_the_whole_matrix(seed, n_items, rows):
    rng = np.random.default_rng(seed)
    cases = drawn_cases(rng, n_items, rows)
    vectors = unit(np.round(rng.standard_normal((n_items, 3)), 0).astype(np.float32))
    profiles = np.stack([vectors[one].mean(axis=0) for one in _rows(cases.known)])
    expected = by_brute_force(profiles @ vectors.T, cases)
    assert ranks(Dense(vectors), cases) == pytest.approx(expected)
    assert ranks(Sparse(csr_matrix(vectors)), cases) == pytest.approx(expected)
    strength = rng.integers(0, 5, n_items)
    expected = by_brute_force(np.tile(strength, (rows, 1)), cases)
    assert ranks(Ordered(strength), cases) == pytest.approx(expected)


def test_ranks_do_not_hang_on_the_blocks(monkeypatch):
    rng = np.random.default_rng(1)
    cases = drawn_cases(rng, 90, 70)
    vectors = unit(rng.standard_normal((90, 5)).astype(np.float32))
    whole = ranks(Dense(vectors), cases)
    monkeypatch.setattr("mmfeat.evaluate.spaces._ROWS", 7)
    monkeypatch.setattr("mmfeat.evaluate.spaces._ITEMS", 11)
    assert ranks(Dense(vectors), cases).tolist() == whole.tolist()
    assert ranks(Sparse(csr_matrix(vectors)), cases) == pytest.approx(whole)


def test_codes_are_near_by_how_many_of_the_first_are_the_same():
    codes = np.array([[1, 2, 3], [1, 2, 4], [1, 5, 3], [2, 2, 3]])
    space = Feature("codes@0", codes=codes).space()
    rows = space.questions(ragged([[0]]))
    scores = space.scores(rows, np.zeros(4, int), np.arange(4))
    assert scores == pytest.approx([1, 2 / 3, 1 / 3, 0])


def test_metrics_are_those_of_torchmetrics():
    torchmetrics = pytest.importorskip(
        "torchmetrics.functional.retrieval", reason="torchmetrics: extra `dev`"
    )
    import torch

    rng = np.random.default_rng(5)
    for _ in range(40):
        n, m = int(rng.integers(6, 40)), int(rng.integers(1, 5))
        # No two are equal and none is 0, for which torchmetrics has rules of its own.
        scores = (1 + rng.permutation(n)) / n
        sought = rng.permutation(n)[:m]
        target = np.isin(np.arange(n), sought)
        preds, wanted = torch.tensor(scores), torch.tensor(target)
        found = np.array([1.0 + (scores > scores[item]).sum() for item in sought])
        mine = ragged([sought.tolist()])
        for k in (*DEPTHS, 50):
            k_there = min(k, n)
            pairs = [
                (metrics.hit_rate, torchmetrics.retrieval_hit_rate),
                (metrics.recall, torchmetrics.retrieval_recall),
                (metrics.mrr, torchmetrics.retrieval_reciprocal_rank),
                (metrics.ndcg, torchmetrics.retrieval_normalized_dcg),
            ]
            for ours, theirs in pairs:
                assert ours(found, mine, k) == pytest.approx(
                    float(theirs(preds, wanted, top_k=k_there)), abs=1e-6
                )
        auc = float(torchmetrics.retrieval_auroc(preds, wanted))
        assert metrics.auc(found, mine, np.array([n])) == pytest.approx(auc, abs=1e-6)


def test_a_paired_difference_is_scipys_t_test_with_its_effect_and_interval():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal(200), rng.standard_normal(200) + 0.2
    found = statistics.difference(a, b, seed=0)
    assert found.p == pytest.approx(ttest_rel(b, a).pvalue)
    assert found.effect == pytest.approx((b - a).mean() / (b - a).std(ddof=1))
    assert found.low < found.mean < found.high
    # A bootstrap of so many is close to the normal interval.
    half = 1.96 * (b - a).std(ddof=1) / 200**0.5
    assert found.high - found.low == pytest.approx(2 * half, rel=0.15)


def test_an_interval_holds_the_truth_in_about_95_of_100_cases():
    rng = np.random.default_rng(3)
    held = 0
    for seed in range(200):
        (one,) = statistics.estimates([rng.exponential(1.0, 120)], seed)
        held += one.low <= 1.0 <= one.high
    assert 0.89 <= held / 200 <= 0.99


def test_many_tests_are_judged_as_many_by_holms_rule():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([]) == []

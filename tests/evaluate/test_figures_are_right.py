"""Ranks, metrics and intervals: by hand on toy data, by brute force, and as a library of the field has
them.
"""

from __future__ import annotations

from itertools import permutations
from math import factorial

import numpy as np
import pytest
from helpers.storing import vector_spec
from helpers.taste import world
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.stats import ttest_rel

from mmfeat.evaluate import metrics, statistics
from mmfeat.evaluate.base import Task
from mmfeat.evaluate.cases import Cases, Places, Ragged
from mmfeat.evaluate.features import Feature, feature_of, unit
from mmfeat.evaluate.log import log_of
from mmfeat.evaluate.run import judge
from mmfeat.evaluate.spaces import Dense, Ordered, Sparse, places
from mmfeat.evaluate.splits import split
from mmfeat.schemas.evaluation import CHEAP
from mmfeat.schemas.featureset import FeatureColumn
from mmfeat.schemas.outputs import CodesOut
from mmfeat.schemas.spec import Quantization

DEPTHS = (1, 3, 10)


def ragged(rows: list[list[int]]) -> Ragged:
    starts = np.cumsum([0, *map(len, rows)])
    return Ragged(np.array([value for row in rows for value in row], np.int64), starts)


def untied(ranks: list[int]) -> Places:
    return Places(np.array(ranks, float) - 1, np.ones(len(ranks)))


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
    found, sought = untied([1, 4, 3]), ragged([[7, 8], [9]])
    log = np.log2
    assert metrics.hit_rate(found, sought, 1).tolist() == [1, 0]
    assert metrics.recall(found, sought, 3).tolist() == [0.5, 1]
    assert metrics.mrr(found, sought, 10).tolist() == [1, 1 / 3]
    assert metrics.ndcg(found, sought, 3) == pytest.approx([1 / (1 + 1 / log(3)), 1 / log(4)])
    assert metrics.ndcg(found, sought, 10) == pytest.approx([(1 + 1 / log(5)) / (1 + 1 / log(3)), 0.5])
    # Of 5 candidates: 6 pairs, in which the item at rank 4 has two others above it; of 4 pairs, two.
    assert metrics.auc(found, sought, np.array([5, 5])) == pytest.approx([1 - 2 / 6, 1 - 2 / 4])
    assert np.isnan(metrics.auc(untied([1]), ragged([[0]]), np.array([1])))


def test_equal_scores_are_no_merit():
    cases = Cases(ragged([[0]]), ragged([[3]]), ragged([[0]]))
    assert places(Dense(np.ones((101, 4), np.float32) / 2), cases).ranks == pytest.approx([50.5])
    assert places(Ordered(np.zeros(101)), cases).ranks == pytest.approx([50.5])


def test_metrics_of_equal_scores_are_by_hand_what_all_orders_give_on_average():
    # One item is above, four are equal, two of these are sought: each at the ranks 2 to 5 alike.
    found, sought = Places(np.array([1.0, 1]), np.array([4.0, 4])), ragged([[0, 1]])
    # Among the first 2 is one of four; of six pairs of places three have the second rank.
    assert metrics.recall(found, sought, 2) == pytest.approx([1 / 4])
    assert metrics.hit_rate(found, sought, 2) == pytest.approx([1 / 2])
    # The first of them is at rank 2 in three, at 3 in two, and at 4 in one of the six pairs.
    assert metrics.mrr(found, sought, 5) == pytest.approx([(3 / 2 + 2 / 3 + 1 / 4) / 6])
    gain = 1 / np.log2(np.arange(1, 6) + 1)
    assert metrics.ndcg(found, sought, 5) == pytest.approx([gain[1:].mean() * 2 / gain[:2].sum()])
    # Of 5 items the three others: one is always above, and the two that are equal are so half the time.
    assert metrics.auc(found, sought, np.array([5])) == pytest.approx([1 / 3])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=6), st.data())
def test_metrics_of_equal_scores_are_the_mean_over_all_orders(scores, data):
    n = len(scores)
    wanted = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True))
    sought = ragged([wanted])
    mine = np.array(scores)
    given_scores = mine[wanted][:, None]
    found = Places((mine > given_scores).sum(axis=1).astype(float), (mine == given_scores).sum(axis=1) * 1.0)
    orders = [np.lexsort((order, -mine)) for order in permutations(range(n))]
    ranks = [1 + np.argsort(order)[wanted] for order in orders]
    assert len(ranks) == factorial(n)
    measures = [
        (one, k) for one in (metrics.hit_rate, metrics.recall, metrics.mrr, metrics.ndcg) for k in DEPTHS
    ]
    for measure, k in measures:
        expected = np.mean([measure(untied(one), sought, k)[0] for one in ranks])
        assert measure(found, sought, k) == pytest.approx([expected]), (measure.__name__, k)
    if len(wanted) < n:
        expected = np.mean([metrics.auc(untied(one), sought, np.array([n]))[0] for one in ranks])
        assert metrics.auc(found, sought, np.array([n])) == pytest.approx([expected])


def test_vectors_that_are_all_alike_score_as_a_random_order_does():
    liked = world("sound", 0)
    log = log_of(liked.table(), liked.ids)
    task = Task(log, split(log, "last", 0), {})
    alike = Feature("alike@0", unit(np.ones((len(liked.ids), 8), np.float32)))
    found = judge(task, [alike], CHEAP)
    (verdict,) = found.verdicts()
    assert not any(one.holds for one in verdict.findings.values())
    values = {name: one.own for name, one in found.measured["alike@0"].items()}
    # 150 items less the query item, or the 7 that a user had, one of which is sought.
    assert values["item_item"]["recall@50"] == pytest.approx(50 / 149)
    assert values["profile"]["hr@10"] == pytest.approx(10 / 143)
    assert values["profile"]["mrr@10"] == pytest.approx((1 / np.arange(1, 11)).sum() / 143)
    assert values["profile"]["ndcg@50"] == pytest.approx((1 / np.log2(np.arange(2, 52))).sum() / 143)
    assert values["probe"]["auc"] == pytest.approx(0.5)
    assert np.nanmax(np.abs(values["probe"]["rank_correlation"])) < 1e-12


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(12, 60), st.integers(1, 40))
def test_ranks_are_those_of_the_whole_matrix(seed, n_items, rows):
    rng = np.random.default_rng(seed)
    cases = drawn_cases(rng, n_items, rows)
    vectors = unit(np.round(rng.standard_normal((n_items, 3)), 0).astype(np.float32))
    profiles = np.stack([vectors[one].mean(axis=0) for one in _rows(cases.known)])
    expected = by_brute_force(profiles @ vectors.T, cases)
    assert places(Dense(vectors), cases).ranks == pytest.approx(expected)
    assert places(Sparse(csr_matrix(vectors)), cases).ranks == pytest.approx(expected)
    strength = rng.integers(0, 5, n_items)
    expected = by_brute_force(np.tile(strength, (rows, 1)), cases)
    assert places(Ordered(strength), cases).ranks == pytest.approx(expected)


def test_ranks_do_not_hang_on_the_blocks(monkeypatch):
    rng = np.random.default_rng(1)
    cases = drawn_cases(rng, 90, 70)
    vectors = unit(rng.standard_normal((90, 5)).astype(np.float32))
    whole = places(Dense(vectors), cases).ranks
    monkeypatch.setattr("mmfeat.evaluate.spaces._ROWS", 7)
    monkeypatch.setattr("mmfeat.evaluate.spaces._ITEMS", 11)
    assert places(Dense(vectors), cases).ranks.tolist() == whole.tolist()
    assert places(Sparse(csr_matrix(vectors)), cases).ranks == pytest.approx(whole)


def test_codes_are_near_by_how_many_of_the_first_are_the_same():
    codes = np.array([[1, 2, 3], [1, 2, 4], [1, 5, 3], [2, 2, 3]])
    space = Feature("codes@0", codes=codes).space()
    rows = space.questions(ragged([[0]]))
    scores = space.scores(rows, np.zeros(4, int), np.arange(4))
    assert scores == pytest.approx([1, 2 / 3, 1 / 3, 0])


@pytest.mark.parametrize(
    ("method", "more", "expected"),
    [
        # Codes of the first item are 1 2 1 2; its collision number, 7, is that of the third one too.
        ("rkmeans", {}, [1, 1 / 5, 0, 2 / 5]),
        ("pq", {}, [1, 3 / 4, 2 / 4, 3 / 4]),
        ("opq", {}, [1, 3 / 4, 2 / 4, 3 / 4]),
        # The second half is of another source, whose first level is no finer than the first source's last.
        ("rkmeans", {"levels": 2, "parts": (8, 8), "mode": "parallel"}, [1, 3 / 4, 0, 2 / 4]),
        ("pq", {"levels": 2, "parts": (8, 8), "mode": "parallel"}, [1, 3 / 4, 2 / 4, 3 / 4]),
    ],
)
def test_codes_without_an_order_of_levels_are_near_by_how_many_are_the_same(method, more, expected):
    codes = np.array([[1, 2, 1, 2, 7], [1, 3, 1, 2, 8], [2, 2, 3, 2, 7], [1, 2, 2, 2, 9]])
    told = {"levels": 4, "codebook_size": 16, "seed": 0, "collision_level": True} | more
    spec = vector_spec("codes").model_copy(
        update={
            "method": method,
            "output": CodesOut(levels=5, codebook_size=16),
            "options": {"quantization": Quantization(**told).model_dump(mode="json")},
        }
    )
    column = FeatureColumn(spec, codes, np.ones(4, bool), np.array(["ok"] * 4), np.array([""] * 4))
    space = feature_of("codes@0", column).space()
    rows = space.questions(ragged([[0]]))
    scores = space.scores(rows, np.zeros(4, int), np.arange(4))
    assert scores == pytest.approx(expected)


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
        found = untied([1 + (scores > scores[item]).sum() for item in sought])
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

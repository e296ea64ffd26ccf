"""Each figure agrees with a case worked out by hand, or with an independent library."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mmfeat.report.grounding import ranks
from mmfeat.report.repeats import near_texts, same_texts
from mmfeat.report.statistics import (
    bootstrap_interval,
    derangement,
    distribution,
    histograms,
    placements,
)
from mmfeat.report.usefulness import neighbour_overlap
from mmfeat.report.variety import distinct, self_bleu
from mmfeat.report.words import longest_loop, pieces_of, sentences_of, words_of

few_words = st.lists(st.sampled_from("abc"), max_size=12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's a T-shirt, size 42!", ("it's", "a", "t-shirt", "size", "42")),
        ("", ()),
        ("... -- !", ()),
        ("ein weißer Kreis", ("ein", "weißer", "kreis")),
        ("一只红色的猫", tuple("一只红色的猫")),
        ("cat_and_dog", ("cat", "and", "dog")),
        ("\uff32ED\u3000circle", ("red", "circle")),
    ],
)
def test_words_are_those_a_reader_would_count(text, words):
    assert words_of(text) == words


def test_sentences_end_at_stops_in_western_and_east_asian_texts():
    assert sentences_of("A cat. It sleeps! Why?\n...\nOn a mat") == [
        "A cat.",
        "It sleeps!",
        "Why?",
        "On a mat",
    ]
    assert sentences_of("红色的猫。蓝色的狗。") == ["红色的猫。", "蓝色的狗。"]


def test_no_piece_of_a_text_is_longer_than_the_text_tower_reads():
    text = " ".join(f"w{n}" for n in range(95)) + ". Short one."
    assert [len(piece.split()) for piece in pieces_of(text, 40)] == [40, 40, 15, 2]
    assert " ".join(pieces_of(text, 40)) == text


def test_distinct_n_is_different_ngrams_by_their_number():
    texts = [("a", "b", "a", "b"), ("a", "c")]
    assert distinct(texts, 1) == 3 / 6
    assert distinct(texts, 2) == 3 / 4  # ab, ba, ab, ac
    assert distinct([("a",)], 2) == 0.0


def test_self_bleu_is_100_for_the_same_texts_and_0_for_texts_that_share_no_word():
    assert self_bleu([tuple("abcde")] * 3) == pytest.approx(100)
    assert self_bleu([tuple("abcde"), tuple("fghij")]) == 0.0
    assert self_bleu([tuple("abcde")]) is None


def test_self_bleu_agrees_with_bleu_worked_out_from_its_definition():
    texts = [
        words_of("A red cat sat on the mat by the door"),
        words_of("A red cat lay on the mat by the door"),
    ]
    expected = np.mean([_bleu(texts[0], texts[1]), _bleu(texts[1], texts[0])])
    assert self_bleu(texts) == pytest.approx(100 * expected)


def _bleu(text, reference) -> float:
    precisions = []
    for n in range(1, 5):
        mine, theirs = (Counter(zip(*(w[i:] for i in range(n)), strict=False)) for w in (text, reference))
        precisions.append((mine & theirs).total() / mine.total())
    return math.exp(sum(map(math.log, precisions)) / 4)


@given(few_words)
def test_the_longest_loop_covers_most_words_of_all_repetitions(words):
    phrase, times = longest_loop(words, 20)
    runs = [0]
    for n in range(1, len(words) // 2 + 1):
        for start in range(len(words) - n + 1):
            said = 1
            while words[start + said * n : start + (said + 1) * n] == words[start : start + n]:
                said += 1
            runs.append(said * n if said > 1 else 0)
    assert times * len(phrase) == max(runs)
    if phrase:
        assert " ".join([*phrase] * times) in " ".join(words)


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=30),
    st.lists(st.integers(-3, 3), min_size=1, max_size=30),
)
def test_auc_agrees_with_scikit_learn_ties_included(own, other):
    labels = [1] * len(own) + [0] * len(other)
    auc = placements(np.array(own, float), np.array(other, float)).mean()
    assert auc == pytest.approx(roc_auc_score(labels, own + other))


@given(st.integers(2, 60), st.integers(0, 5))
def test_shuffling_gives_every_caption_another_items_picture_once(n, seed):
    order = derangement(n, seed)
    assert sorted(order) == list(range(n))
    assert (order != np.arange(n)).all()


def test_the_bootstrap_interval_is_that_of_the_normal_approximation_on_many_values():
    values = np.random.default_rng(0).normal(0.3, 1.0, 4000)
    low, high = bootstrap_interval(values, 1000, seed=1)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.004)
    assert high == pytest.approx(values.mean() + half, abs=0.004)


def test_a_distribution_counts_every_value_once():
    found = distribution([1, 1, 2, 7])
    assert (found.n, found.mean, found.median, found.minimum, found.maximum) == (4, 2.75, 1.5, 1, 7)
    assert sum(found.histogram.counts) == 4
    assert found.histogram.counts[0] == 2
    assert distribution([]) is None
    assert distribution([0.5]).histogram.counts != ()


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20), min_size=1, max_size=3))
def test_histograms_of_several_samples_share_edges_and_lose_no_value(samples):
    found = histograms([np.array(s) for s in samples])
    assert [sum(one.counts) for one in found] == [len(s) for s in samples]
    assert len({one.edges for one in found}) == 1


def test_ranks_are_places_by_score_and_equals_share_theirs():
    gallery = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    queries = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    # Scores: 1, 0, .6 | .8, .6, .96 | 0, 1, .8
    assert ranks(queries, gallery).tolist() == [1, 3, 2]
    assert ranks(np.ones((5, 2)), np.ones((5, 2))).tolist() == [3] * 5


def test_neighbour_overlap_is_1_in_the_same_space_and_chance_in_unrelated_ones():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 400, 16))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    rows = np.arange(400)
    assert neighbour_overlap(a, a.copy(), rows, 10) == 1.0
    assert neighbour_overlap(a, b, rows, 10) == pytest.approx(10 / 399, abs=0.01)


def test_the_same_words_on_different_pictures_are_found_and_on_the_same_picture_not():
    words = {0: ("a", "cat"), 1: ("a", "cat"), 2: ("a", "dog"), 4: ("a", "dog"), 5: ("a", "cat")}
    contents = ["x", "y", "z", None, "z", "x"]
    assert same_texts(words, contents) == {0: [1], 1: [0, 5], 5: [1]}


def test_near_texts_are_those_that_all_pairs_by_exact_jaccard_similarity_give():
    rng = np.random.default_rng(1)
    texts = {}
    for n in range(60):
        base = [f"w{rng.integers(500)}" for _ in range(30)]
        texts[2 * n] = tuple(base)
        for at in rng.choice(30, n % 4, replace=False):
            base[at] = "changed"
        texts[2 * n + 1] = (*base, "end")
    shingles = {at: {t[i : i + 3] for i in range(len(t) - 2)} for at, t in texts.items()}
    expected = set()
    for a, b in itertools.combinations(texts, 2):
        if len(shingles[a] & shingles[b]) / len(shingles[a] | shingles[b]) >= 0.8:
            expected |= {a, b}
    found = near_texts(texts, [str(n) for n in range(120)], 0.8, seed=0)
    assert set(found) == expected
    assert found[0] == (1, pytest.approx(28 / 29))

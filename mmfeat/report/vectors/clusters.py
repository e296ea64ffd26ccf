"""Clusters of directions, and the words that their titles have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from mmfeat.report.pictures import unit
from mmfeat.report.words import words_of

_MOST = 12
_ROUNDS = 30
_WORDS = 5
# A word of fewer titles says nothing of a cluster; shorter ones are mostly articles.
_FEWEST_TITLES, _SHORTEST = 2, 3


def clusters_of(vectors: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Spherical k-means (Dhillon and Modha 2001) from k-means++ starts, into 2 to 12 clusters: no more than
    the root of half the items.

    Args:
        vectors: float32 ``[n, dims]`` of length 1.

    Returns:
        int64 ``[n]``, the cluster of each row, the largest is 0; and ``[clusters, dims]``, centres of length
        1.
    """
    count = min(_MOST, max(2, int(np.sqrt(len(vectors) / 2))))
    centres, of = _starts(vectors, count, np.random.default_rng(seed)), None
    for _ in range(_ROUNDS):
        found = (vectors @ centres.T).argmax(axis=1)
        if of is not None and (found == of).all():
            break
        of = found
        sums = np.stack([vectors[of == cluster].sum(axis=0) for cluster in range(len(centres))])
        # A cluster that lost all its items keeps its centre.
        centres = np.where(np.bincount(of, minlength=len(centres))[:, None] > 0, unit(sums), centres)
    of = (vectors @ centres.T).argmax(axis=1)
    order = np.argsort(-np.bincount(of, minlength=len(centres)), kind="stable")
    order = order[np.isin(order, of)]
    place = np.full(len(centres), -1)
    place[order] = np.arange(len(order))
    return place[of], centres[order]


def _starts(vectors: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows drawn far from each other; fewer than ``count`` where there are fewer different ones."""
    chosen = [int(rng.integers(len(vectors)))]
    nearest = 1 - vectors @ vectors[chosen[0]]
    while len(chosen) < count:
        # What is left of rounding is no distance.
        weights = np.where(nearest > 1e-6, nearest, 0).astype(np.float64)
        if not weights.any():
            break
        chosen.append(int(rng.choice(len(vectors), p=weights / weights.sum())))
        nearest = np.minimum(nearest, 1 - vectors @ vectors[chosen[-1]])
    return vectors[chosen].copy()


def silhouette(vectors: np.ndarray, of: np.ndarray, centres: np.ndarray) -> float:
    """Mean of (b - a) / max(a, b) over rows: a is the cosine distance to the own centre, b to the next one.

    0 if there is one centre.
    """
    if len(centres) < 2:
        return 0.0
    distances = 1 - vectors @ centres.T
    rows = np.arange(len(vectors))
    own = np.maximum(distances[rows, of], 0)
    distances[rows, of] = np.inf
    other = distances.min(axis=1)
    largest = np.maximum(own, other)
    return float(((other - own) / np.where(largest > 0, largest, 1)).mean())


def telling_words(titles: Sequence[str], of: np.ndarray) -> list[tuple[str, ...]]:
    """Per cluster the words of titles that are the most over-represented in it.

    Ranked by titles in it with the word, times the log of the word's share in it over that in all titles.
    """
    words = [{w for w in words_of(title) if len(w) >= _SHORTEST} for title in titles]
    everywhere = Counter(word for some in words for word in some)
    found = []
    for cluster in range(int(of.max(initial=-1)) + 1):
        inside = np.flatnonzero(of == cluster)
        here = Counter(word for at in inside for word in words[at])
        weights = {
            word: n * np.log(n / len(inside) / (everywhere[word] / len(titles)))
            for word, n in here.items()
            if n >= _FEWEST_TITLES
        }
        ranked = sorted((w for w in weights if weights[w] > 0), key=lambda w: (-weights[w], w))
        found.append(tuple(ranked[:_WORDS]))
    return found

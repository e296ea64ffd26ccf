"""Nearest items by cosine, and whether two ways to find them agree. Products are made in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np

from mmfeat.report.pictures import Progress

# Cosines of a block: 64 MiB.
_SCORES = 1 << 24


@dataclass(frozen=True)
class Nearest:
    """The nearest other rows of each row, the nearest first.

    Attributes:
        at: int64 ``[n, k]``.
        cosines: float32 ``[n, k]``.
    """

    at: np.ndarray
    cosines: np.ndarray


def nearest(vectors: np.ndarray, k: int, progress: Progress) -> Nearest:
    """The ``k`` nearest rows of each row by cosine, itself left out.

    Args:
        vectors: float32 ``[n, dims]`` of length 1; n > k.
        progress: told how many rows are done.
    """
    n = len(vectors)
    at, cosines = np.empty((n, k), np.int64), np.empty((n, k), np.float32)
    step = max(1, _SCORES // n)
    for start in range(0, n, step):
        scores = vectors[start : start + step] @ vectors.T
        rows = np.arange(len(scores))
        scores[rows, rows + start] = -np.inf
        found = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(scores, found, axis=1)
        order = np.lexsort((found, -values))
        at[start : start + step] = np.take_along_axis(found, order, axis=1)
        cosines[start : start + step] = np.take_along_axis(values, order, axis=1)
        progress("items compared with all others", start + len(scores), n)
    return Nearest(at, cosines)


def in_common(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """int64 ``[n]``: how many neighbours of each row are in both ``[n, k]``."""
    shared: np.ndarray = (a[:, :, None] == b[:, None, :]).any(axis=2).sum(axis=1)
    return shared


def jaccard(shared: np.ndarray, k: int) -> np.ndarray:
    """The Jaccard index of two sets of ``k`` that have so many in common."""
    index: np.ndarray = shared / (2 * k - shared)
    return index


def jaccard_by_chance(others: int, k: int) -> float:
    """The expected Jaccard index of two sets of ``k`` drawn from ``others``: what they have in common is
    hypergeometric.
    """
    ways = comb(others, k)
    return sum(
        comb(k, shared) * comb(others - k, k - shared) / ways * shared / (2 * k - shared)
        for shared in range(1, k + 1)
    )


def connected(near: Nearest, threshold: float) -> list[np.ndarray]:
    """Groups of two or more rows that cosines of at least ``threshold`` connect, the largest first."""
    parent = np.arange(len(near.at))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    for row, column in zip(*np.nonzero(near.cosines >= threshold), strict=True):
        one, other = sorted((root(int(row)), root(int(near.at[row, column]))))
        parent[other] = one
    roots = np.array([root(row) for row in range(len(parent))], np.int64)
    order = np.argsort(roots, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(roots[order])) + 1)
    return sorted((group for group in groups if len(group) > 1), key=len, reverse=True)

"""Residual k-means whose clusters are all of one size."""

from __future__ import annotations

import numpy as np

from mmfeat.extract.fitted.codes.residual_kmeans import ResidualKMeans
from mmfeat.schemas.inputs import VECTOR
from mmfeat.schemas.spec import ModelCard

# As many as FAISS's k-means has.
_ITERATIONS = 25
# Centroids whose distances are computed at a time: one matrix product for them all.
_CENTROIDS = 256


class BalancedKMeans(ResidualKMeans):
    """Residual k-means in which every cluster of the fit has the same number of vectors, or one more: the
    balanced k-means of OneRec (arXiv 2502.18965, algorithm 1).

    In turn, each centroid takes the vectors nearest to it that none has taken yet, and moves to their mean.
    Items get the nearest centroid's code, as in OneRec, so that codes are used about evenly.
    """

    method = "balanced_kmeans"
    example = ModelCard(
        method="balanced_kmeans",
        model="3x256",
        reads=(VECTOR,),
        licence="Apache-2.0",
        weights_from="fitted to the vectors that are read",
        notes="Residual k-means with clusters of one size (OneRec).",
    )

    @classmethod
    def version_for(cls, codebook_size: int) -> int:
        """See :meth:`Quantizer.version_for`: it has starts of its own, of any size."""
        return cls.method_version

    @classmethod
    def _cluster(cls, vectors: np.ndarray, k: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        centroids = vectors[np.sort(rng.choice(len(vectors), k, replace=False))].copy()
        before = np.full(len(vectors), -1)
        for _ in range(_ITERATIONS):
            cluster = one_size(vectors, centroids)
            if (cluster == before).all():
                break
            sums = np.zeros(centroids.shape, np.float64)
            np.add.at(sums, cluster, vectors)
            centroids = (sums / np.bincount(cluster, minlength=k)[:, None]).astype(np.float32)
            before = cluster
        return centroids


def one_size(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """``[n]``: the centroid that takes each vector; sizes differ by one at most, the first have the more."""
    n, k = len(vectors), len(centroids)
    sizes = np.full(k, n // k) + (np.arange(k) < n % k)
    cluster = np.full(n, -1)
    left = np.arange(n)
    for start in range(0, k, _CENTROIDS):
        block = centroids[start : start + _CENTROIDS]
        there = vectors[left]
        # A vector's own length is the same for all centroids and for one of them decides something.
        distances = (there**2).sum(axis=1) - 2 * block @ there.T
        for number, row in enumerate(distances, start):
            took = _smallest(row, sizes[number])
            cluster[left[took]] = number
            distances[:, took] = np.inf
        left = left[cluster[left] < 0]
    return cluster


def _smallest(values: np.ndarray, count: int) -> np.ndarray:
    """Positions of the ``count`` smallest values."""
    if count >= len(values):
        return np.arange(len(values))
    return np.argpartition(values, count - 1)[:count]

"""Residual k-means: each level clusters what the levels before it left over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from mmfeat.extract.fitted.codes.base import Residual
from mmfeat.extract.fitted.codes.starts import starts
from mmfeat.schemas.errors import MissingExtra
from mmfeat.schemas.inputs import VECTOR
from mmfeat.schemas.spec import ModelCard

# The iterations end once the objective falls by less than this share: half the time for the same
# clusters on large sets.
_EARLY_STOP = 1e-4
# Codebooks of so many and more start from centroids that are drawn in batches: drawn one by one, as FAISS
# does, they took most of the fit's time. Smaller ones keep the starts, and so the codes, that they had.
_MANY = 1024
# Vectors that such starts are drawn from, for each centroid.
_STARTS_FROM = 32
# Centroids that FAISS finds for each vector. If all are as near as each other, every centroid is looked at.
_NEAR = 4


class ResidualKMeans(Residual):
    """Greedy residual quantization (Chen et al., "Approximate Nearest Neighbor Search by Residual
    Vector Quantization", Sensors 2010) by FAISS's k-means with k-means++ starts.

    Its version is 2 for codebooks of 1024 and more, whose starts are drawn in batches (:func:`starts`).

    FAISS's own ``ResidualQuantizer`` is not used: its codebook sizes are powers of two, and its beam
    search picks the codes that are best together, so that a first code is not always the cluster
    that its item is in. Recommenders read the codes as coarse to fine.
    """

    method = "residual_kmeans"
    example = ModelCard(
        method="residual_kmeans",
        model="3x256",
        reads=(VECTOR,),
        licence="Apache-2.0",
        weights_from="fitted to the vectors that are read",
        notes="FAISS k-means, level by level.",
    )

    def __init__(self, codebooks: np.ndarray) -> None:
        levels, codebook_size, dims = codebooks.shape
        super().__init__(dims, levels, codebook_size)
        self.codebooks = codebooks

    @classmethod
    def version_for(cls, codebook_size: int) -> int:
        """See :meth:`Quantizer.version_for`."""
        return 2 if codebook_size >= _MANY else 1

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> Self:
        """The quantizer with these ``codebooks``."""
        return cls(state["codebooks"])

    def state(self) -> dict[str, np.ndarray]:
        """``codebooks``: float32 ``[levels, codebook_size, dims]``."""
        return {"codebooks": self.codebooks}

    def reordered(self, rows: np.ndarray) -> Self:
        """See :meth:`Quantizer.reordered`."""
        return type(self)(np.stack([book[at] for book, at in zip(self.codebooks, rows, strict=True)]))

    @classmethod
    def _fit(cls, vectors: np.ndarray, levels: int, codebook_size: int, seed: int) -> Self:
        residuals = vectors.copy()
        codebooks = np.empty((levels, codebook_size, vectors.shape[1]), np.float32)
        for level in range(levels):
            codebooks[level] = cls._cluster(residuals, codebook_size, (seed + level) % 2**31)
            residuals -= codebooks[level][nearest(residuals, codebooks[level])]
        return cls(codebooks)

    @classmethod
    def _cluster(cls, vectors: np.ndarray, k: int, seed: int) -> np.ndarray:
        """``[k, dims]`` centroids of one level."""
        faiss = faiss_of("residual k-means")
        kmeans = faiss.Kmeans(
            vectors.shape[1],
            k,
            seed=seed,
            init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
            min_points_per_centroid=1,
            early_stop_threshold=_EARLY_STOP,
        )
        kmeans.train(vectors, init_centroids=_starts(vectors, k, seed) if k >= _MANY else None)
        centroids: np.ndarray = kmeans.centroids
        return centroids

    def last_level(self, vectors: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :meth:`Quantizer.last_level`."""
        earlier = [book[codes[:, level]] for level, book in enumerate(self.codebooks[:-1])]
        return vectors - np.sum(earlier, axis=0, initial=0), self.codebooks[-1]

    def _encode(self, vectors: np.ndarray) -> np.ndarray:
        return residual_codes(vectors, list(self.codebooks))

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        parts = [codebook[codes[:, level]] for level, codebook in enumerate(self.codebooks)]
        return np.asarray(sum(parts))


def _starts(vectors: np.ndarray, k: int, seed: int) -> np.ndarray:
    """``[k, dims]`` of the vectors to start from; drawn from a sample of them where there are many."""
    if len(vectors) > _STARTS_FROM * k:
        sample = np.random.default_rng(seed).choice(len(vectors), _STARTS_FROM * k, replace=False)
        vectors = vectors[np.sort(sample)]
    found: np.ndarray = vectors[starts(vectors, k, seed)]
    return found


def residual_codes(vectors: np.ndarray, codebooks: Sequence[np.ndarray]) -> np.ndarray:
    """``[n, levels]``: level by level the nearest centroid to what those before it left over."""
    residuals = vectors.copy()
    codes = np.empty((len(vectors), len(codebooks)), np.int64)
    for level, codebook in enumerate(codebooks):
        codes[:, level] = nearest(residuals, codebook)
        residuals -= codebook[codes[:, level]]
    return codes


def nearest(vectors: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Row of the nearest centroid by Euclidean distance, ``[n]``; of equally near ones the first.

    A row's depends on its own vector alone. FAISS's distances are rounded by the batch: of centroids that are
    nearer to each other than that, the distances are computed again in float64, row by row.
    """
    dims = codebook.shape[1]
    index = faiss_of("k-means").IndexFlatL2(dims)
    index.add(codebook)
    distances, rows = index.search(vectors, min(_NEAR, len(codebook)))
    found = np.array(rows[:, 0])
    # |x - c|^2 is summed in float32, from squares and products of at most (|x| + |c|)^2 together. Two such
    # sums are together wrong by so much at most.
    longest = np.linalg.norm(codebook, axis=1).max()
    rounding = (np.linalg.norm(vectors, axis=1) + longest) ** 2 * (dims + 2) * np.finfo(np.float32).eps
    near = ~(distances > (distances[:, 0] + rounding)[:, None])
    for row in np.flatnonzero(near[:, 1:].any(axis=1)):
        some = np.arange(len(codebook)) if near[row].all() else np.sort(rows[row, near[row]])
        apart = codebook[some].astype(np.float64) - vectors[row]
        found[row] = some[np.square(apart).sum(axis=1).argmin()]
    return found


def faiss_of(what: str) -> Any:
    """The module; MissingExtra, which names what needs it, where it is not installed."""
    try:
        import faiss
    except ImportError:
        raise MissingExtra(f"Quantizing by {what}", "quantize", "faiss-cpu") from None
    return faiss

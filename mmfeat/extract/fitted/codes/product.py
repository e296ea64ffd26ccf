"""Product quantization: the vector is cut into parts, and each part has a codebook of its own."""

from __future__ import annotations

from typing import Self

import numpy as np

from mmfeat.extract.fitted.codes.base import Quantizer
from mmfeat.extract.fitted.codes.residual_kmeans import faiss_of, nearest
from mmfeat.extract.fitted.vectors import projected
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.inputs import VECTOR
from mmfeat.schemas.spec import ModelCard


class ProductQuantizer(Quantizer):
    """Product quantization (Jegou et al., TPAMI 2011) by FAISS's k-means, as VQ-Rec takes it
    (arXiv 2210.12316).

    Level ``n`` is the code of the ``n``-th part of the vector: levels say different things, and none is
    coarser than another. Unlike FAISS's own, a codebook's size need not be a power of two.
    """

    method = "pq"
    example = ModelCard(
        method="pq",
        model="32x256",
        reads=(VECTOR,),
        licence="MIT",
        weights_from="fitted to the vectors that are read",
        notes="Product quantization: a code for each part of the vector.",
    )

    def __init__(self, codebooks: np.ndarray) -> None:
        levels, codebook_size, part = codebooks.shape
        super().__init__(levels * part, levels, codebook_size)
        self.codebooks = codebooks

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> Self:
        """The quantizer with these ``codebooks``."""
        return cls(state["codebooks"])

    def state(self) -> dict[str, np.ndarray]:
        """``codebooks``: float32 ``[levels, codebook_size, dims / levels]``."""
        return {"codebooks": self.codebooks}

    def reordered(self, rows: np.ndarray) -> Self:
        """See :meth:`Quantizer.reordered`."""
        books = np.stack([book[at] for book, at in zip(self.codebooks, rows, strict=True)])
        return self.from_state(self.state() | {"codebooks": books})

    @classmethod
    def _fit(cls, vectors: np.ndarray, levels: int, codebook_size: int, seed: int) -> Self:
        return cls(fit_parts(vectors, levels, codebook_size, seed))

    def _encode(self, vectors: np.ndarray) -> np.ndarray:
        parts = np.split(vectors, self.levels, axis=1)
        found = [
            nearest(np.ascontiguousarray(part), book)
            for part, book in zip(parts, self.codebooks, strict=True)
        ]
        return np.column_stack(found)

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        return np.hstack([book[codes[:, level]] for level, book in enumerate(self.codebooks)])


class RotatedProductQuantizer(ProductQuantizer):
    """Optimized product quantization (Ge et al., CVPR 2013): FAISS's ``OPQMatrix`` turns the vectors so that
    their parts lose less, and product quantization follows."""

    method = "opq"
    example = ProductQuantizer.example.model_copy(
        update={"method": "opq", "notes": "Product quantization after a rotation that is fitted too."}
    )

    def __init__(self, codebooks: np.ndarray, rotation: np.ndarray) -> None:
        super().__init__(codebooks)
        self.rotation = rotation

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> Self:
        """The quantizer with these ``codebooks`` and this ``rotation``."""
        return cls(state["codebooks"], state["rotation"])

    def state(self) -> dict[str, np.ndarray]:
        """``codebooks`` as of ``pq``; ``rotation``: float32 ``[dims, dims]``, orthogonal, from the left."""
        return {"codebooks": self.codebooks, "rotation": self.rotation}

    @classmethod
    def _fit(cls, vectors: np.ndarray, levels: int, codebook_size: int, seed: int) -> Self:
        dims = vectors.shape[1]
        parts_of(dims, levels)
        faiss = faiss_of("product quantization")
        turn = faiss.OPQMatrix(dims, levels)
        # It fits codebooks of its own on the way: of the size that is asked for, as far as it can.
        turn.pq = faiss.ProductQuantizer(dims, levels, max(1, min(8, codebook_size.bit_length() - 1)))
        # Few vectors for each centroid are what was asked for, and no reason to warn hundreds of times.
        turn.pq.cp.min_points_per_centroid = 1
        turn.train(vectors)
        rotation = faiss.vector_to_array(turn.A).reshape(dims, dims).copy()
        turned = np.ascontiguousarray(vectors @ rotation.T)
        return cls(fit_parts(turned, levels, codebook_size, seed), rotation)

    def _encode(self, vectors: np.ndarray) -> np.ndarray:
        none = np.zeros(self.dims, np.float32)
        return super()._encode(projected(vectors, none, self.rotation).astype(np.float32))

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        return np.asarray(super()._decode(codes) @ self.rotation)


def parts_of(dims: int, levels: int) -> int:
    """The length of each part of a vector; UsageError where they are not of one length."""
    if dims % levels:
        raise UsageError(
            f"Vectors of {dims} dims cannot be cut into {levels} parts of one length.",
            hint=f"Choose a number of levels that divides {dims}.",
        )
    return dims // levels


def fit_parts(vectors: np.ndarray, levels: int, codebook_size: int, seed: int) -> np.ndarray:
    """Codebooks ``[levels, codebook_size, dims / levels]`` by k-means of each part."""
    length = parts_of(vectors.shape[1], levels)
    kmeans_of, books = faiss_of("product quantization").Kmeans, []
    for part in np.split(vectors, levels, axis=1):
        kmeans = kmeans_of(length, codebook_size, seed=seed, min_points_per_centroid=1)
        kmeans.train(np.ascontiguousarray(part))
        books.append(kmeans.centroids)
    return np.stack(books)

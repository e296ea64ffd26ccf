"""How good codes are: what they lose, how evenly they are used, how often they collide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmfeat.extract.fitted.codes.base import BLOCK_ROWS, Quantizer


@dataclass(frozen=True)
class Quality:
    """Figures of the codes of ``n`` vectors, before any collision level.

    Attributes:
        relative_mse: squared error of the decoded vectors over that of their mean: 0 is perfect, 1 is
            no better than the mean. NaN if all vectors are the same.
        cosine: mean cosine between vectors and decoded vectors; a zero vector counts as 0.
        used: per level, the share of the codebook that some item has.
        perplexity: per level, ``exp`` of the entropy of its codes: how many codes would be in use if
            all were equally frequent.
        collision_rate: share of items whose codes another item has too.
        largest_collision: the most items that share all codes; 1 if nobody does.
        vectors: how many there were; None in what earlier versions of mmfeat kept.
        error: mean squared error of a decoded vector; None likewise.
    """

    relative_mse: float
    cosine: float
    used: list[float]
    perplexity: list[float]
    collision_rate: float
    largest_collision: int
    vectors: int | None = None
    error: float | None = None


def measure(quantizer: Quantizer, vectors: np.ndarray, codes: np.ndarray) -> Quality:
    """The figures for ``codes``, ``[n, levels]``, of ``vectors``, ``[n, dims]``."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    error = spread = cosine = 0.0
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = vectors[start : start + BLOCK_ROWS].astype(np.float64)
        decoded = quantizer.decode(codes[start : start + BLOCK_ROWS]).astype(np.float64)
        error += ((block - decoded) ** 2).sum()
        spread += ((block - mean) ** 2).sum()
        norms = np.linalg.norm(block, axis=1) * np.linalg.norm(decoded, axis=1)
        cosine += ((block * decoded).sum(axis=1)[norms > 0] / norms[norms > 0]).sum()
    shared = group_sizes(codes)
    return Quality(
        relative_mse=float(error / spread) if spread else float("nan"),
        cosine=float(cosine / len(vectors)),
        used=[len(np.unique(level)) / quantizer.codebook_size for level in codes.T],
        perplexity=[perplexity(level) for level in codes.T],
        collision_rate=float((shared > 1).mean()),
        largest_collision=int(shared.max()),
        vectors=len(vectors),
        error=float(error / len(vectors)),
    )


def errors(quantizer: Quantizer, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """``[n]`` squared error of each vector as its codes decode."""
    parts = [slice(start, start + BLOCK_ROWS) for start in range(0, len(vectors), BLOCK_ROWS)]
    found = [((vectors[rows] - quantizer.decode(codes[rows])) ** 2).sum(axis=1) for rows in parts]
    return np.concatenate(found) if found else np.zeros(0)


def perplexity(codes: np.ndarray) -> float:
    """``exp`` of the entropy of ``[n]`` codes."""
    shares = np.unique(codes, return_counts=True)[1] / len(codes)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def group_sizes(codes: np.ndarray) -> np.ndarray:
    """Per row of ``[n, levels]``, how many rows are equal to it, itself included."""
    _, group, sizes = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(sizes[group.reshape(-1)])

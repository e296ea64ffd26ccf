"""What a quantizer is: vectors to a few discrete codes each, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np

from mmfeat.schemas.errors import UsageError

# Rows handled at a time: bounds what encoding needs beside the vectors.
BLOCK_ROWS = 16_384


class Quantizer(ABC):
    """A fitted quantizer: ``levels`` codes per vector, coarse to fine, each below ``codebook_size``.

    The same vectors in the same order and the same seed give the same quantizer on the same machine
    and library versions.
    """

    #: What specs and the command line call it.
    method: ClassVar[str]
    #: Raised whenever the code would give other codes for the same data and settings.
    method_version: ClassVar[int] = 1

    def __init__(self, dims: int, levels: int, codebook_size: int) -> None:
        self.dims = dims
        self.levels = levels
        self.codebook_size = codebook_size

    @classmethod
    def fit(cls, vectors: np.ndarray, *, levels: int, codebook_size: int, seed: int) -> Self:
        """Fit to ``vectors``, float32 ``[n, dims]``.

        Raises:
            UsageError: fewer vectors than ``codebook_size``, or NaN or infinity among them.
        """
        if len(vectors) < codebook_size:
            raise UsageError(
                f"A codebook of {codebook_size:,} needs at least as many vectors,"
                f" and there are {len(vectors):,}.",
                hint="Choose a smaller codebook.",
            )
        if not np.isfinite(vectors).all():
            raise UsageError("There is NaN or infinity among the vectors.")
        return cls._fit(np.ascontiguousarray(vectors, np.float32), levels, codebook_size, seed)

    @classmethod
    @abstractmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> Self:
        """The quantizer whose :meth:`state` this is."""

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Everything fitted, by name."""

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """``[n, dims]`` to int32 ``[n, levels]``."""
        codes = np.empty((len(vectors), self.levels), np.int32)
        for rows in _blocks(len(vectors)):
            codes[rows] = self._encode(np.ascontiguousarray(vectors[rows], np.float32))
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Integers ``[n, levels]`` to float32 ``[n, dims]``; ValueError for a code out of range."""
        if codes.ndim != 2 or codes.shape[1] != self.levels:
            raise ValueError(f"codes have shape {codes.shape}, not [n, {self.levels}]")
        if codes.size and (codes.min() < 0 or codes.max() >= self.codebook_size):
            raise ValueError(f"codes must be from 0 to {self.codebook_size - 1}")
        vectors = np.empty((len(codes), self.dims), np.float32)
        for rows in _blocks(len(codes)):
            vectors[rows] = self._decode(codes[rows])
        return vectors

    @classmethod
    @abstractmethod
    def _fit(cls, vectors: np.ndarray, levels: int, codebook_size: int, seed: int) -> Self: ...

    @abstractmethod
    def _encode(self, vectors: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def _decode(self, codes: np.ndarray) -> np.ndarray: ...


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + BLOCK_ROWS) for start in range(0, n, BLOCK_ROWS)]

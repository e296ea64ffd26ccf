"""Codes of several sources side by side: each source has codebooks of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from mmfeat.extract.fitted.codes.base import Quantizer
from mmfeat.schemas.spec import Quantization


class Parallel(Quantizer):
    """Several quantizers, each of which reads its part of the vector: the codes of the first source come
    first, as in MSCGRec. No method that a feature can name: it is what ``mode = "parallel"`` makes of one.
    """

    def __init__(self, quantizers: Sequence[Quantizer]) -> None:
        dims, levels = (sum(getattr(one, name) for one in quantizers) for name in ("dims", "levels"))
        super().__init__(dims, levels, quantizers[0].codebook_size)
        self.quantizers = tuple(quantizers)

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> Self:
        """Not by the state alone: see :func:`load_quantizer`."""
        raise NotImplementedError("the method of its quantizers is in the spec")

    def state(self) -> dict[str, np.ndarray]:
        """The state of each quantizer, its names after the number of the source and a colon."""
        return {
            f"{n}:{k}": array for n, one in enumerate(self.quantizers) for k, array in one.state().items()
        }

    def reordered(self, rows: np.ndarray) -> Self:
        """See :meth:`Quantizer.reordered`."""
        parts = np.split(rows, np.cumsum([one.levels for one in self.quantizers])[:-1])
        return type(self)([one.reordered(part) for one, part in zip(self.quantizers, parts, strict=True)])

    def _encode(self, vectors: np.ndarray) -> np.ndarray:
        parts = _parts(vectors, [one.dims for one in self.quantizers])
        return np.hstack([one.encode(part) for one, part in zip(self.quantizers, parts, strict=True)])

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        parts = _parts(codes, [one.levels for one in self.quantizers])
        return np.hstack([one.decode(part) for one, part in zip(self.quantizers, parts, strict=True)])

    @classmethod
    def _fit(cls, vectors: np.ndarray, levels: int, codebook_size: int, seed: int) -> Self:
        raise NotImplementedError("its quantizers are fitted one by one")


def fit_quantizer(method: type[Quantizer], q: Quantization, vectors: np.ndarray) -> Quantizer:
    """A quantizer of this method, fitted as the recipe says to ``[n, dims]`` vectors of all sources."""
    sizes = {"levels": q.levels, "codebook_size": q.codebook_size, "seed": q.seed}
    if q.parts is None:
        return method.fit(vectors, **sizes)
    return Parallel([method.fit(part, **sizes) for part in _parts(vectors, q.parts)])


def load_quantizer(method: type[Quantizer], q: Quantization, state: dict[str, np.ndarray]) -> Quantizer:
    """The quantizer of this method whose state this is."""
    if q.parts is None:
        return method.from_state(state)
    states: list[dict[str, np.ndarray]] = [{} for _ in q.parts]
    for name, array in state.items():
        number, _, own = name.partition(":")
        states[int(number)][own] = array
    return Parallel([method.from_state(one) for one in states])


def _parts(matrix: np.ndarray, widths: Sequence[int]) -> list[np.ndarray]:
    return [np.ascontiguousarray(part) for part in np.split(matrix, np.cumsum(widths)[:-1], axis=1)]

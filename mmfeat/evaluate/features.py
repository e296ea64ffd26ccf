"""What a feature gives every item, as the protocols compare it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mmfeat.evaluate.spaces import Dense, Space, Sparse
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import FeatureColumn
from mmfeat.schemas.spec import FeatureSpec

_ROWS = 16_384
# Quantizers whose levels are of different parts of a vector.
_PRODUCT = ("pq", "opq")


@dataclass(frozen=True)
class Feature:
    """One version's values for the items that are judged.

    Attributes:
        version: ``name@fingerprint``.
        vectors: float32 ``[items, dims]`` of length 1 (0 if a vector is zero); None of codes.
        codes: int ``[items, levels]``; None of vectors.
        runs: how many levels after each other are coarse to fine; a level that belongs to no run is not
            compared. All are one run where it is empty.
    """

    version: str
    vectors: np.ndarray | None = None
    codes: np.ndarray | None = None
    runs: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The feature's name."""
        return self.version.partition("@")[0]

    def space(self) -> Space:
        """Where items are near each other: by cosine, or by how many codes are the same: of each run from its
        first one on."""
        if self.codes is not None:
            return Sparse(_prefixes(self.codes, self.runs or self.codes.shape[1:]))
        assert self.vectors is not None, "a feature has vectors or codes"
        return Dense(self.vectors)

    def shuffled(self, rng: np.random.Generator) -> Feature:
        """The same values, each at another item."""
        order = rng.permutation(len(self))
        vectors = None if self.vectors is None else self.vectors[order]
        return replace(self, vectors=vectors, codes=None if self.codes is None else self.codes[order])

    def random(self, rng: np.random.Generator) -> Feature:
        """Values of the same shape that are drawn: vectors in all directions, or any of the codes of a
        level.
        """
        if self.codes is not None:
            drawn = [rng.choice(np.unique(level), len(self)) for level in self.codes.T]
            return replace(self, codes=np.stack(drawn, axis=1))
        assert self.vectors is not None, "a feature has vectors or codes"
        return replace(self, vectors=unit(rng.standard_normal(self.vectors.shape, np.float32)))

    def __len__(self) -> int:
        values = self.vectors if self.vectors is not None else self.codes
        return 0 if values is None else len(values)


def feature_of(version: str, column: FeatureColumn) -> Feature:
    """A feature of the items of a lookup, all of which have a value.

    Several vectors of an item (a fixed or any number) become the mean of their directions.

    Raises:
        UsageError: it holds texts.
    """
    form = column.spec.form
    if form == "codes":
        return Feature(version, codes=column.matrix.astype(np.int64), runs=_runs(column.spec))
    if form == "vector":
        vectors = unit(column.matrix.astype(np.float32))
        return Feature(version, vectors if vectors.ndim == 2 else unit(vectors.mean(axis=1)))
    if form == "tokens":
        means = [unit(np.array(one, np.float32)).mean(axis=0) for one in column.tokens if one is not None]
        return Feature(version, unit(np.stack(means)))
    raise UsageError(
        f"{version} holds texts, and a protocol compares vectors or codes.",
        hint="Evaluate a feature that reads it: an encoder with this text as its source.",
    )


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1, in place where they are float32; zeros stay zeros."""
    flat = vectors.reshape(-1, vectors.shape[-1])
    for at in range(0, len(flat), _ROWS):
        part = flat[at : at + _ROWS]
        lengths = np.linalg.norm(part, axis=1, keepdims=True)
        part /= np.where(lengths > 0, lengths, 1)
    return vectors


def _runs(spec: FeatureSpec) -> tuple[int, ...]:
    """See :attr:`Feature.runs`: each part of a product quantizer has codes of its own, and so has each source
    of codes that are made side by side. A collision level, which numbers items whose codes are all the same,
    then says nothing by itself. Imported codes are taken to be coarse to fine."""
    q = spec.quantization
    if q is None:
        return ()
    if spec.method in _PRODUCT:
        return (1,) * q.code_levels
    return (q.levels,) * len(q.parts) if q.parts else ()


def _prefixes(codes: np.ndarray, runs: tuple[int, ...]) -> object:
    """``[items, prefixes]``, CSR: 1 over the root of the levels at each prefix of an item's codes in a run,
    so that the product of two items is the share of levels up to the first of their run that differs."""
    from scipy.sparse import csr_matrix

    n, levels = len(codes), sum(runs)
    firsts = set(np.cumsum((0, *runs)).tolist())
    columns = np.empty((n, levels), np.int64)
    prefix, known = np.zeros(n, np.int64), 0
    for level in range(levels):
        if level in firsts:
            prefix = np.zeros(n, np.int64)
        pairs = np.stack([prefix, codes[:, level]], axis=1)
        prefix = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
        columns[:, level] = known + prefix
        known += int(prefix.max(initial=-1)) + 1
    weights = np.full(n * levels, levels**-0.5, np.float32)
    return csr_matrix((weights, columns.ravel(), np.arange(0, n * levels + 1, levels)), shape=(n, known))

"""What a quantizer is: vectors to a few discrete codes each, and back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from mmfeat.extract.base import Ask, Reads
from mmfeat.extract.fitted.base import Fitted
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.inputs import VECTOR
from mmfeat.schemas.outputs import CodesOut
from mmfeat.schemas.spec import FeatureSpec, Quantization, Weights

# Rows handled at a time: bounds what encoding needs beside the vectors.
BLOCK_ROWS = 16_384


class QuantizerOptions(Frozen):
    """How fine codes are.

    Attributes:
        levels: codes per item, coarse to fine.
        codebook_size: different codes per level; at most as many as there are vectors.
        seed: of everything that is drawn at random.
        collision_level: one more code, 0, 1, 2, ..., so that no two items have the same codes.
        collisions: ``popularity``: colliding items are numbered by their interactions, most first; by id when
            None.
        mode: of several inputs: ``concat`` makes one vector of them; ``parallel`` gives each ``levels`` codes
            by codebooks of its own. ``concat`` when None.
        weights: of the inputs of a concatenation, in their order; all 1 when None.
        fit_sample: most vectors that are fitted to, drawn by the seed; all when None.
    """

    levels: int = Field(default=3, gt=0)
    codebook_size: int = Field(default=256, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**31)
    collision_level: bool = False
    collisions: Literal["popularity"] | None = None
    mode: Literal["concat", "parallel"] | None = None
    weights: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] | None = None
    fit_sample: int | None = Field(default=None, gt=0)


class ResidualOptions(QuantizerOptions):
    """How fine codes are whose levels follow each other.

    Attributes:
        sinkhorn_epsilon: the last level tells colliding items apart, by LC-Rec's rule with this epsilon; off
            when None.
    """

    sinkhorn_epsilon: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Quantizer(Fitted):
    """A fitted quantizer: ``levels`` codes per vector, coarse to fine, each below ``codebook_size``.

    The same vectors in the same order and the same seed give the same quantizer on the same machine
    and library versions.
    """

    Options: ClassVar[type[QuantizerOptions]] = QuantizerOptions
    reads: ClassVar[tuple[Reads, ...]] = (Reads((VECTOR,), together=True),)
    #: What specs and the command line call it.
    method: ClassVar[str]

    def __init__(self, dims: int, levels: int, codebook_size: int) -> None:
        self.dims = dims
        self.levels = levels
        self.codebook_size = codebook_size

    @classmethod
    def resolve(cls, ask: Ask[QuantizerOptions]) -> FeatureSpec:
        """See :meth:`Fitted.resolve`."""
        widths = [cls.vectors_of(ask, one).dims or 0 for one in ask.inputs]
        _check_sources(ask, widths)
        _check_collisions(ask)
        options = ask.options.model_dump()
        if len(widths) > 1:
            options["mode"] = options["mode"] or "concat"
        parts = tuple(widths) if options["mode"] == "parallel" else None
        quantization = Quantization(**options, parts=parts)
        return ask.spec(
            inputs=tuple(one.prepared() for one in ask.inputs),
            output=CodesOut(
                levels=quantization.code_levels + quantization.collision_level,
                codebook_size=quantization.codebook_size,
            ),
            method_version=cls.version_for(quantization.codebook_size),
            model=f"{quantization.levels}x{quantization.codebook_size}",
            weights=Weights(origin="fitted", ref=f"seed={quantization.seed}"),
            options={"quantization": quantization.model_dump(mode="json")},
        )

    @classmethod
    def version_for(cls, codebook_size: int) -> int:
        """The version of the rule by which codebooks of this size are fitted."""
        return cls.method_version

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

    def reordered(self, rows: np.ndarray) -> Self:
        """The same quantizer with its codes called otherwise; one that cannot do that stays as it is.

        Args:
            rows: ``[levels, codebook_size]``: the former code that each code of a level stands for.
        """
        return self

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


class Residual(Quantizer):
    """A quantizer each level of which takes what the levels before it left over."""

    Options: ClassVar[type[QuantizerOptions]] = ResidualOptions

    @abstractmethod
    def last_level(self, vectors: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``[n, d]``: what the levels before the last leave over; ``[codebook_size, d]``: the last codebook.

        Args:
            codes: ``[n, levels]`` of the vectors.
        """


def _check_sources(ask: Ask[QuantizerOptions], widths: Sequence[int]) -> None:
    """ConfigError for settings that do not go with so many sources."""
    options, several = ask.options, len(widths) > 1
    if any(one.optional for one in ask.inputs):
        raise ask.error("codes need every feature that they are made from: write its name without '?'")
    if not several and (options.mode or options.weights):
        raise ask.error("mode and weights are of several features", 'Write inputs = ["one", "another"].')
    if options.weights is not None and options.mode == "parallel":
        raise ask.error(
            "features that have codebooks of their own have no weights",
            'Leave weights out, or write mode = "concat".',
        )
    if options.weights is not None and len(options.weights) != len(widths):
        raise ask.error(f"{len(options.weights)} weights are given for {len(widths)} features")
    if options.mode == "parallel" and getattr(options, "sinkhorn_epsilon", None) is not None:
        raise ask.error("codes of several features side by side have no last level of them all")


def _check_collisions(ask: Ask[QuantizerOptions]) -> None:
    """ConfigError for an order of numbers that nobody gets."""
    if ask.options.collisions is not None and not ask.options.collision_level:
        raise ask.error(
            "collisions is the order in which a collision level numbers items, and there is no such level",
            "Add collision_level = true, or leave collisions out.",
        )


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + BLOCK_ROWS) for start in range(0, n, BLOCK_ROWS)]

"""Arithmetic of transformers by formula: multiply-adds of one picture, and of tokens of text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ViT:
    """The shape of a vision transformer (arXiv 2010.11929).

    Attributes:
        side, patch: pixels; extra: tokens beside the patches (class, registers).
        width, layers: of the transformer; mlp: width of its hidden layer as a multiple.
        dims: of a projection of one token at the end, if there is one.
    """

    side: int
    patch: int
    width: int
    layers: int
    mlp: float = 4.0
    extra: int = 1
    dims: int = 0

    @property
    def macs(self) -> int:
        """Multiply-adds of matrix products; norms, biases and activations are less than a percent.

        Per layer and token: 4 width^2 for query, key, value and output, 2 mlp width^2 for the hidden
        layer, and 2 tokens width for the scores and their sum.
        """
        patches = (self.side // self.patch) ** 2
        tokens = patches + self.extra
        per_token = (4 + 2 * self.mlp) * self.width**2 + 2 * tokens * self.width
        embedding = patches * 3 * self.patch**2 * self.width
        return int(self.layers * tokens * per_token + embedding + self.width * self.dims)

    @property
    def flops(self) -> int:
        """Two per multiply-add."""
        return 2 * self.macs


@dataclass(frozen=True)
class Decoder:
    """The shape of a language model as Llama's is (arXiv 2302.13971, with shared keys: arXiv 2305.13245).

    Attributes:
        width, layers: of the transformer; hidden: width of its gated hidden layer.
        keys: width of the keys of a token, and of its values.
        vocabulary: tokens that its head chooses from.
    """

    width: int
    layers: int
    hidden: int
    keys: int
    vocabulary: int

    def flops(self, tokens: int, seen: int) -> int:
        """Two per multiply-add of matrix products: of ``tokens``, each of which attends to ``seen``.

        Per layer and token: 2 width^2 for query and output, 2 width keys, 3 width hidden, and 2 width seen
        for the scores and their sum. The head is of tokens that are chosen, see ``head_flops``.
        """
        per_token = self.width * (2 * self.width + 2 * self.keys + 3 * self.hidden + 2 * seen)
        return 2 * tokens * self.layers * per_token

    @property
    def head_flops(self) -> int:
        """Of choosing one token."""
        return 2 * self.width * self.vocabulary


VIT_B_32 = ViT(224, 32, 768, 12, dims=512)
VIT_L_14 = ViT(224, 14, 1024, 24, dims=768)
DINOV2_L = ViT(518, 14, 1024, 24)

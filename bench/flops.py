"""Arithmetic of vision transformers by formula: multiply-adds of one picture."""

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


VIT_B_32 = ViT(224, 32, 768, 12, dims=512)
VIT_L_14 = ViT(224, 14, 1024, 24, dims=768)
DINOV2_L = ViT(518, 14, 1024, 24)

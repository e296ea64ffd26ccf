"""Items as a small model sees them: frozen vectors through one layer, a vector of their own, or both."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.functional import normalize


class Items(nn.Module):
    """Vectors of length 1 for items by number.

    Args:
        vectors: ``[count, d]`` of a feature, which are not trained; None for none.
        ids: whether every item has a trained vector, which is added where there is a feature too.
    """

    vectors: torch.Tensor | None

    def __init__(self, count: int, vectors: np.ndarray | None, dims: int, ids: bool) -> None:
        super().__init__()
        self.register_buffer("vectors", None if vectors is None else torch.from_numpy(vectors))
        self.seen = None if vectors is None else nn.Linear(vectors.shape[1], dims)
        self.own = nn.Embedding(count, dims) if ids or vectors is None else None
        if self.own is not None:
            nn.init.normal_(self.own.weight, std=dims**-0.5)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """``[...]`` int64 to ``[..., dims]``."""
        parts = []
        if self.seen is not None and self.vectors is not None:
            parts.append(normalize(self.seen(self.vectors[numbers]), dim=-1))
        if self.own is not None:
            parts.append(self.own(numbers))
        return normalize(torch.stack(parts).sum(dim=0), dim=-1)

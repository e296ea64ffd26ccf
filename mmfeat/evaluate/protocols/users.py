"""Users as small models see them: a history of item vectors to one vector."""

from __future__ import annotations

import torch
from torch import nn

_HEADS = 2


class MeanUser(nn.Module):
    """The mean of the items, and what two layers add to it."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dims, dims), nn.GELU(), nn.Linear(dims, dims))

    def forward(self, items: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """``[batch, n, dims]`` and the mask of what is there to ``[batch, dims]``."""
        weights = there.float().unsqueeze(-1)
        mean = (items * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        total: torch.Tensor = mean + self.layers(mean)
        return total


class AttendingUser(nn.Module):
    """The last place of one block of self-attention, where each item sees those before it."""

    later: torch.Tensor

    def __init__(self, dims: int, length: int) -> None:
        super().__init__()
        self.places = nn.Parameter(0.02 * torch.randn(length, dims))
        self.block = nn.TransformerEncoderLayer(
            dims, _HEADS, 2 * dims, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.register_buffer("later", torch.triu(torch.ones(length, length, dtype=torch.bool), 1))

    def forward(self, items: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """``[batch, n, dims]`` and the mask of what is there, the last one always, to ``[batch, dims]``."""
        # A place of padding sees itself, so that no row of attention is empty; nothing else sees it.
        hidden = self.later | ~there[:, None, :]
        hidden = hidden & ~torch.eye(items.shape[1], dtype=torch.bool)
        hidden = hidden.repeat_interleave(_HEADS, dim=0)
        found: torch.Tensor = self.block(items * items.shape[-1] ** 0.5 + self.places, src_mask=hidden)
        return found[:, -1]

"""``two_tower``: a small two-tower model on the frozen feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mmfeat.evaluate.protocols.trained import DIMS, Trained

if TYPE_CHECKING:
    import torch


class TwoTower(Trained):
    """A user is the mean of the last items through two layers; an item is its feature through one."""

    title: ClassVar[str] = "next items by a small two-tower model, trained on the frozen feature"
    cost: ClassVar[int] = 4

    def user_model(self) -> torch.nn.Module:
        """See :meth:`Trained.user_model`."""
        from mmfeat.evaluate.protocols.users import MeanUser

        return MeanUser(DIMS)

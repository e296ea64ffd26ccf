"""``sasrec``: a small transformer over a user's last items, on the frozen feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mmfeat.evaluate.protocols.trained import DIMS, HISTORY, Trained

if TYPE_CHECKING:
    import torch


class SASRecLike(Trained):
    """A user is what one layer of self-attention makes of the last items in their order.

    After Kang and McAuley, "Self-attentive sequential recommendation" (2018), with one block and the loss of
    :class:`Trained`.
    """

    title: ClassVar[str] = "next items by a small transformer like SASRec, trained on the frozen feature"
    cost: ClassVar[int] = 5

    def user_model(self) -> torch.nn.Module:
        """See :meth:`Trained.user_model`."""
        from mmfeat.evaluate.protocols.users import AttendingUser

        return AttendingUser(DIMS, HISTORY)

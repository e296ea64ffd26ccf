"""Text: a catalog holds it as it is, and nothing is decoded."""

from __future__ import annotations

from mmfeat.extract.modalities.base import Cost, Modality
from mmfeat.schemas.inputs import Prepare


class TextModality(Modality):
    """See the module."""

    name = "text"

    def cost(self, prepare: Prepare | None) -> Cost:
        """See :meth:`Modality.cost`."""
        return Cost(pictures=0)


TEXT = TextModality()

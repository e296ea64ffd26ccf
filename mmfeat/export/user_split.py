"""Whole users for training, validation and testing, for targets that split so and not by time."""

from __future__ import annotations

import numpy as np

from mmfeat.export.content import Interactions
from mmfeat.schemas.errors import UsageError

PARTS = ("train", "valid", "test")
# As in UniMP's preprocessing and PreferDiff's published data.
_HELD_BACK = 0.1
# The same users in every export of the same interactions.
_SEED = 42


def draw(users: int) -> dict[str, list[int]]:
    """Positions of the users of each part, in their order; 10% each, but at least one, are held back."""
    held_back = max(1, int(users * _HELD_BACK))
    drawn = np.random.default_rng(_SEED).permutation(users)
    parts = np.split(drawn, [users - 2 * held_back, users - held_back])
    return {part: sorted(found.tolist()) for part, found in zip(PARTS, parts, strict=True)}


def refuse_few(inter: Interactions) -> None:
    """UsageError if there is no user for each part."""
    if len(inter.user_ids) < len(PARTS):
        raise UsageError(
            f"There are {len(inter.user_ids)} users, and training, validation and testing need one each.",
            hint="Export interactions of more users: a smaller --k-core, or another file of --interactions.",
        )

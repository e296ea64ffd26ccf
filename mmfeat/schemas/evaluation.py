"""What is asked of an evaluation: ``[evaluate]`` of a job, and the flags of ``mmfeat evaluate``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mmfeat.schemas.frozen import Frozen

#: What needs no training, cheapest first.
CHEAP = ("probe", "item_item", "profile")


class EvaluateConfig(Frozen):
    """``[evaluate]``: how features are held against the interactions.

    Attributes:
        features: names or ``name@fingerprint``; in a job its own, else every current version, of vectors or
            codes.
        protocols: by name; they run cheapest first.
        split: what is held out: every user's ``last`` item, the latest tenth in ``time``, or all interactions
            with a tenth of the items (``cold``).
        users: so many users and query items are judged, drawn by the seed where there are more; each is
            ranked against all items.
        ids: trained models have a vector of their own for every item beside the feature's.
        seed: of everything that is drawn.
    """

    features: tuple[str, ...] = ()
    protocols: tuple[str, ...] = Field(default=CHEAP, min_length=1)
    split: Literal["last", "time", "cold"] = "last"
    users: int = Field(default=10_000, ge=10, le=10**9)
    ids: bool = False
    seed: int = Field(default=0, ge=0, lt=2**63)

"""Goods of the synthetic world: a picture shows a colour, a title says what the thing is made of.

A query names colour and material, and so needs both: other goods have the same colour, others the same title.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helpers import synthetic

MATERIALS = ("wool", "glass", "paper", "steel", "wood", "stone")
_TITLES = ("A toy made of {}", "{} decoration for the shelf", "Gift of {}, hand made", "Small thing, {}")


@dataclass(frozen=True)
class Good:
    """One item: its picture, its title, and what a person would search it by."""

    scene: synthetic.Scene
    material: str
    title: str

    @property
    def query(self) -> str:
        return f"a {self.scene.colour} thing of {self.material}"


def good(seed: int, scene: synthetic.Scene, material: str | None = None) -> Good:
    """The good of a seed, with this scene as its picture."""
    rng = np.random.default_rng(seed)
    material = material or str(rng.choice(MATERIALS))
    return Good(scene, material, str(rng.choice(_TITLES)).format(material))


def held_out() -> list[Good]:
    """Goods that no model was trained on: one of every colour and material."""
    kinds = [(colour, material) for colour in synthetic.COLOURS for material in MATERIALS]
    first = synthetic.HELD_OUT_FROM + 7_000_000
    return [
        good(first + k, synthetic.scene(first + k, colour), material)
        for k, (colour, material) in enumerate(kinds)
    ]

"""Pictures with text on them, whose words are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmfeat.schemas.media import Frames

_FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
_WORDS = (
    "summer", "sale", "bakery", "kitchen", "recipe", "travel", "winter", "garden", "music", "football",
    "river", "mountain", "camera", "coffee", "market", "holiday", "bridge", "window", "yellow", "painting",
    "journey", "morning", "chapter", "episode", "special", "nature",
)  # fmt: skip
#: Of the paper and of the letters.
_COLOURS = (("#1e3c5a", "white"), ("white", "black"), ("#c81e1e", "#fff5c8"), ("#f0dc32", "#14143c"))


def card(
    lines: Sequence[tuple[tuple[int, int], str]],
    size: int = 24,
    shape: tuple[int, int] = (160, 320),
    colours: tuple[str, str] = _COLOURS[0],
) -> np.ndarray:
    """uint8 ``[height, width, 3]``: texts, each from its left upper corner ``(x, y)`` on, ``size`` high."""
    height, width = shape
    picture = Image.new("RGB", (width, height), colours[0])
    draw = ImageDraw.Draw(picture)
    for corner, text in lines:
        draw.text(corner, text, font=ImageFont.truetype(str(_FONT), size), fill=colours[1])
    return np.asarray(picture)


def sentences(number: int, seed: int = 0) -> list[tuple[str, ...]]:
    """Cards' texts: one to three lines of one to three words and sometimes a number."""
    rng = np.random.default_rng(seed)

    def line() -> str:
        words = list(rng.choice(_WORDS, rng.integers(1, 4)))
        return " ".join([*words, str(rng.integers(10, 1000))] if rng.random() < 0.3 else words).capitalize()

    return [tuple(line() for _ in range(rng.integers(1, 4))) for _ in range(number)]


def written(lines: Sequence[str], size: int, seed: int = 0) -> np.ndarray:
    """A card as large as its lines need, in one of a few colours."""
    font = ImageFont.truetype(str(_FONT), size)
    width = int(max(font.getlength(line) for line in lines)) + 2 * size
    places = [((size, round(size * (0.8 + 1.8 * row))), line) for row, line in enumerate(lines)]
    shape = (round(size * (1.2 + 1.8 * len(lines))), width)
    return card(places, size, shape, _COLOURS[seed % len(_COLOURS)])


def still(picture: np.ndarray) -> Frames:
    """A picture as a method is given it."""
    return Frames(picture[None], (0.0,))

"""A small world whose captions are known: one coloured shape on a plain, noisy background.

The tiny models in ``tests/models`` are trained on it, so that their answers can be right or wrong.
Everything is decided by a seed: the same seed gives the same pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {
    "red": (215, 30, 35),
    "orange": (245, 140, 20),
    "yellow": (240, 225, 40),
    "green": (30, 150, 50),
    "cyan": (40, 205, 215),
    "blue": (35, 60, 205),
    "purple": (125, 40, 160),
    "pink": (250, 130, 190),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "diamond")
BACKGROUNDS = {"white": (240, 240, 240), "grey": (125, 125, 125), "black": (18, 18, 18)}
COMBOS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
# The tiny captioner never sees these in training: it has to put them together from their parts.
UNSEEN_COMBOS = (("green", "star"), ("pink", "square"), ("blue", "ring"))

# Seeds below this are for training; tests take theirs from `held_out`.
HELD_OUT_FROM = 1_000_000_000
_OVERSAMPLING = 3


@dataclass(frozen=True)
class Scene:
    """One picture, described.

    Attributes:
        width, height: pixels.
        centre: of the shape, as shares of width and height.
        radius: of the shape's circumscribed circle, as a share of the shorter side.
        tint: added to the shape's RGB. ``shade`` is added to the background's.
        noise: standard deviation of the Gaussian noise on every pixel, of 255.
        seed: decides the noise.
    """

    colour: str
    shape: str
    background: str
    width: int
    height: int
    centre: tuple[float, float]
    radius: float
    tint: tuple[int, int, int]
    shade: tuple[int, int, int]
    noise: float
    seed: int

    @property
    def caption(self) -> str:
        return f"a {self.colour} {self.shape} on a {self.background} background"


def scene(seed: int, colour: str | None = None, shape: str | None = None) -> Scene:
    """The scene of ``seed``: sides of 56 to 160 pixels, at most 4:3; the shape lies wholly inside the
    central square, so that a centre crop keeps it."""
    rng = np.random.default_rng(seed)
    short = int(rng.integers(56, 121))
    long = int(short * rng.uniform(1.0, 4 / 3))
    width, height = (short, long) if rng.random() < 0.5 else (long, short)
    radius = float(rng.uniform(0.2, 0.45))
    offset = rng.uniform(-1, 1, 2) * (0.48 - radius) * short
    drawn_colour = str(rng.choice(list(COLOURS)))
    drawn_shape = str(rng.choice(SHAPES))
    return Scene(
        colour=colour or drawn_colour,
        shape=shape or drawn_shape,
        background=str(rng.choice(list(BACKGROUNDS))),
        width=width,
        height=height,
        centre=(0.5 + float(offset[0]) / width, 0.5 + float(offset[1]) / height),
        radius=radius,
        tint=_shift(rng, 12),
        shade=_shift(rng, 14),
        noise=float(rng.uniform(0, 10)),
        seed=seed,
    )


def held_out(number: int, seed: int = 0) -> list[Scene]:
    """``number`` scenes that no model was trained on, cycling through all colour and shape pairs."""
    first = HELD_OUT_FROM + seed * 1_000_000
    return [scene(first + i, *COMBOS[i % len(COMBOS)]) for i in range(number)]


def render(item: Scene) -> np.ndarray:
    """The scene as uint8 ``[height, width, 3]`` RGB."""
    big = (item.width * _OVERSAMPLING, item.height * _OVERSAMPLING)
    back = _add(BACKGROUNDS[item.background], item.shade)
    image = Image.new("RGB", big, back)
    fill = _add(COLOURS[item.colour], item.tint)
    x, y = item.centre[0] * big[0], item.centre[1] * big[1]
    _draw(ImageDraw.Draw(image), item.shape, x, y, item.radius * min(big), fill, back)
    pixels = np.asarray(image.resize((item.width, item.height), Image.Resampling.BOX), np.float32)
    noise = np.random.default_rng(item.seed).normal(0, 1, pixels.shape) * item.noise
    return np.clip(pixels + noise + 0.5, 0, 255).astype(np.uint8)


def clip(item: Scene, frames: int = 8) -> np.ndarray:
    """The scene's shape moving from one edge to the opposite one: uint8 ``[frames, height, width, 3]``.

    It moves left to right for an even seed and top to bottom for an odd one.
    """
    return np.stack([render(moved) for moved in _path(item, frames)])


def _path(item: Scene, frames: int) -> list[Scene]:
    short = min(item.width, item.height)
    reach = (0.48 - item.radius) * short
    moved = []
    for i in range(frames):
        step = 0.0 if frames == 1 else 2 * i / (frames - 1) - 1
        if item.seed % 2 == 0:
            centre = (0.5 + step * reach / item.width, item.centre[1])
        else:
            centre = (item.centre[0], 0.5 + step * reach / item.height)
        moved.append(replace(item, centre=centre, seed=item.seed * 1000 + i))
    return moved


def _draw(
    draw: ImageDraw.ImageDraw,
    shape: str,
    x: float,
    y: float,
    r: float,
    fill: tuple[int, int, int],
    back: tuple[int, int, int],
) -> None:
    if shape == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill)
    elif shape == "ring":
        draw.ellipse((x - r, y - r, x + r, y + r), fill)
        draw.ellipse((x - r * 0.55, y - r * 0.55, x + r * 0.55, y + r * 0.55), back)
    elif shape == "cross":
        arm = r * 0.3
        draw.rectangle((x - r, y - arm, x + r, y + arm), fill)
        draw.rectangle((x - arm, y - r, x + arm, y + r), fill)
    else:
        draw.polygon(_corners(shape, x, y, r), fill)


def _corners(shape: str, x: float, y: float, r: float) -> list[tuple[float, float]]:
    """Corners on the circumscribed circle; a star has inner corners between them."""
    points, start, inner = {
        "square": (4, 0.25, 1.0),
        "diamond": (4, 0.0, 1.0),
        "triangle": (3, 0.0, 1.0),
        "star": (10, 0.0, 0.42),
    }[shape]
    corners = []
    for i in range(points):
        angle = 2 * math.pi * (i + start * 2) / points - math.pi / 2
        reach = r * (inner if i % 2 else 1.0)
        corners.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    return corners


def _shift(rng: np.random.Generator, most: int) -> tuple[int, int, int]:
    r, g, b = (int(v) for v in rng.integers(-most, most + 1, 3))
    return r, g, b


def _add(colour: tuple[int, int, int], shift: tuple[int, int, int]) -> tuple[int, int, int]:
    r, g, b = (min(255, max(0, c + s)) for c, s in zip(colour, shift, strict=True))
    return r, g, b

"""Stories whose order is known: what happens in the small world of :mod:`synthetic`.

A shape moves to the left or to the right, or one shape is seen after another. A story told backwards is
another one of the same pictures: only the order tells them apart. Everything is decided by a seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from helpers import synthetic

# Each in its own colour, so that what is to be learnt is what happens.
SHAPES = {"circle": "red", "cross": "green", "triangle": "blue"}
OPPOSITE = {"left": "right", "right": "left"}
# What is seen first, and what then or whereto it moves.
EVENTS = tuple(
    (shape, then) for shape in SHAPES for then in (*OPPOSITE, *(other for other in SHAPES if other != shape))
)
SIDE = 64


@dataclass(frozen=True)
class Story:
    """What happens, and the scene of each frame."""

    event: tuple[str, str]
    frames: tuple[synthetic.Scene, ...]

    @property
    def caption(self) -> str:
        first, then = self.event
        return f"a {first} moves to the {then}" if then in OPPOSITE else f"first a {first}, then a {then}"

    @property
    def backwards(self) -> Story:
        """The same pictures, the last one first."""
        first, then = self.event
        event = (first, OPPOSITE[then]) if then in OPPOSITE else (then, first)
        return Story(event, self.frames[::-1])


def story(seed: int, event: tuple[str, str] | None = None, frames: int = 8) -> Story:
    """The story of ``seed`` in so many square frames."""
    rng = np.random.default_rng(seed)
    drawn = EVENTS[int(rng.integers(len(EVENTS)))]
    first, then = event = event or drawn
    background = str(rng.choice(list(synthetic.BACKGROUNDS)))
    still = replace(
        synthetic.scene(seed, SHAPES[first], first),
        background=background,
        width=SIDE,
        height=SIDE,
        radius=float(rng.uniform(0.2, 0.3)),
        noise=3.0,
    )
    if then in OPPOSITE:
        shown = _moving(still, rng, frames, 1 if then == "right" else -1)
    else:
        change = round(frames * float(rng.uniform(0.4, 0.6)))
        places = [_place(rng, still.radius) for _ in range(2)]
        late = replace(still, shape=then, colour=SHAPES[then], centre=places[1])
        shown = [replace(still, centre=places[0])] * change + [late] * (frames - change)
    return Story(event, tuple(replace(s, seed=seed * 1000 + i) for i, s in enumerate(shown)))


def held_out(number: int, seed: int = 0, frames: int = 8) -> list[Story]:
    """``number`` stories that no model was trained on, cycling through all events."""
    first = synthetic.HELD_OUT_FROM + seed * 1_000_000
    return [story(first + i, EVENTS[i % len(EVENTS)], frames) for i in range(number)]


def render(item: Story) -> np.ndarray:
    """The story as uint8 ``[frames, SIDE, SIDE, 3]``."""
    return np.stack([synthetic.render(scene) for scene in item.frames])


def _moving(still: synthetic.Scene, rng: np.random.Generator, frames: int, way: int) -> list[synthetic.Scene]:
    """From one edge to the other, at an even pace."""
    _, y = _place(rng, still.radius)
    reach = 0.48 - still.radius
    steps = np.linspace(-way, way, frames)
    return [replace(still, centre=(0.5 + float(step) * reach, y)) for step in steps]


def _place(rng: np.random.Generator, radius: float) -> tuple[float, float]:
    """Anywhere that a shape lies wholly inside."""
    x, y = (float(v) for v in 0.5 + rng.uniform(-1, 1, 2) * (0.48 - radius))
    return x, y

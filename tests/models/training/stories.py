"""Clips of the synthetic world's stories, as the tiny models of video are trained on them."""

from __future__ import annotations

import numpy as np
import torch
from helpers import synthetic_stories
from helpers.synthetic_stories import EVENTS, OPPOSITE
from torch.nn import functional as F

FRAMES = 8
SIDE = 48
PATCH = 12
_BACKWARDS = [synthetic_stories.Story(event, ()).backwards.event for event in EVENTS]
_MIRRORED = [(first, OPPOSITE.get(then, then)) for first, then in EVENTS]


def pool(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips as uint8 ``[4 * number, FRAMES, 3, SIDE, SIDE]``, and the numbers of their events: each story as
    it is told, backwards, and both mirrored."""
    stories = [synthetic_stories.story(seed, frames=FRAMES) for seed in range(number)]
    pixels = torch.from_numpy(np.stack([synthetic_stories.render(story) for story in stories]))
    frames = pixels.flatten(0, 1).permute(0, 3, 1, 2).float()
    small = F.interpolate(frames, (SIDE, SIDE), mode="bicubic", antialias=True)
    clips = small.round().clamp(0, 255).to(torch.uint8).unflatten(0, (number, FRAMES))
    events = torch.tensor([EVENTS.index(story.event) for story in stories])
    clips, events = torch.cat([clips, clips.flip(1)]), torch.cat([events, _numbers(_BACKWARDS)[events]])
    return torch.cat([clips, clips.flip(4)]), torch.cat([events, _numbers(_MIRRORED)[events]])


def _numbers(others: list[tuple[str, str]]) -> torch.Tensor:
    """For each event the number of another."""
    return torch.tensor([EVENTS.index(event) for event in others])

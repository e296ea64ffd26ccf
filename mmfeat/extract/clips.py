"""A clip's frames as processors of transformers take a video."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmfeat.schemas.media import Frames

# Indices of frames are whole numbers, so times are given in milliseconds.
_TICKS = 1000


def lengthened(clip: Frames, least: int) -> Frames:
    """A clip of at least so many frames: the last one is repeated, as Qwen2.5-VL's processor does where that
    of Qwen3-VL refuses a single frame."""
    more = max(0, least - len(clip.times))
    if not more:
        return clip
    return Frames(
        np.concatenate([clip.pixels, *[clip.pixels[-1:]] * more]), clip.times + clip.times[-1:] * more
    )


def metadata(clip: Frames) -> dict[str, Any]:
    """A clip's frames as transformers' ``VideoMetadata`` tells them, so that ``timestamps``, which models
    write into the question, are the frames' own times, and ``sampled_fps`` their rate."""
    return {
        "total_num_frames": max(1, round(_TICKS * len(clip.times) / frame_rate(clip))),
        "fps": float(_TICKS),
        "frames_indices": [round(_TICKS * time) for time in clip.times],
        "height": clip.pixels.shape[1],
        "width": clip.pixels.shape[2],
    }


def frame_rate(clip: Frames) -> float:
    """Frames a second, by the mean time from one to the next; 1 if there is but one."""
    span = clip.times[-1] - clip.times[0]
    return (len(clip.times) - 1) / span if span > 0 else 1.0

"""What media readers hand to encoders, and the limits they keep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field


class MediaLimits(BaseModel):
    """Bounds on one item's media; what exceeds them is ``failed``, never decoded.

    Attributes:
        image_bytes: largest image file, bytes.
        image_pixels: largest width x height, from the header, before decoding.
        clip_bytes: largest clip file, bytes.
        clip_seconds: longest clip, seconds.
        clip_pixels: largest frame, width x height.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_bytes: int = Field(default=64 << 20, gt=0)
    image_pixels: int = Field(default=100_000_000, gt=0)
    clip_bytes: int = Field(default=2 << 30, gt=0)
    clip_seconds: float = Field(default=4 * 3600, gt=0)
    clip_pixels: int = Field(default=8192 * 4320, gt=0)


@dataclass(frozen=True)
class MediaBytes:
    """One file's content as read, once.

    Attributes:
        data: the bytes.
        content_hash: SHA-256 hex of the bytes.
        stamp: what the planner compares before reading anything, see ``stamp_of``.
    """

    data: bytes
    content_hash: str
    stamp: str


@dataclass(frozen=True)
class Frames:
    """The frames of one image (one frame) or clip in one view.

    Attributes:
        pixels: uint8 ``[frames, height, width, 3]`` RGB.
        times: seconds of each frame from the clip's start; ``(0.0,)`` for an image.
    """

    pixels: np.ndarray
    times: tuple[float, ...]

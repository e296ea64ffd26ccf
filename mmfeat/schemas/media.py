"""What media readers hand to encoders, and the limits they keep."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from mmfeat.schemas.frozen import Seconds
from mmfeat.schemas.objectstore import bucket_of

_MOST_BYTES, _MOST_PIXELS = 1 << 50, 1 << 40
_MOST_AT_ONCE = 1024

Bytes = Annotated[int, Field(gt=0, le=_MOST_BYTES)]
Pixels = Annotated[int, Field(gt=0, le=_MOST_PIXELS)]
Bucket = Annotated[str, StringConstraints(pattern=r"^(s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*/?$")]


class FetchOptions(BaseModel):
    """``[limits.fetch]``: how media behind http and https addresses are fetched.

    Attributes:
        allow_private_addresses: also from loopback, private, link-local and metadata addresses.
        buckets: of object stores, whose credentials are the operator's: what may be read with them, as
            ``s3://bucket``, beside the bucket that the dataset itself is in.
        seconds: longest time for one file, with all attempts and the waits between them.
        per_host: requests to one host at once, from all processes of one user on one machine.
        cache: absolute folder that keeps what was fetched; ``$XDG_CACHE_HOME/mmfeat/media`` when unset.
        cache_bytes: what the folder may hold; what was used longest ago makes room. 0 keeps nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    allow_private_addresses: bool = False
    buckets: tuple[Bucket, ...] = ()
    seconds: Seconds = 600
    per_host: int = Field(default=6, gt=0, le=_MOST_AT_ONCE)
    cache: Path | None = None
    cache_bytes: int = Field(default=20 << 30, ge=0, le=_MOST_BYTES)

    @field_validator("cache")
    @classmethod
    def _absolute(cls, folder: Path | None) -> Path | None:
        # Workers have other working directories than the process that read the option.
        if folder is not None and not (folder := folder.expanduser()).is_absolute():
            raise ValueError("give an absolute path")
        return folder

    def allows(self, bucket: str) -> bool:
        """Whether a bucket, as ``s3://bucket``, may be read."""
        return bucket in (listed.rstrip("/") for listed in self.buckets)


class MediaLimits(BaseModel):
    """Bounds on one item's media; what exceeds them is ``failed``.

    Files are held against the first seven before they are decoded. The last two bound the decoding
    itself, whatever a file says of itself.

    Attributes:
        image_bytes: largest image file, bytes.
        image_pixels: largest width x height, from the header, before decoding.
        clip_bytes: largest clip file, bytes.
        clip_seconds: longest clip, seconds.
        clip_pixels: largest frame, width x height.
        sound_bytes: largest sound file, bytes; a clip whose sound is taken may have ``clip_bytes``.
        sound_seconds: longest sound, seconds; of files that do not say their length, while it is decoded.
        item_seconds: longest time to decode one file, seconds.
        item_memory: most memory to decode one file, bytes beside the file itself.
        fetch: how media behind URLs are fetched.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_bytes: Bytes = 64 << 20
    image_pixels: Pixels = 100_000_000
    clip_bytes: Bytes = 2 << 30
    clip_seconds: Seconds = 4 * 3600
    clip_pixels: Pixels = 8192 * 4320
    sound_bytes: Bytes = 512 << 20
    sound_seconds: Seconds = 4 * 3600
    item_seconds: Seconds = 300
    item_memory: Bytes = 4 << 30
    fetch: FetchOptions = FetchOptions()

    def with_buckets(self, uris: Iterable[str]) -> MediaLimits:
        """These limits, with the buckets of ``uris`` among those that may be read."""
        own = [bucket for uri in uris if (bucket := bucket_of(uri)) and not self.fetch.allows(bucket)]
        if not own:
            return self
        fetch = self.fetch.model_copy(update={"buckets": (*self.fetch.buckets, *own)})
        return self.model_copy(update={"fetch": fetch})


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
class Scene:
    """One scene of a clip: from ``start`` to ``end`` in seconds after its first frame, and how many of
    the clip's :class:`Frames` belong to it."""

    start: float
    end: float
    frames: int


@dataclass(frozen=True)
class Pictures:
    """Several pictures of one item in one view.

    Attributes:
        pixels: uint8 ``[height, width, 3]`` RGB of each that could be read, in the order of the list.
        lost: ``(number from 1, stage, reason)`` of each that could not.
    """

    pixels: tuple[np.ndarray, ...]
    lost: tuple[tuple[int, str, str], ...] = ()

    @property
    def places(self) -> tuple[int, ...]:
        """The place in the list, from 0, of each that could be read."""
        lost = {number - 1 for number, _, _ in self.lost}
        return tuple(place for place in range(len(self.pixels) + len(lost)) if place not in lost)


@dataclass(frozen=True)
class Frames:
    """The frames of one image (one frame) or clip in one view.

    Attributes:
        pixels: uint8 ``[frames, height, width, 3]`` RGB.
        times: seconds of each frame from the clip's start; ``(0.0,)`` for an image.
        scenes: in order, what the frames were taken from, where a clip is sampled by scenes.
        cut: whether they are of a clip that is cut short, as far as it goes.
    """

    pixels: np.ndarray
    times: tuple[float, ...]
    scenes: tuple[Scene, ...] = ()
    cut: bool = False

"""Images and clips whose right answer is known, written on the spot: seeded and tiny.

Every frame of a clip carries its own number as ten black or white blocks, which survive compression.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from mmfeat.schemas.inputs import PixelView
from mmfeat.schemas.media import MediaLimits

LIMITS = MediaLimits()
# Leaves the pixels as they are.
AS_IS = PixelView(mode="bound", height=16384, width=16384)
CLIP_SIZE = (96, 160)
_BITS = 10
QUIET = "log-level=none"
#: Containers and codecs that clips come in: arguments of :func:`clip`.
KINDS: dict[str, dict[str, Any]] = {
    "h264": {},
    "h264, closed and open groups, B-pyramid": {
        "options": {"x264-params": "open-gop=1:bframes=4:b-pyramid=normal"}
    },
    "h264, no B-frames": {"options": {"x264-params": "bframes=0"}},
    "h264, one keyframe": {"group": 250},
    "h264, matroska": {"container": "matroska"},
    "h264, fragmented": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "h264, mpeg-ts": {"container": "mpegts"},
    "hevc, B-pyramid": {
        "codec": "libx265",
        "group": 250,
        "options": {"x265-params": f"{QUIET}:bframes=4:b-pyramid=1"},
    },
    "hevc, open groups": {"codec": "libx265", "options": {"x265-params": QUIET}},
    "hevc, temporal layers": {
        "codec": "libx265",
        "options": {"x265-params": f"{QUIET}:temporal-layers=3:bframes=4:b-pyramid=1"},
    },
    "vp8": {"codec": "libvpx", "container": "webm"},
    "vp9, hidden frames": {
        "codec": "libvpx-vp9",
        "container": "webm",
        "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"},
    },
    "av1": {"codec": "libsvtav1", "options": {"preset": "10", "crf": "20"}},
    "av1, webm": {"codec": "libsvtav1", "container": "webm", "options": {"preset": "10", "crf": "20"}},
    "mpeg-4, avi": {"codec": "mpeg4", "container": "avi"},
    "mpeg-4, mp4": {"codec": "mpeg4"},
}


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 ``[height, width, 3]``: soft colours with some noise, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return (smooth + rng.integers(-8, 9, (height, width, 1))).clip(0, 255).astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    """An image file of ``kind`` (Pillow's format name)."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def numbered(number: int, height: int = CLIP_SIZE[0], width: int = CLIP_SIZE[1]) -> np.ndarray:
    """One frame: its number in the upper half, lowest bit on the left; below, red on the left."""
    frame = np.full((height, width, 3), (60, 90, 120), np.uint8)
    block = width // _BITS
    for bit in range(_BITS):
        frame[: height // 2, bit * block : (bit + 1) * block] = 255 * (number >> bit & 1)
    frame[height // 2 :, : width // 2] = (200, 30, 30)
    return frame


def number_of(frame: np.ndarray) -> int:
    height, width, _ = frame.shape
    block = width // _BITS
    middles = (
        frame[height // 8 : 3 * height // 8, b * block + block // 4 : b * block + 3 * block // 4]
        for b in range(_BITS)
    )
    return sum(1 << bit for bit, middle in enumerate(middles) if middle.mean() > 128)


def clip(
    frames: int = 60,
    codec: str = "libx264",
    container: str = "mp4",
    *,
    times: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    rotation: float | None = None,
    group: int = 12,
    size: tuple[int, int] = CLIP_SIZE,
) -> bytes:
    """A clip of numbered frames, 25 a second.

    Args:
        times: presentation times in milliseconds, for a variable frame rate.
        group: frames from one keyframe to the next.
        rotation: degrees counterclockwise by which a player is to turn the pictures.
    """
    file = io.BytesIO()
    with (
        _own_priority(),
        av.open(file, "w", format=container, options=container_options or {}) as output,
    ):
        stream = output.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt, stream.gop_size = "yuv420p", group
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if not frames:
            output.start_encoding()
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered(i, *size), format="rgb24")
            frame.time_base = Fraction(1, 1000)
            frame.pts = 40 * i if times is None else int(times[i])
            output.mux(stream.encode(frame))
        if frames:
            output.mux(stream.encode())
    return file.getvalue()


@contextmanager
def _own_priority() -> Iterator[None]:
    """SVT-AV1, run by root, makes its caller a real-time process for good, and all others starve."""
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for thread in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setscheduler(int(thread.name), policy, priority)


def film(
    pictures: Sequence[np.ndarray],
    codec: str = "libx264",
    container: str = "mp4",
    times: Sequence[int] | None = None,
) -> bytes:
    """A clip of these pictures, uint8 ``[height, width, 3]``: 10 a second, or at ``times`` (milliseconds)."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=10)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, pixels in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.time_base, frame.pts = Fraction(1, 1000), times[i]
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return file.getvalue()


def moov_first(mp4: bytes) -> bytes:
    """The same MP4 with its index before its frames, as files for the web have it."""
    boxes, position = {}, 0
    while position < len(mp4):
        size = int.from_bytes(mp4[position : position + 4], "big")
        boxes[mp4[position + 4 : position + 8]] = mp4[position : position + size]
        position += size
    moov = boxes[b"moov"]
    at = moov.index(b"stco") + 8
    for i in range(int.from_bytes(moov[at : at + 4], "big")):
        field = slice(at + 4 + 4 * i, at + 8 + 4 * i)
        moved = int.from_bytes(moov[field], "big") + len(moov)
        moov = moov[: field.start] + moved.to_bytes(4, "big") + moov[field.stop :]
    return (
        boxes[b"ftyp"] + moov + b"".join(box for kind, box in boxes.items() if kind not in (b"ftyp", b"moov"))
    )

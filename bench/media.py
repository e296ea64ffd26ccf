"""Seeded media at real sizes: JPEGs with photo-like spectra, H.264 and HEVC clips with motion, titles."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

SHORT_SIDE = (400, 1080)
QUALITY = 90
CLIP_SIZE = (1280, 720)
CLIP_SECONDS = (8, 15)
CLIP_RATE = 25
#: x264 and x265 through PyAV, a keyframe every 250 frames.
CODECS = {
    "h264": ("libx264", {"preset": "veryfast", "crf": "26", "g": "250"}),
    "hevc": (
        "libx265",
        {"preset": "veryfast", "crf": "28", "g": "250", "x265-params": "keyint=250:log-level=error"},
    ),
}
_WORDS = (
    "red", "kettle", "river", "dance", "how", "to", "bake", "bread", "in", "ten", "minutes", "best", "of",
    "city", "night", "cat",
)  # fmt: skip


def write_pool(folder: Path, covers: int, h264: int, hevc: int) -> Path:
    """``covers/{id}.jpg`` and ``videos/{codec}-{id}.mp4``; those that are there already stay."""
    (folder / "covers").mkdir(parents=True, exist_ok=True)
    (folder / "videos").mkdir(exist_ok=True)
    clips = [*(("h264", item) for item in range(h264)), *(("hevc", item) for item in range(hevc))]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(_write_image, folder / "covers"), range(covers), chunksize=32))
        list(pool.map(partial(_write_clip, folder / "videos"), clips))
    return folder


def covers_of(pool: Path, number: int) -> list[Path]:
    """The first JPEGs of a pool."""
    return [pool / "covers" / f"{item:06d}.jpg" for item in range(number)]


def clips_of(pool: Path, codec: str, number: int) -> list[Path]:
    """The first clips of a codec of a pool."""
    return [pool / "videos" / f"{codec}-{item:06d}.mp4" for item in range(number)]


def gather(folder: Path, *, covers: Iterable[Path] = (), clips: Iterable[Path] = (), titles: int = 0) -> Path:
    """A new folder of items as mmfeat's dataset ``folder`` reads it, of links to a pool's files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, files in (("covers", covers), ("videos", clips)):
        for file in files:
            (folder / name).mkdir(exist_ok=True)
            os.link(file, folder / name / file.name)
    if titles:
        lines = ["item,title", *(f"{item:06d},{text}" for item, text in enumerate(titles_of(titles)))]
        (folder / "titles.csv").write_text("\n".join(lines) + "\n")
    return folder


def titles_of(number: int) -> list[str]:
    """Titles of 4 to 21 words, all different."""
    rng = np.random.default_rng(0)
    return [f"{' '.join(rng.choice(_WORDS, int(rng.integers(3, 21))))} {item}" for item in range(number)]


def picture(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """uint8 ``[height, width, 3]``: smooth fields at three scales and sensor noise, as photos have."""
    total = np.zeros((height, width, 3), np.float32)
    for cells, weight in ((4, 0.5), (24, 0.3), (120, 0.2)):
        field = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += weight * np.asarray(field.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    noise = rng.integers(-6, 7, (height, width, 1), dtype=np.int8)
    return np.clip(total + noise, 0, 255).astype(np.uint8)


def _write_image(covers: Path, item: int) -> None:
    path = covers / f"{item:06d}.jpg"
    if path.exists():
        return
    rng = np.random.default_rng([0, item])
    short = int(rng.integers(*SHORT_SIDE, endpoint=True))
    long = int(short * rng.uniform(1, 16 / 9))
    width, height = (long, short) if rng.random() < 0.6 else (short, long)
    waiting = path.with_suffix(".part")
    Image.fromarray(picture(rng, width, height)).save(waiting, "JPEG", quality=QUALITY)
    waiting.rename(path)


def _write_clip(videos: Path, clip: tuple[str, int]) -> None:
    codec, item = clip
    path = videos / f"{codec}-{item:06d}.mp4"
    if path.exists():
        return
    import av

    rng = np.random.default_rng([0, item, 1 + list(CODECS).index(codec)])
    width, height = CLIP_SIZE
    still = picture(rng, width + 400, height)
    frames = int(rng.uniform(*CLIP_SECONDS) * CLIP_RATE)
    encoder, options = CODECS[codec]
    waiting = path.with_suffix(".part.mp4")
    with av.open(str(waiting), "w") as out:
        stream = out.add_stream(encoder, rate=CLIP_RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = options
        for index in range(frames):
            # A slow pan: every frame differs from the last, as in a real clip.
            left = int(400 * index / frames)
            frame = np.ascontiguousarray(still[:, left : left + width])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        out.mux(stream.encode(None))
    waiting.rename(path)

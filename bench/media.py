"""Seeded media at real sizes: JPEGs with photo-like spectra, H.264 clips with motion."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

SHORT_SIDE = (400, 1080)
QUALITY = 90
CLIP_SIZE = (1280, 720)
CLIP_SECONDS = (8, 15)
CLIP_RATE = 25


def write_images(folder: Path, number: int, seed: int = 0) -> Path:
    """``number`` JPEGs as ``covers/{id}.jpg``; those that are there already stay."""
    covers = folder / "covers"
    covers.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_write_image, covers, seed), range(number), chunksize=32))
    return folder


def write_clips(folder: Path, number: int, seed: int = 0) -> Path:
    """``number`` H.264 clips of 8-15 s at 720p as ``videos/{id}.mp4``, a keyframe every 250 frames."""
    videos = folder / "videos"
    videos.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_write_clip, videos, seed), range(number)))
    return folder


def write_titles(folder: Path, number: int, seed: int = 0) -> Path:
    """``titles.csv`` with a title of 3 to 20 words per item."""
    rng = np.random.default_rng(seed)
    words = np.array(
        [
            "red",
            "kettle",
            "river",
            "dance",
            "how",
            "to",
            "bake",
            "bread",
            "in",
            "ten",
            "minutes",
            "best",
            "of",
            "city",
            "night",
            "cat",
        ]
    )
    lines = ["item,title"]
    for item in range(number):
        lines.append(f"{item:06d},{' '.join(rng.choice(words, int(rng.integers(3, 21))))} {item}")
    (folder / "titles.csv").write_text("\n".join(lines) + "\n")
    return folder


def picture(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """uint8 ``[height, width, 3]``: smooth fields at three scales and sensor noise, as photos have."""
    total = np.zeros((height, width, 3), np.float32)
    for cells, weight in ((4, 0.5), (24, 0.3), (120, 0.2)):
        field = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += weight * np.asarray(field.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    noise = rng.integers(-6, 7, (height, width, 1), dtype=np.int8)
    return np.clip(total + noise, 0, 255).astype(np.uint8)


def _write_image(covers: Path, seed: int, item: int) -> None:
    path = covers / f"{item:06d}.jpg"
    if path.exists():
        return
    rng = np.random.default_rng([seed, item])
    short = int(rng.integers(*SHORT_SIDE, endpoint=True))
    long = int(short * rng.uniform(1, 16 / 9))
    width, height = (long, short) if rng.random() < 0.6 else (short, long)
    waiting = path.with_suffix(".part")
    Image.fromarray(picture(rng, width, height)).save(waiting, "JPEG", quality=QUALITY)
    waiting.rename(path)


def _write_clip(videos: Path, seed: int, item: int) -> None:
    path = videos / f"{item:06d}.mp4"
    if path.exists():
        return
    import av

    rng = np.random.default_rng([seed, item, 1])
    width, height = CLIP_SIZE
    still = picture(rng, width + 400, height)
    frames = int(rng.uniform(*CLIP_SECONDS) * CLIP_RATE)
    waiting = path.with_suffix(".part.mp4")
    with av.open(str(waiting), "w") as out:
        stream = out.add_stream("libx264", rate=CLIP_RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "26", "g": "250"}
        for index in range(frames):
            # A slow pan: every frame differs from the last, as in a real clip.
            left = int(400 * index / frames)
            frame = np.ascontiguousarray(still[:, left : left + width])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        out.mux(stream.encode(None))
    waiting.rename(path)

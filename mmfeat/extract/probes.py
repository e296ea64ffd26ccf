"""Rows that are made up, to see what a method does with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mmfeat.extract.base import Row
from mmfeat.extract.modalities.decoders.views import resized_size
from mmfeat.schemas.inputs import AudioPrepare, ImagePrepare, Input, PixelPrepare, VideoPrepare
from mmfeat.schemas.media import Frames, Pictures, Scene
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureSpec

_TEXTS = (
    "x",
    "A red running shoe, size 42",
    "How to bake bread at home: flour, water, salt, yeast and patience. " * 6,
    "Rezept für ein Brot 面包食谱 🎬",
    "NIGHT of the Living Dead (1968)",
    "a blue circle on a white background",
)


def probe(spec: FeatureSpec, number: int = 6) -> list[Row]:
    """Rows as a spec gives them, of many lengths and each unlike the others; the same every time.

    Of an optional input every third row has none. Texts are real ones; pictures and frames are blocks of
    colours; sounds are tones with some noise.
    """
    return [tuple(_optional(one, row) for one in spec.given) for row in range(number)]


def _optional(read: Input, row: int) -> Any:
    return None if read.optional and row % 3 == 2 else probe_value(read, row)


def probe_value(read: Input, row: int) -> Any:
    """One value of an input.

    Raises:
        TypeError: no value can be made up.
    """
    prepare = read.prepare
    if read.modality == "text":
        return _TEXTS[row % len(_TEXTS)] + (f" {row}" if row >= len(_TEXTS) else "")
    if isinstance(prepare, ImagePrepare) and prepare.several is not None:
        return _pictures(prepare, row)
    if isinstance(prepare, PixelPrepare):
        return _frames(prepare, row)
    if isinstance(prepare, AudioPrepare):
        return _sound(prepare, row)
    raise TypeError(f"no {read.modality} can be made up for {read.source!r}; give rows")


def _pictures(prepare: ImagePrepare, row: int) -> Pictures:
    """Pictures of an item, more or fewer of them."""
    most = prepare.several or 1
    one = prepare.model_copy(update={"several": None})
    return Pictures(tuple(_frames(one, row + n).pixels[0] for n in range(min(1 + row % 3, most))))


def _frames(prepare: PixelPrepare, row: int) -> Frames:
    """A picture, or the frames of a clip: of the fixed size of the view, else of a size of their own."""
    view, counts = prepare.view, [1]
    scenes: tuple[Scene, ...] = ()
    if isinstance(prepare, VideoPrepare):
        sampling = prepare.sampling
        cuts = sampling.scenes
        counts = [sampling.count if sampling.short else min(1 + row, sampling.count)]
        if cuts is not None:
            counts = [sampling.count] * min(1 + row % 3, cuts.max_scenes)
            scenes = tuple(Scene(2.0 * k, 2.0 * (k + 1), n) for k, n in enumerate(counts))
    number = sum(counts)
    height, width = view.height, view.width
    if not view.is_fixed:
        height, width = min(height, 24 + 16 * row), min(width, 64 + 8 * row)
        height, width = resized_size(height, width, view)
    times = tuple(2.0 * k + 2.0 * (n + 0.5) / count for k, count in enumerate(counts) for n in range(count))
    pixels = np.stack([_blocks(height, width, 100 * row + n) for n in range(number)])
    return Frames(pixels, times if isinstance(prepare, VideoPrepare) else (0.0,), scenes)


def _blocks(height: int, width: int, seed: int) -> np.ndarray:
    """uint8 ``[height, width, 3]``: four by four blocks of colours."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    return np.ascontiguousarray(blocks[rows][:, columns])


def _sound(prepare: AudioPrepare, row: int) -> Sound:
    """Windows of a tone with some noise; every row has another pitch and length."""
    rate = prepare.sample_rate
    lengths = list(_window_lengths(prepare, row))
    total = sum(lengths)
    time = np.arange(total) / rate
    noise = np.random.default_rng(row).normal(0, 0.02, total)
    samples = (0.5 * np.sin(2 * np.pi * (220 + 110 * row) * time) + noise).astype(np.float32)
    ends = np.cumsum(lengths)
    windows = tuple(
        (float(end - n) / rate, float(end) / rate, n) for end, n in zip(ends, lengths, strict=True)
    )
    return Sound(samples, rate, windows, float(np.sqrt(np.mean(samples**2))))


def _window_lengths(prepare: AudioPrepare, row: int) -> Iterator[int]:
    whole = max(1, round(prepare.sample_rate * (0.4 + 0.3 * row)))
    if prepare.window is None:
        yield whole
        return
    for _ in range(min(prepare.count, 1 + row) - 1):
        yield prepare.window
    # The last window of a sound may be shorter.
    yield min(prepare.window, whole)


def coloured_blocks(number: int, height: int, width: int) -> np.ndarray:
    """Pictures of eight by eight blocks of random colours: uint8 ``[number, height, width, 3]``."""
    blocks = np.random.default_rng(0).integers(0, 256, (number, 8, 8, 3), dtype=np.uint8)
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    return np.ascontiguousarray(blocks[:, rows][:, :, columns])

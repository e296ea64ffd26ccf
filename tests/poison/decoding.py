"""What the tests want of each file, and the folder of the codec that does harm on demand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmfeat.extract.fence.decode import MediaRequest, Wanted, clip_of, picture_of
from mmfeat.schemas.inputs import AudioPrepare, FrameSampling, PixelView
from mmfeat.schemas.media import Frames
from mmfeat.schemas.sound import Sound

CODEC = Path(__file__).parent / "codec"
VIEW = PixelView(mode="squash", height=32, width=32)
_WANTED = {
    "image": (picture_of(VIEW),),
    "video": (clip_of(FrameSampling(count=3), VIEW),),
    # All of the sound, and windows for which it may have to be decoded twice.
    "audio": (
        Wanted("audio", AudioPrepare(sample_rate=16_000)),
        Wanted("audio", AudioPrepare(sample_rate=8_000, seconds=0.05, windows="uniform", count=3)),
    ),
}


def request(path: Path, *modalities: str) -> MediaRequest:
    """A file as these modalities: 32 x 32 pixels, of three frames where it is a clip; of sound all."""
    return MediaRequest(str(path), tuple(one for name in modalities for one in _WANTED[name]))


def check_equal(values: Sequence[Any], others: Sequence[Any]) -> None:
    """That one file's values are those of another, bit by bit."""
    for one, other in zip(values, others, strict=True):
        np.testing.assert_array_equal(_array(one), _array(other))
        assert _facts(one) == _facts(other)


def check_whole(value: Frames | Sound) -> None:
    """That a value holds what it says it holds."""
    if isinstance(value, Sound):
        assert value.samples.shape == (sum(samples for _, _, samples in value.windows),)
        assert value.samples.dtype == np.float32
        assert value.samples.size
        assert np.isfinite(value.samples).all()
        assert np.abs(value.samples).max() <= 1
    else:
        assert value.pixels.shape == (len(value.times), 32, 32, 3)


def _array(value: Frames | Sound) -> np.ndarray:
    return value.samples if isinstance(value, Sound) else value.pixels


def _facts(value: Frames | Sound) -> tuple[Any, ...]:
    if isinstance(value, Sound):
        return value.sample_rate, value.windows, value.rms
    return value.times, value.scenes

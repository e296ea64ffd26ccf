"""What encoders of sound share: windows of like length together, and the mean of an item's windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mmfeat.extract.encoders.pixels import to_vectors
from mmfeat.schemas.errors import MmfeatError
from mmfeat.schemas.inputs import AudioPrepare
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureSpec

# Windows that go through a network together. Ten seconds of a window are 500 steps of a wav2vec2.
_TOGETHER = 16


def sound_rate(spec: FeatureSpec) -> int:
    """The sample rate that a spec's sounds have (Hz)."""
    return _prepared(spec).sample_rate


def check_rate(sounds: Sequence[Sound], spec: FeatureSpec) -> None:
    """MmfeatError where a sound has another sample rate than the spec: a model would give other values
    without a word."""
    rate = sound_rate(spec)
    if strange := [sound.sample_rate for sound in sounds if sound.sample_rate != rate]:
        raise MmfeatError(f"{spec.method} wants sound of {rate:,} Hz, got {strange[0]:,} Hz")


def mean_of_windows(
    sounds: Sequence[Sound],
    spec: FeatureSpec,
    encode: Callable[[list[np.ndarray]], np.ndarray],
    *,
    padded: bool,
    least: int = 1,
) -> np.ndarray:
    """float32 ``[n, dims]`` of ``n`` sounds: of each, the mean of its windows' vectors, every window counting
    the same; divided by its length where the spec says so.

    Args:
        encode: some windows, each float32 ``[samples]``, to float32 ``[windows, dims]``.
        padded: whether ``encode`` takes windows of different lengths; else all that it gets have one length.
        least: samples that a model needs. A shorter window, the last one of ``all``, is left out of a sound
            that has others; ``encode`` gets it where it is the only one.

    Raises:
        MmfeatError: a sound has another sample rate than the spec.
    """
    check_rate(sounds, spec)
    windows = [[part for part in sound.parts if len(part) >= least] or sound.parts[:1] for sound in sounds]
    flat = [window for of_sound in windows for window in of_sound]
    vectors = _in_batches(flat, encode, padded)
    starts = np.cumsum([0, *(len(of_sound) for of_sound in windows[:-1])])
    counts = np.array([len(of_sound) for of_sound in windows], np.float32)
    means: np.ndarray = np.add.reduceat(vectors, starts, axis=0) / counts[:, None]
    return to_vectors(means, spec)


def _in_batches(
    windows: Sequence[np.ndarray], encode: Callable[[list[np.ndarray]], np.ndarray], padded: bool
) -> np.ndarray:
    """Vectors in the order of the windows, which are encoded in that of their lengths."""
    lengths = np.array([len(window) for window in windows])
    order = np.argsort(lengths, kind="stable")
    # Where another length begins.
    edges = np.array([], int) if padded else np.flatnonzero(np.diff(lengths[order])) + 1
    batches = [
        run[start : start + _TOGETHER]
        for run in np.split(order, edges)
        for start in range(0, len(run), _TOGETHER)
    ]
    encoded = np.concatenate([encode([windows[i] for i in batch]) for batch in batches])
    vectors = np.empty_like(encoded)
    vectors[order] = encoded
    return vectors


def _prepared(spec: FeatureSpec) -> AudioPrepare:
    (read,) = spec.given
    assert isinstance(read.prepare, AudioPrepare), f"{spec.name} reads no sound"
    return read.prepare

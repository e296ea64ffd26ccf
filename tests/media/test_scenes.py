"""Scenes of clips whose cuts are known: found where they are, joined by one rule, sampled one by one."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from helpers import media_samples as samples
from hypothesis import given
from hypothesis import strategies as st

from mmfeat.extract.base import Ask, AskedInput
from mmfeat.extract.modalities.decoders.scenes import first_frames, joined, scene_indices
from mmfeat.extract.modalities.decoders.video import render_clip
from mmfeat.extract.options import FrameOptions, frame_sampling
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.inputs import FrameSampling, SceneCuts
from mmfeat.schemas.media import Scene

CONTENT = SceneCuts(detector="content", threshold=27.0, min_seconds=0.0, max_scenes=16)


def sampling(count: int = 2, **cuts: object) -> FrameSampling:
    return FrameSampling(mode="scenes", count=count, scenes=CONTENT.model_copy(update=cuts))


def shots(lengths: Sequence[int], size: tuple[int, int] = (64, 96)) -> list[np.ndarray]:
    """Frames of one shot after another, each a picture of its own that brightens slowly."""
    frames = []
    for seed, length in enumerate(lengths):
        picture = samples.picture(*size, seed=seed).astype(np.int16)
        frames += [(picture + i).clip(0, 255).astype(np.uint8) for i in range(length)]
    return frames


def film(lengths: Sequence[int], *options: str, **more: Sequence[int]) -> bytes:
    return samples.film(shots(lengths), *options, **more)


def spans(scenes: Sequence[Scene]) -> list[tuple[float, float, int]]:
    return [(scene.start, round(scene.end, 6), scene.frames) for scene in scenes]


@pytest.mark.parametrize(
    ("codec", "container", "detector", "threshold"),
    [
        ("libx264", "mp4", "content", 27.0),
        ("libx264", "mp4", "adaptive", 3.0),
        ("libvpx-vp9", "webm", "content", 27.0),
        ("mpeg4", "avi", "content", 27.0),
    ],
)
def test_cuts_are_found_where_they_are_and_each_scene_gives_its_frames(codec, container, detector, threshold):
    asked = sampling(2, detector=detector, threshold=threshold)
    (frames,) = render_clip(film([12, 20, 8], codec, container), asked, [samples.AS_IS], samples.LIMITS)
    assert spans(frames.scenes) == [(0.0, 1.2, 2), (1.2, 3.2, 2), (3.2, 4.0, 2)]
    # The frames are those that uniform sampling takes of 12, 20 and 8: 3, 9; 5, 15; 2, 6.
    assert np.round(frames.times, 6).tolist() == [0.3, 0.9, 1.7, 2.7, 3.4, 3.8]
    pictures = np.stack([samples.picture(64, 96, seed=seed) for seed in range(3)]).astype(int)
    shown = [int(np.abs(f - pictures).mean(axis=(1, 2, 3)).argmin()) for f in frames.pixels.astype(int)]
    assert shown == [0, 0, 1, 1, 2, 2]


def test_times_are_those_of_the_frames_where_the_rate_varies():
    times = [100 * i for i in range(10)] + [1000 + 300 * i for i in range(10)]
    (frames,) = render_clip(film([10, 10], times=times), sampling(), [samples.AS_IS], samples.LIMITS)
    assert [(s.start, s.frames) for s in frames.scenes] == [(0.0, 2), (1.0, 2)]
    assert frames.times == (0.2, 0.7, 1.6, 3.1)


def test_a_clip_of_one_shot_is_one_scene_and_a_scene_of_few_frames_gives_them_all():
    (frames,) = render_clip(film([15]), sampling(4), [samples.AS_IS], samples.LIMITS)
    assert spans(frames.scenes) == [(0.0, 1.5, 4)]
    (frames,) = render_clip(film([15, 2]), sampling(4), [samples.AS_IS], samples.LIMITS)
    assert spans(frames.scenes) == [(0.0, 1.5, 4), (1.5, 1.7, 2)]


def test_a_flash_is_no_scene_and_too_many_scenes_are_joined():
    data = film([12, 1, 20, 8, 9])
    (frames,) = render_clip(data, sampling(1, min_seconds=0.5), [samples.AS_IS], samples.LIMITS)
    assert [s.start for s in frames.scenes] == [0.0, 1.3, 3.3, 4.1]
    (frames,) = render_clip(data, sampling(1, min_seconds=0.5, max_scenes=2), [samples.AS_IS], samples.LIMITS)
    assert [s.start for s in frames.scenes] == [0.0, 3.3]


def test_every_view_has_the_scenes():
    small = samples.AS_IS.model_copy(update={"height": 48, "width": 48})
    large, reduced = render_clip(film([12, 20]), sampling(), [samples.AS_IS, small], samples.LIMITS)
    assert (large.pixels.shape, reduced.pixels.shape) == ((4, 64, 96, 3), (4, 32, 48, 3))
    assert large.scenes == reduced.scenes
    assert len(large.scenes) == 2


def test_frames_are_looked_at_one_by_one_and_none_is_kept():
    alive, most = 0, 0

    class Seen(np.ndarray):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def stream():
        nonlocal alive, most
        for frame in shots([40, 40]):
            alive += 1
            most = max(most, alive)
            yield np.ascontiguousarray(frame[..., ::-1]).view(Seen)

    assert first_frames(stream(), CONTENT) == [0, 40]
    assert most <= 4


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=30),
    least=st.integers(0, 60),
    most=st.integers(1, 8),
)
def test_joined_scenes_cover_the_clip_are_few_enough_and_long_enough(lengths, least, most):
    bounds = [Fraction(sum(lengths[:k])) for k in range(len(lengths) + 1)]
    first = list(range(len(lengths)))
    cuts = CONTENT.model_copy(update={"min_seconds": float(least), "max_scenes": most})
    left = joined(first, bounds[:-1], bounds[-1], cuts)
    assert left[0] == 0
    assert left == sorted(set(left))
    assert set(left) <= set(first)
    assert len(left) <= most
    seconds = [b - a for a, b in pairwise([bounds[k] for k in left] + [bounds[-1]])]
    assert len(left) == 1 or min(seconds) >= least
    if len(lengths) <= most and min(lengths) >= least:
        assert left == first


def test_the_shortest_scene_joins_its_shorter_neighbour_and_the_earlier_of_equal_ones():
    def left(lengths: list[int], most: int) -> list[int]:
        bounds = [Fraction(sum(lengths[:k])) for k in range(len(lengths) + 1)]
        cuts = CONTENT.model_copy(update={"max_scenes": most})
        return joined(list(range(len(lengths))), bounds[:-1], bounds[-1], cuts)

    assert left([9, 2, 5, 9], 3) == [0, 1, 3]
    assert left([5, 2, 5], 2) == [0, 2]
    assert left([1, 5, 2], 2) == [0, 2]


def test_thousands_of_cuts_are_joined_at_once():
    times = [Fraction(i, 30) for i in range(20_000)]
    cuts = CONTENT.model_copy(update={"max_scenes": 8, "min_seconds": 1.0})
    assert len(joined(range(20_000), times, times[-1] + 1, cuts)) == 8


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 5))
def test_every_scene_is_sampled_as_a_clip_of_its_own(lengths, count):
    n = sum(lengths)
    times = [Fraction(i, 7) for i in range(n)]
    starts = [sum(lengths[:k]) for k in range(len(lengths))]
    expected = []
    for start, length in zip(starts, lengths, strict=True):
        taken = min(count, length)
        expected += [
            start + ((2 * i + 1) * length // (2 * taken) if length >= count else i) for i in range(taken)
        ]
    assert scene_indices([times[s] for s in starts], count, times, times[-1] + 1) == expected


def asked(**options: object) -> FrameSampling:
    """The sampling of a feature of clips with these options."""
    ask = Ask("c", "encoder", "m", (AskedInput("video", "video"),), (), FrameOptions(**options))
    return frame_sampling(ask)


def test_options_resolve_to_an_explicit_sampling():
    plain = asked(sampling="scenes")
    assert (plain.count, plain.most) == (3, 48)
    assert plain.scenes == SceneCuts(detector="content", threshold=27.0, min_seconds=1.0, max_scenes=16)
    other = asked(sampling="scenes", scene_detector="adaptive", min_scene_seconds=0.0, frames=1)
    assert (other.scenes.threshold, other.scenes.min_seconds, other.most) == (3.0, 0.0, 16)


def test_scene_options_without_scenes_are_refused():
    with pytest.raises(ConfigError, match="'scene_threshold' goes with sampling"):
        asked(scene_threshold=3.0)

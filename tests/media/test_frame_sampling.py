from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfeat.extract.modalities.decoders.sampling import frame_indices
from mmfeat.schemas.inputs import FrameSampling, Input, PixelView, VideoPrepare


def taken(
    mode: str, count: int, n: int, fps: float | None = None, every: Fraction = Fraction(1, 25), **more: object
) -> list[int]:
    times = [i * every for i in range(n)]
    return frame_indices(FrameSampling(mode=mode, count=count, fps=fps, **more), times, n * every)


@pytest.mark.parametrize("mode", ["uniform", "keyframes"])
def test_uniform_takes_the_centres_of_equal_spans(mode):
    assert taken(mode, 8, 60) == [3, 11, 18, 26, 33, 41, 48, 56]
    assert taken(mode, 4, 8) == [1, 3, 5, 7]
    assert taken(mode, 1, 9) == [4]
    assert taken(mode, 8, 8) == list(range(8))
    assert taken(mode, 8, 3) == [0, 1, 2]


@given(count=st.integers(1, 200), n=st.integers(1, 3000))
def test_uniform_is_the_rule_as_written_and_names_no_frame_twice(count, n):
    found = taken("uniform", count, n)
    if n >= count:
        assert found == [int((Fraction(i) + Fraction(1, 2)) * n / count) for i in range(count)]
    assert len(set(found)) == len(found) == min(count, n)


@given(count=st.integers(1, 60), n=st.integers(1, 300))
def test_middle_takes_consecutive_frames_around_the_middle_one(count, n):
    found = taken("middle", count, n)
    start = max(0, n // 2 - count // 2)
    assert found == list(range(start, start + min(count, n)))
    assert n // 2 in found
    assert found[-1] < n


@given(count=st.integers(1, 60), n=st.integers(1, 600), stride=st.integers(2, 9))
def test_a_stride_takes_every_kth_frame_around_the_middle_one(count, n, stride):
    found = taken("middle", count, n, stride=stride)
    start = max(0, n // 2 - count * stride // 2)
    assert found == [start + i * stride for i in range(count) if start + i * stride < n]
    assert any(abs(i - n // 2) < stride for i in found)


def test_videomae_takes_16_frames_of_64_by_a_stride_of_4():
    assert taken("middle", 16, 100, stride=4) == list(range(18, 82, 4))
    assert taken("middle", 16, 64, stride=4) == list(range(0, 64, 4))
    assert taken("middle", 16, 10, stride=4) == [0, 4, 8]


@given(
    mode=st.sampled_from(["uniform", "middle", "keyframes"]), count=st.integers(1, 40), n=st.integers(1, 200)
)
def test_a_short_clip_gives_all_frames_that_are_asked_for_where_the_spec_repeats(mode, count, n):
    plain, found = taken(mode, count, n), taken(mode, count, n, short="repeat")
    assert len(found) == count
    assert found == sorted(found)
    assert set(found) <= set(plain)
    assert set(found) == set(plain) or n < count
    if len(plain) == count:
        assert found == plain


def test_repeated_frames_are_spread_evenly_and_in_order():
    assert taken("uniform", 8, 3, short="repeat") == [0, 0, 0, 1, 1, 2, 2, 2]
    assert taken("middle", 4, 1, short="repeat") == [0, 0, 0, 0]
    assert taken("middle", 6, 10, stride=4, short="repeat") == [0, 0, 4, 4, 8, 8]
    assert taken("fps", 4, 50, fps=1, short="repeat") == [0, 0, 25, 25]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "uniform", "stride": 2}, "stride is given for sampling 'middle'"),
        (
            {
                "mode": "scenes",
                "short": "repeat",
                "scenes": {"detector": "content", "threshold": 27, "min_seconds": 1, "max_scenes": 4},
            },
            "does not go with sampling 'scenes'",
        ),
    ],
)
def test_what_has_no_meaning_for_a_sampling_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        FrameSampling.model_validate(fields)


def test_a_sampling_without_stride_and_short_is_written_as_before():
    prepare = VideoPrepare(
        view=PixelView(mode="squash", height=8, width=8), sampling=FrameSampling(mode="middle")
    )
    written = Input(source="video", modality="video", prepare=prepare).identity()["prepare"]["sampling"]
    assert written == {"mode": "middle", "count": 8}


def test_fps_takes_the_frame_shown_at_each_tick():
    assert taken("fps", 100, 60, fps=5) == list(range(0, 60, 5))
    assert taken("fps", 3, 60, fps=5) == [0, 5, 10]
    # Ticks at 0, 1/3, 2/3: between two frames the earlier one is on the screen.
    assert taken("fps", 100, 25, fps=3) == [0, 8, 16]
    # 25 a second asked of 12.5: every frame is on the screen at two ticks.
    assert taken("fps", 100, 3, fps=25, every=Fraction(2, 25)) == [0, 0, 1, 1, 2, 2]


def test_fps_ticks_do_not_drift_with_a_rate_that_binary_floats_cannot_hold():
    # Every 10 seconds: tick k is exactly frame 250 * k.
    assert taken("fps", 1000, 25_000, fps=0.1) == list(range(0, 25_000, 250))


def test_fps_of_a_variable_rate_goes_by_time_and_not_by_index():
    times = [Fraction(ms, 1000) for ms in (0, 40, 1000, 1010, 1020, 3000)]
    sampling = FrameSampling(mode="fps", fps=1, count=10)
    assert frame_indices(sampling, times, Fraction(3040, 1000)) == [0, 2, 4, 5]
    assert frame_indices(sampling, times[:1], Fraction(0)) == [0]

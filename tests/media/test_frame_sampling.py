from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfeat.extract.modalities.decoders.sampling import frame_indices
from mmfeat.schemas.inputs import FrameSampling


def taken(
    mode: str, count: int, n: int, fps: float | None = None, every: Fraction = Fraction(1, 25)
) -> list[int]:
    times = [i * every for i in range(n)]
    return frame_indices(FrameSampling(mode=mode, count=count, fps=fps), times, n * every)


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

"""Which frames of a clip are taken: arithmetic on indices and times, without a decoder.

The rules are those of :class:`mmfeat.schemas.spec.FrameSampling`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction

from mmfeat.schemas.inputs import FrameSampling


def frame_indices(sampling: FrameSampling, times: Sequence[Fraction], end: Fraction) -> list[int]:
    """Indices into the frames of a clip, ascending; ``fps`` and a short clip may name a frame more than once.

    Args:
        times: presentation time of every frame in seconds, ascending: of the keyframes alone for
            ``keyframes``.
        end: when the last frame ends.
    """
    chosen = _chosen(sampling, times, end)
    if sampling.short is None or len(chosen) == sampling.count:
        return chosen
    return [chosen[i] for i in _centres(len(chosen), sampling.count)]


def _chosen(sampling: FrameSampling, times: Sequence[Fraction], end: Fraction) -> list[int]:
    n, count = len(times), sampling.count
    if sampling.mode == "middle":
        stride = sampling.stride or 1
        start = max(0, n // 2 - count * stride // 2)
        return list(range(start, min(n, start + count * stride), stride))
    if sampling.mode == "fps":
        return _every(sampling, times, end)
    return list(range(n)) if n < count else _centres(n, count)


def _centres(n: int, count: int) -> list[int]:
    """Which of ``n`` are at the centres of ``count`` equal spans."""
    return [(2 * i + 1) * n // (2 * count) for i in range(count)]


def _every(sampling: FrameSampling, times: Sequence[Fraction], end: Fraction) -> list[int]:
    # By way of its decimal digits: 0.1 is to mean every 10 seconds and not a hair less.
    step = 1 / Fraction(str(sampling.fps))
    shown = []
    for k in range(sampling.count):
        time = times[0] + k * step
        if time >= end and k > 0:
            break
        shown.append(bisect_right(times, time) - 1)
    return shown

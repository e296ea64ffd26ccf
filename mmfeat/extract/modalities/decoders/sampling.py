"""Which frames of a clip are taken: arithmetic on indices and times, without a decoder.

The rules are those of :class:`mmfeat.schemas.spec.FrameSampling`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction

from mmfeat.schemas.inputs import FrameSampling


def frame_indices(sampling: FrameSampling, times: Sequence[Fraction], end: Fraction) -> list[int]:
    """Indices into the frames of a clip, ascending; ``fps`` may name a frame more than once.

    Args:
        times: presentation time of every frame in seconds, ascending: of the keyframes alone for
            ``keyframes``.
        end: when the last frame ends.
    """
    n, count = len(times), sampling.count
    if sampling.mode == "middle":
        start = max(0, n // 2 - count // 2)
        return list(range(start, min(n, start + count)))
    if sampling.mode == "fps":
        return _every(sampling, times, end)
    if n < count:
        return list(range(n))
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

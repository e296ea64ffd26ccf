"""Scenes of a clip: where they begin, by PySceneDetect's detectors on frames that we decode.

The detectors see every frame once, small, and keep none but the last: memory does not grow with the clip.
Of the cuts they find, too many and too short scenes are joined here, by one rule for every detector.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from mmfeat.extract.modalities.decoders.sampling import frame_indices
from mmfeat.schemas.inputs import FrameSampling, SceneCuts
from mmfeat.schemas.media import Scene

#: Longer side of the frames that detectors see, pixels.
DETECTION_SIDE = 256

# Detectors number frames by their time; only the numbers are used here, so any rate would do.
_RATE = 25.0


def first_frames(frames: Iterable[np.ndarray], cuts: SceneCuts) -> list[int]:
    """Numbers of the frames that a detector calls the first of a scene, ascending, 0 among them.

    Args:
        frames: every frame of the clip in order: uint8 ``[height, width, 3]`` in blue, green, red.
    """
    from scenedetect.common import FrameTimecode

    detector = _detector(cuts)
    found = {0}
    for number, frame in enumerate(frames):
        found.update(cut.frame_num for cut in detector.process_frame(FrameTimecode(number, _RATE), frame))
    return sorted(found)


def joined(first: Sequence[int], times: Sequence[Fraction], end: Fraction, cuts: SceneCuts) -> list[int]:
    """The first frames of the scenes that are left when short ones and ones too many are joined.

    The shortest scene is joined to the shorter of its neighbours, the earlier one if both are equal,
    until no scene is shorter than ``min_seconds`` and no more than ``max_scenes`` are left.

    Args:
        first: as :func:`first_frames` gives them.
        times: of every frame; ``end``: when the last one ends.
    """
    bounds = [*(times[i] for i in first), end]
    n = len(first)
    before, after = list(range(-1, n - 1)), list(range(1, n + 1))
    length = [bounds[k + 1] - bounds[k] for k in range(n)]
    alive = [True] * n
    shortest = [(length[k], k) for k in range(n)]
    heapq.heapify(shortest)
    left = n
    while left > 1:
        seconds, k = heapq.heappop(shortest)
        if not alive[k] or seconds != length[k]:
            continue
        if seconds >= cuts.min_seconds and left <= cuts.max_scenes:
            break
        earlier = before[k] >= 0 and (after[k] == n or length[before[k]] <= length[after[k]])
        into, gone = (before[k], k) if earlier else (k, after[k])
        length[into] += length[gone]
        alive[gone] = False
        after[into] = after[gone]
        if after[gone] < n:
            before[after[gone]] = into
        heapq.heappush(shortest, (length[into], into))
        left -= 1
    return [first[k] for k in range(n) if alive[k]]


def scene_indices(
    starts: Sequence[Fraction], count: int, times: Sequence[Fraction], end: Fraction
) -> list[int]:
    """Indices of ``count`` frames of every scene, sampled as ``uniform`` samples a clip.

    Args:
        starts: when each scene begins; ``times``, ``end``: as for :func:`frame_indices`.
    """
    uniform = FrameSampling(mode="uniform", count=count)
    bounds = [*(bisect_left(times, start) for start in starts), len(times)]
    return [low + i for low, high in pairwise(bounds) for i in frame_indices(uniform, times[low:high], end)]


def scenes_of(starts: Sequence[Fraction], end: Fraction, times: Sequence[float]) -> tuple[Scene, ...]:
    """The scenes, each with how many of the frames at ``times`` (ascending) are its own."""
    bounds = [float(time) for time in (*starts, end)]
    places = [*(bisect_left(times, start) for start in bounds[:-1]), len(times)]
    return tuple(
        Scene(start, stop, high - low)
        for (start, stop), (low, high) in zip(pairwise(bounds), pairwise(places), strict=True)
    )


def _detector(cuts: SceneCuts) -> Any:
    from scenedetect.detectors import AdaptiveDetector, ContentDetector

    # No shortest length here: `joined` sees to that, the same way for every detector.
    if cuts.detector == "adaptive":
        return AdaptiveDetector(adaptive_threshold=cuts.threshold, min_scene_len=0)
    return ContentDetector(threshold=cuts.threshold, min_scene_len=0)

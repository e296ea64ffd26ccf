"""Frames as decord gives them, each held against the one that PyAV decodes at the time that was asked for.

Published pipelines (VideoMAE's, InternVideo's, qwen-vl-utils) read clips by decord, which neither stretches
pixels that are no squares nor tone-maps HDR. It keeps a table of its own of when frames are shown, which is
right also where it then decodes another frame than the one asked for (decord2 3.4.0: H.264 and HEVC with open
groups of pictures, MPEG-TS). So its times prove nothing alone, and its pixels are compared: right frames were
PyAV's to the bit. A clip with any other frame fails.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from mmfeat.extract.modalities.decoders.clip import Choice
from mmfeat.schemas.errors import ItemError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_WAY_OUT = "leave reader out to have PyAV read it"
# Of 255: another version of FFmpeg may round otherwise.
_MOST_DIFFERENCE = 2
# Seconds: decord keeps times as binary floats.
_TIME_TOLERANCE = 1e-3


class DecordFrames:
    """decord's pictures of the frames that are chosen of one clip, all read when they are chosen.

    Memory: the pictures in full size.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._pictures: dict[Fraction, np.ndarray] = {}

    def choosing(self, choose: Choice) -> Choice:
        """The same choice, whose frames are then read."""

        def chosen(times: Sequence[Fraction], end: Fraction) -> list[int]:
            wanted = choose(times, end)
            self._read(times, list(dict.fromkeys(wanted)))
            return wanted

        return chosen

    def picture(self, time: Fraction, frame: VideoFrame) -> np.ndarray:
        """decord's picture, uint8 ``[height, width, 3]`` RGB, of the frame that PyAV decoded.

        Raises:
            ItemError: it is of another frame.
        """
        found, expected = self._pictures[time], frame.to_ndarray(format="rgb24")
        if found.shape != expected.shape or _difference(found, expected) > _MOST_DIFFERENCE:
            raise ItemError(
                "decode",
                f"decord gives another picture than that of the frame at {float(time):.3f} s; {_WAY_OUT}",
            )
        return found

    def _read(self, times: Sequence[Fraction], wanted: Sequence[int]) -> None:
        """Read the pictures of the frames whose indices into ``times`` are wanted, each once."""
        import decord

        decord.logging.set_level(decord.logging.FATAL)
        try:
            reader = decord.VideoReader(io.BytesIO(self._data), num_threads=1)
            if len(reader) != len(times):
                raise ItemError(
                    "decode",
                    f"decord counts {len(reader):,} frames in the clip, which has {len(times):,}; {_WAY_OUT}",
                )
            shown = reader.get_frame_timestamp([0, *wanted])[:, 0]
            pictures = reader.get_batch(wanted).asnumpy()
        except (decord.DECORDError, RuntimeError, AssertionError) as error:
            raise ItemError("decode", f"decord cannot read the clip; {_WAY_OUT}") from error
        for i, at in zip(wanted, shown[1:] - shown[0], strict=True):
            if abs(float(times[i]) - at) > _TIME_TOLERANCE:
                raise ItemError(
                    "decode",
                    f"decord shows frame {i} at {at:.3f} s and not at {float(times[i]):.3f} s; {_WAY_OUT}",
                )
        self._pictures = {times[i]: picture for i, picture in zip(wanted, pictures, strict=True)}


def _difference(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(np.int16) - other).max())

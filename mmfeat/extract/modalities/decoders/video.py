"""Decoding the sampled frames of a clip once and rendering them in every view that is wanted.

PyAV (FFmpeg's libraries) does the decoding. The container's packets, read without decoding, give the
presentation times of all frames; from these the sampled frames are chosen, and decoding starts at
the last keyframe before each. Every frame is recognised by its own time. Where container and codec
do not promise one frame per packet, or where a chosen time does not come out of the decoder, the
whole clip is decoded twice instead: to count its frames, then to take them.

Memory: the file, its packets (as much again), one decoded picture and the rendered views.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from mmfeat.extract.media.limits import check_bytes, check_pixels
from mmfeat.extract.modalities.decoders.container import declared_size
from mmfeat.extract.modalities.decoders.hevc import never_referred_to
from mmfeat.extract.modalities.decoders.sampling import frame_indices
from mmfeat.extract.modalities.decoders.scenes import (
    DETECTION_SIDE,
    first_frames,
    joined,
    scene_indices,
    scenes_of,
)
from mmfeat.extract.modalities.decoders.views import render_view
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.inputs import FrameSampling, PixelView, SceneCuts
from mmfeat.schemas.media import Frames, MediaLimits

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Nothing else: playlists, for one, make FFmpeg open further files and URLs.
_CONTAINERS = "mov,matroska,avi,flv,mpegts,mpeg,asf"
_CUT_SHORT = "clip is cut short"
# Of the times of all frames, and when the last one ends, the indices of those to take, ascending.
_Choice = Callable[[Sequence[Fraction], Fraction], list[int]]
# Containers with true presentation times, and codecs with one shown frame per packet.
_EXACT_CONTAINERS = frozenset({"mov", "matroska"})
_EXACT_CODECS = frozenset({"h264", "hevc", "vp8", "vp9", "av1"})


def render_clip(
    data: bytes, sampling: FrameSampling, views: Sequence[PixelView], limits: MediaLimits
) -> list[Frames]:
    """Decode the sampled frames of a clip and render every view of each.

    Frames are turned as the clip's display matrix says. Times are the frames' own presentation
    times, in seconds after the clip's first frame.

    Args:
        data: an MP4, QuickTime, Matroska, WebM, AVI, FLV, MPEG or WMV file.

    Returns:
        per view, in order, the sampled frames in presentation order.

    Raises:
        ItemError: stage ``decode``: not a clip, cut short, damaged, without a frame, or over the
            limits, which are checked before any sampled frame is decoded.
    """
    import av

    check_bytes("decode", len(data), limits.clip_bytes)
    if not data:
        raise ItemError("decode", "file is empty")
    if (declared := declared_size(data)) > len(data):
        raise ItemError("decode", f"{_CUT_SHORT}: {len(data):,} of {declared:,} bytes are there")
    try:
        container = av.open(
            io.BytesIO(data), "r", options={"format_whitelist": _CONTAINERS}, metadata_errors="replace"
        )
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError) as error:
        raise ItemError("decode", "not a clip that can be read") from error
    with container:
        try:
            return _render(_Clip(container, len(data), limits), sampling, views)
        except MemoryError:
            raise
        except av.FFmpegError as error:
            raise ItemError("decode", f"clip is damaged ({error.strerror})") from error


def _render(clip: _Clip, sampling: FrameSampling, views: Sequence[PixelView]) -> list[Frames]:
    if sampling.mode == "keyframes":
        return _rendered(clip.keyframes(sampling), views)
    if sampling.scenes is not None:
        return _of_scenes(clip, sampling, sampling.scenes, views)
    return _chosen(clip, partial(frame_indices, sampling), views)


def _of_scenes(
    clip: _Clip, sampling: FrameSampling, cuts: SceneCuts, views: Sequence[PixelView]
) -> list[Frames]:
    """Decodes the clip once more than other samplings do: to see where its scenes begin."""
    spans: list[tuple[int, int]] = []
    first = first_frames(clip.small_frames(spans), cuts)
    times, end = clip.timeline(spans)
    starts = [times[i] for i in joined(first, times, end, cuts)]
    frames = _chosen(clip, partial(scene_indices, starts, sampling.count), views)
    return [replace(of_view, scenes=scenes_of(starts, end, of_view.times)) for of_view in frames]


def _chosen(clip: _Clip, choose: _Choice, views: Sequence[PixelView]) -> list[Frames]:
    if clip.is_exact():
        try:
            return _rendered(clip.sought(choose), views)
        except _Unexpected:
            pass
    return _rendered(clip.counted(choose), views)


def _rendered(frames: Iterator[tuple[Fraction, VideoFrame]], views: Sequence[PixelView]) -> list[Frames]:
    times: list[float] = []
    pixels: list[list[np.ndarray]] = [[] for _ in views]
    last = None
    for time, frame in frames:
        if frame is not last:
            picture, last = _picture(frame), frame
            shown = [render_view(picture, view) for view in views]
        times.append(float(time))
        for rendered, view in zip(pixels, shown, strict=True):
            rendered.append(view)
    return [Frames(np.stack(rendered), tuple(times)) for rendered in pixels]


def _picture(frame: VideoFrame) -> np.ndarray:
    """uint8 ``[height, width, 3]`` RGB, upright."""
    if frame.is_corrupt:
        raise ItemError("decode", "clip is damaged (a sampled frame cannot be decoded in full)")
    picture = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


class _Unexpected(Exception):
    """The decoder does not give the frames that the container announces."""


class _Clip:
    """A clip's picture track: its packets in decoding order, and a decoder for them."""

    def __init__(self, container: InputContainer, size: int, limits: MediaLimits) -> None:
        self.limits = limits
        stream = _picture_track(container)
        self.container = frozenset(container.format.name.split(","))
        if stream.codec_context is None:
            raise ItemError("decode", "clip's pictures are of a kind that cannot be decoded")
        self.decoder: VideoCodecContext = stream.codec_context
        self.codec = self.decoder.codec.canonical_name
        check_pixels(self.decoder.width, self.decoder.height, limits.clip_pixels)
        if container.duration is not None:
            self._check_seconds(Fraction(container.duration, 1_000_000))
        # A run decodes many clips at a time, one per core.
        self.decoder.thread_type, self.decoder.thread_count = "NONE", 1
        self.packets = [packet for packet in container.demux(stream) if packet.size]
        entries_end = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
        if entries_end > size or any(packet.is_corrupt for packet in self.packets):
            raise ItemError("decode", f"{_CUT_SHORT}: frames that it lists are missing at its end")
        # Packets before the start of an edit list are decoded for others' sake and never shown.
        self.shown = [packet for packet in self.packets if not packet.is_discard]
        if not self.shown:
            raise ItemError("decode", "clip has no frame")
        self.time_base = stream.time_base or Fraction(1, 1_000_000)

    def is_exact(self) -> bool:
        """Whether the packets alone tell which frames there are and when each is shown."""
        if not (self.container & _EXACT_CONTAINERS and self.codec in _EXACT_CODECS):
            return False
        times = {packet.pts for packet in self.shown}
        if None in times or len(times) < len(self.shown):
            return False
        # Frames shown before the first keyframe may refer to frames that are not in the file.
        first = self.packets[0]
        return first.is_keyframe and all(_pts(first) <= _pts(packet) for packet in self.shown)

    def sought(self, choose: _Choice) -> Iterator[tuple[Fraction, VideoFrame]]:
        """The sampled frames, by decoding from the last keyframe before each.

        Raises:
            _Unexpected: a sampled frame does not come out of the decoder.
        """
        order = sorted(self.shown, key=_pts)
        times = [self._since(_pts(packet), _pts(order[0])) for packet in order]
        wanted = choose(times, times[-1] + (order[-1].duration or 0) * self.time_base)
        self._check_seconds(times[-1])
        search = _Search(self, {_pts(order[i]) for i in wanted})
        for i in wanted:
            yield times[i], search.frame(_pts(order[i]))

    def counted(self, choose: _Choice) -> Iterator[tuple[Fraction, VideoFrame]]:
        """The sampled frames, by decoding everything twice: to count, then to take."""
        times, end = self.timeline([_span(frame) for frame in self._all_frames()])
        wanted = choose(times, end)
        frames = enumerate(self._all_frames())
        at, frame = next(frames)
        for i in wanted:
            while at < i:
                at, frame = next(frames)
            yield times[i], frame

    def small_frames(self, spans: list[tuple[int, int]]) -> Iterator[np.ndarray]:
        """Every frame as scene detectors want it, its time and duration added to ``spans``."""
        side = DETECTION_SIDE
        for frame in self._all_frames():
            spans.append(_span(frame))
            ratio = max(1.0, max(frame.width, frame.height) / side)
            width, height = (max(1, round(pixels / ratio)) for pixels in (frame.width, frame.height))
            yield frame.to_ndarray(format="bgr24", width=width, height=height)

    def timeline(self, spans: Sequence[tuple[int, int]]) -> tuple[list[Fraction], Fraction]:
        """When each frame is shown and when the last one ends, of every frame's time and duration."""
        if not spans:
            raise ItemError("decode", "clip has no frame")
        times = [self._since(pts, spans[0][0]) for pts, _ in spans]
        if any(later < earlier for earlier, later in pairwise(times)):
            raise ItemError("decode", "clip is damaged (the times of its frames run backwards)")
        self._check_seconds(times[-1])
        return times, times[-1] + spans[-1][1] * self.time_base

    def keyframes(self, sampling: FrameSampling) -> Iterator[tuple[Fraction, VideoFrame]]:
        """The sampled keyframes, each decoded alone."""
        keys = [packet for packet in self.shown if packet.is_keyframe]
        if not keys:
            raise ItemError("decode", "clip has no keyframe; sample it in another mode")
        start = min(_pts(packet) for packet in self.shown)
        times = [self._since(_pts(packet), start) for packet in keys]
        for i in frame_indices(sampling, times, times[-1]):
            frames = [*self.decode(keys[i]), *self.decode(None)]
            self.decoder.flush_buffers()
            if not frames:
                raise ItemError("decode", f"clip is damaged (its keyframe at {float(times[i]):.2f} s)")
            yield times[i], frames[0]

    def never_referred_to(self) -> list[bool]:
        """Of each packet, whether its frame may be left out where it says that no other refers to it."""
        if self.codec == "h264":
            return [True] * len(self.packets)
        if self.codec == "hevc":
            return never_referred_to(self.packets, self.decoder.extradata)
        return [False] * len(self.packets)

    def _all_frames(self) -> Iterator[VideoFrame]:
        self.decoder.flush_buffers()
        self.decoder.skip_frame = "DEFAULT"
        for packet in (*self.packets, None):
            yield from self.decode(packet)

    def decode(self, packet: Packet[Any] | None) -> list[VideoFrame]:
        """What the decoder has ready after one more packet; after None, what is left."""
        frames = self.decoder.decode(packet)
        for frame in frames:
            check_pixels(frame.width, frame.height, self.limits.clip_pixels)
        return frames

    def _since(self, pts: int, start: int) -> Fraction:
        return (pts - start) * self.time_base

    def _check_seconds(self, seconds: Fraction) -> None:
        if seconds > self.limits.clip_seconds:
            raise ItemError(
                "decode",
                f"too large: clip is {float(seconds):,.1f} s long, "
                f"over the limit of {self.limits.clip_seconds:,.1f} s",
            )


class _Search:
    """Finds frames by their time, in ascending order, decoding no more than that takes."""

    def __init__(self, clip: _Clip, targets: set[int]) -> None:
        self.clip = clip
        self.targets = targets
        self.position = {_pts(packet): i for i, packet in enumerate(clip.packets) if not packet.is_discard}
        self.keys = [i for i, packet in enumerate(clip.packets) if packet.is_keyframe]
        self.spare = clip.never_referred_to()
        self.next = 0
        self.ready: deque[VideoFrame] = deque()
        self.found: VideoFrame | None = None

    def frame(self, pts: int) -> VideoFrame:
        """The frame shown at ``pts``, which is not before the last one asked for."""
        if self.found is not None and self.found.pts == pts:
            return self.found
        start = self._start(pts)
        if start > self.next:
            self.clip.decoder.flush_buffers()
            self.ready.clear()
            self.next = start
        while True:
            frame = self._next_frame()
            if frame.pts == pts:
                self.found = frame
                return frame

    def _start(self, pts: int) -> int:
        """The last keyframe from which the frame can be decoded.

        Not one that is shown later, though it comes first in the file: frames between two groups of
        pictures may refer to both (open GOP).
        """
        packets, position = self.clip.packets, self.position[pts]
        return max(i for i in self.keys if i <= position and _pts(packets[i]) <= pts)

    def _next_frame(self) -> VideoFrame:
        import av

        while not self.ready:
            if self.next > len(self.clip.packets):
                raise _Unexpected
            packet = None
            if self.next < len(self.clip.packets):
                packet = self.clip.packets[self.next]
                left_out = self.spare[self.next] and packet.pts not in self.targets
                self.clip.decoder.skip_frame = "NONREF" if left_out else "DEFAULT"
            self.next += 1
            try:
                self.ready.extend(self.clip.decode(packet))
            except av.FFmpegError as error:
                raise _Unexpected from error
        return self.ready.popleft()


def _picture_track(container: InputContainer) -> VideoStream:
    for stream in container.streams.video:
        # Audio files carry their cover as such a stream.
        if not stream.disposition & stream.disposition.attached_pic:
            return stream
    # FFmpeg writes a clip of no frame as a file without a single track.
    raise ItemError("decode", "clip has no picture track" if len(container.streams) else "clip has no frame")


def _pts(packet: Packet[Any]) -> int:
    pts = packet.pts if packet.pts is not None else packet.dts
    if pts is None:
        raise ItemError("decode", "clip does not say when its frames are shown")
    return pts


def _span(frame: VideoFrame) -> tuple[int, int]:
    """When the frame is shown and for how long, in units of the track's time base."""
    if frame.pts is None:
        raise ItemError("decode", "clip does not say when its frames are shown")
    return frame.pts, frame.duration or 0

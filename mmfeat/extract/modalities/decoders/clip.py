"""A clip's picture track: its packets in decoding order, when its frames are shown, and how they are found.

Of a container with true presentation times and a codec with one shown frame per packet the packets alone
tell which frames there are; of others the whole clip is decoded to count them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from mmfeat.extract.media.limits import check_pixels
from mmfeat.extract.modalities.decoders.hevc import never_referred_to
from mmfeat.extract.modalities.decoders.sampling import frame_indices
from mmfeat.extract.modalities.decoders.scenes import DETECTION_SIDE
from mmfeat.extract.modalities.decoders.shown import alpha_decoder, pixel_aspect, track_of
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.inputs import FrameSampling
from mmfeat.schemas.media import MediaLimits

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

CUT_SHORT = "clip is cut short"
# Files of these may be written one behind the other, each with times of its own.
JOINED = frozenset({"mpegts", "mpeg"})
# As FFmpeg's command line: times that go back so far, or on, in seconds, are another file's.
_BACK, AHEAD = Fraction(1, 10), 10
# A packet of MPEG-TS before such a join may be marked as incomplete, since the count of parts starts anew.
_MARKED_BEFORE_JOIN = 2
_TS_SYNC = b"\x47"
# Containers whose times may be those of decoding, or of several files: the decoder's order is what is shown.
_DECODE_TIMES = frozenset({"avi", "mpegts", "mpeg"})
# Of the times of all frames, and when the last one ends, the indices of those to take, ascending.
Choice = Callable[[Sequence[Fraction], Fraction], list[int]]
# Containers with true presentation times, and codecs with one shown frame per packet.
_EXACT_CONTAINERS = frozenset({"mov", "matroska"})
_EXACT_CODECS = frozenset({"h264", "hevc", "vp8", "vp9", "av1"})


class Unexpected(Exception):
    """The decoder does not give the frames that the container announces."""


class Clip:
    """A clip's picture track: its packets in decoding order, and a decoder for them."""

    def __init__(
        self, container: InputContainer, data: bytes, limits: MediaLimits, *, is_cut: bool, accept_cut: bool
    ) -> None:
        self.limits = limits
        stream = track_of(container)
        self.container = frozenset(container.format.name.split(","))
        if stream.codec_context is None:
            raise ItemError("decode", "clip's pictures are of a kind that cannot be decoded")
        self.decoder: VideoCodecContext = alpha_decoder(stream) or stream.codec_context
        self.codec = stream.codec_context.codec.canonical_name
        self.aspect = pixel_aspect(stream)
        check_pixels(stream.codec_context.width, stream.codec_context.height, limits.clip_pixels)
        # Of files that were joined FFmpeg takes the times of the last one for the whole's.
        if container.duration is not None and not self.container & JOINED:
            self._check_seconds(Fraction(container.duration, 1_000_000))
        # A run decodes many clips at a time, one per core.
        self.decoder.thread_type, self.decoder.thread_count = "NONE", 1
        self.time_base = stream.time_base or Fraction(1, 1_000_000)
        self.is_cut = is_cut
        self.packets = self._whole_packets(container, stream, data, accept_cut)
        if self.container & JOINED:
            self._run_on()
        # Packets before the start of an edit list are decoded for others' sake and never shown.
        self.shown = [packet for packet in self.packets if not packet.is_discard]
        if not self.shown:
            raise ItemError("decode", "clip has no frame")

    def _whole_packets(
        self, container: InputContainer, stream: VideoStream, data: bytes, accept_cut: bool
    ) -> list[Packet[Any]]:
        """The track's packets; all that are there of a clip that may be cut.

        Raises:
            ItemError: some are lost.
        """
        packets = [packet for packet in container.demux(stream) if packet.size]
        entries_end = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
        lost = {number for number, packet in enumerate(packets) if packet.is_corrupt}
        if "mpegts" in self.container:
            lost -= {number for number in lost if _is_before_join(data, packets, number)}
        if entries_end <= len(data) and not lost:
            return packets
        if not accept_cut:
            raise ItemError("decode", f"{CUT_SHORT}: frames that it lists are missing at its end")
        self.is_cut = True
        return packets[: min(lost, default=len(packets))]

    def _run_on(self) -> None:
        """Have the times of files that were written one behind the other run on."""
        shift, step = 0, 0
        last: int | None = None
        for packet in self.packets:
            time = packet.dts if packet.dts is not None else packet.pts
            if time is None:
                continue
            if last is not None:
                ahead = time + shift - last
                if not -_BACK <= ahead * self.time_base <= AHEAD:
                    shift = last + (packet.duration or step) - time
                step = time + shift - last
            packet.dts = last = time + shift
            if packet.pts is not None:
                packet.pts += shift

    def is_exact(self) -> bool:
        """Whether the packets alone tell which frames there are and when each is shown."""
        if self.is_cut or not (self.container & _EXACT_CONTAINERS and self.codec in _EXACT_CODECS):
            return False
        times = {packet.pts for packet in self.shown}
        if None in times or len(times) < len(self.shown):
            return False
        # Frames shown before the first keyframe may refer to frames that are not in the file.
        first = self.packets[0]
        return first.is_keyframe and all(_pts(first) <= _pts(packet) for packet in self.shown)

    def sought(self, choose: Choice) -> Iterator[tuple[Fraction, VideoFrame]]:
        """The sampled frames, by decoding from the last keyframe before each.

        Raises:
            Unexpected: a sampled frame does not come out of the decoder.
        """
        order = sorted(self.shown, key=_pts)
        times = [self._since(_pts(packet), _pts(order[0])) for packet in order]
        wanted = choose(times, times[-1] + (order[-1].duration or 0) * self.time_base)
        self._check_seconds(times[-1])
        search = _Search(self, {_pts(order[i]) for i in wanted})
        for i in wanted:
            yield times[i], search.frame(_pts(order[i]))

    def counted(self, choose: Choice) -> Iterator[tuple[Fraction, VideoFrame]]:
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
        width = height = 0
        for frame in self._all_frames():
            spans.append(_span(frame))
            if not spans[1:]:  # they compare frames, so all have the size of the first
                ratio = max(1.0, max(frame.width, frame.height) / DETECTION_SIDE)
                width, height = (max(1, round(pixels / ratio)) for pixels in (frame.width, frame.height))
            yield frame.to_ndarray(format="bgr24", width=width, height=height)

    def timeline(self, spans: Sequence[tuple[int, int]]) -> tuple[list[Fraction], Fraction]:
        """When each frame is shown and when the last one ends, of every frame's time and duration."""
        if not spans:
            raise ItemError("decode", "clip has no frame")
        if self.container & _DECODE_TIMES:
            # Decoders give frames in the order in which they are shown.
            spans = sorted(self._avi_spans(len(spans)) or spans)
        times = [self._since(pts, spans[0][0]) for pts, _ in spans]
        if any(later < earlier for earlier, later in pairwise(times)):
            raise ItemError("decode", "clip is damaged (the times of its frames run backwards)")
        self._check_seconds(times[-1])
        return times, times[-1] + spans[-1][1] * self.time_base

    def _avi_spans(self, frames: int) -> list[tuple[int, int]]:
        """Time and duration of each packet of an AVI file, which has one for each place in the order that
        frames are shown in; none where they are not as many as the frames."""
        if "avi" not in self.container:
            return []
        spans = [(packet.dts, packet.duration or 0) for packet in self.shown if packet.dts is not None]
        return spans if len(spans) == frames else []

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
            if self.is_cut:
                yield from self._decoded_of_cut(packet)
            else:
                yield from self.decode(packet)

    def _decoded_of_cut(self, packet: Packet[Any] | None) -> list[VideoFrame]:
        """The whole frames: what is left of the last ones may be damaged."""
        import av

        try:
            return [frame for frame in self.decode(packet) if not frame.is_corrupt]
        except MemoryError:
            raise
        except av.FFmpegError:
            return []

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

    def __init__(self, clip: Clip, targets: set[int]) -> None:
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
                raise Unexpected
            packet = None
            if self.next < len(self.clip.packets):
                packet = self.clip.packets[self.next]
                left_out = self.spare[self.next] and packet.pts not in self.targets
                self.clip.decoder.skip_frame = "NONREF" if left_out else "DEFAULT"
            self.next += 1
            try:
                self.ready.extend(self.clip.decode(packet))
            except av.FFmpegError as error:
                raise Unexpected from error
        return self.ready.popleft()


def _is_before_join(data: bytes, packets: Sequence[Packet[Any]], number: int) -> bool:
    """Whether a marked packet of MPEG-TS is among the last of a file behind which another one begins: with a
    keyframe, and parts that are counted from where the first file's are."""
    behind = packets[number + 1 : number + 1 + _MARKED_BEFORE_JOIN]
    counts = {_count(data, packet) for packet in behind if packet.is_keyframe}
    return _count(data, packets[0]) in counts


def _count(data: bytes, packet: Packet[Any]) -> int:
    """Where the count of a track's parts stands at the beginning of a packet (ISO/IEC 13818-1, 2.4.3.3)."""
    at = packet.pos or 0
    # In an M2TS file four bytes of time stand before each part.
    start = at if data[at : at + 1] == _TS_SYNC else at + 4
    return data[start + 3] & 15 if start + 3 < len(data) else -1


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

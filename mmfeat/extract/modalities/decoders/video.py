"""Decoding the sampled frames of a clip once and rendering them in every view that is wanted.

PyAV (FFmpeg's libraries) does the decoding. The container's packets, read without decoding, give the
presentation times of all frames; from these the sampled frames are chosen, and decoding starts at
the last keyframe before each. Every frame is recognised by its own time. Where container and codec
do not promise one frame per packet, or where a chosen time does not come out of the decoder, the
whole clip is decoded twice instead: to count its frames, then to take them.

Frames are shown as players show them (``shown.py``): turned and mirrored, in their true proportions, on
white where they are transparent, and tone-mapped from HDR. Of several picture tracks the default one is
taken. Where the size of frames changes within a clip and a view keeps it (``bound``), every frame is
fitted into the size of the first one taken.

Memory: the file, its packets (as much again), one decoded picture and the rendered views.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from mmfeat.extract.media.limits import check_bytes, check_pixels
from mmfeat.extract.modalities.decoders.by_decord import DecordFrames
from mmfeat.extract.modalities.decoders.clip import AHEAD, CUT_SHORT, JOINED, Choice, Clip, Unexpected
from mmfeat.extract.modalities.decoders.container import declared_size, whole_boxes
from mmfeat.extract.modalities.decoders.kinds import unreadable
from mmfeat.extract.modalities.decoders.sampling import frame_indices
from mmfeat.extract.modalities.decoders.scenes import (
    first_frames,
    joined,
    scene_indices,
    scenes_of,
)
from mmfeat.extract.modalities.decoders.shown import (
    alpha_decoder,
    display_size,
    is_other_track,
    is_shown_anew,
    pixel_aspect,
    shown,
    track_of,
)
from mmfeat.extract.modalities.decoders.sizes import sizes_may_vary
from mmfeat.extract.modalities.decoders.views import fitted, render_view
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.inputs import ClipReader, FrameSampling, PixelView, SceneCuts
from mmfeat.schemas.media import Frames, MediaLimits

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame

# Nothing else: playlists, for one, make FFmpeg open further files and URLs.
_CONTAINERS = "mov,matroska,avi,flv,mpegts,mpeg,asf,ogg,gif,apng"
_NEW_CONTAINERS = frozenset({"ogg", "gif", "apng"})


def render_clip(
    data: bytes,
    sampling: FrameSampling,
    views: Sequence[PixelView],
    limits: MediaLimits,
    *,
    accept_cut: bool = False,
    reader: ClipReader | None = None,
) -> list[Frames]:
    """Decode the sampled frames of a clip and render every view of each.

    Frames are turned as the clip's display matrix says. Times are the frames' own presentation
    times, in seconds after the clip's first frame.

    Args:
        data: an MP4, QuickTime, Matroska, WebM, AVI, FLV, MPEG, WMV, Ogg, GIF or APNG file.
        accept_cut: of a clip that is cut short take the frames that are there, and say so.
        reader: what decodes the frames in the place of PyAV, which then checks them (``by_decord.py``).

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
    is_cut = (declared := declared_size(data)) > len(data)
    if is_cut and not accept_cut:
        raise ItemError("decode", f"{CUT_SHORT}: {len(data):,} of {declared:,} bytes are there")
    try:
        container = _opened(data[: whole_boxes(data)] if is_cut else data)
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError) as error:
        if is_cut:
            raise ItemError("decode", f"{CUT_SHORT}: the index of its frames is lost") from error
        raise ItemError("decode", unreadable("a clip", data)) from error
    with container:
        try:
            clip = Clip(container, data, limits, is_cut=is_cut, accept_cut=accept_cut)
            frames = _render(clip, sampling, views, None if reader is None else DecordFrames(data))
            return [replace(of_view, cut=True) for of_view in frames] if clip.is_cut else frames
        except MemoryError:
            raise
        except av.FFmpegError as error:
            raise ItemError("decode", f"clip is damaged ({error.strerror})") from error


def _opened(data: bytes) -> InputContainer:
    import av

    return av.open(
        io.BytesIO(data), "r", options={"format_whitelist": _CONTAINERS}, metadata_errors="replace"
    )


def _render(
    clip: Clip, sampling: FrameSampling, views: Sequence[PixelView], decord: DecordFrames | None
) -> list[Frames]:
    if sampling.mode == "keyframes":
        return _rendered(clip, clip.keyframes(sampling), views)
    if sampling.scenes is not None:
        return _of_scenes(clip, sampling, sampling.scenes, views, decord)
    return _chosen(clip, partial(frame_indices, sampling), views, decord)


def _of_scenes(
    clip: Clip,
    sampling: FrameSampling,
    cuts: SceneCuts,
    views: Sequence[PixelView],
    decord: DecordFrames | None,
) -> list[Frames]:
    """Decodes the clip once more than other samplings do: to see where its scenes begin."""
    spans: list[tuple[int, int]] = []
    first = first_frames(clip.small_frames(spans), cuts)
    times, end = clip.timeline(spans)
    starts = [times[i] for i in joined(first, times, end, cuts)]
    frames = _chosen(clip, partial(scene_indices, starts, sampling.count), views, decord)
    return [replace(of_view, scenes=scenes_of(starts, end, of_view.times)) for of_view in frames]


def _chosen(
    clip: Clip, choose: Choice, views: Sequence[PixelView], decord: DecordFrames | None
) -> list[Frames]:
    if decord is not None:
        choose = decord.choosing(choose)
    if clip.is_exact():
        try:
            return _rendered(clip, clip.sought(choose), views, decord)
        except Unexpected:
            pass
    return _rendered(clip, clip.counted(choose), views, decord)


def _rendered(
    clip: Clip,
    frames: Iterator[tuple[Fraction, VideoFrame]],
    views: Sequence[PixelView],
    decord: DecordFrames | None = None,
) -> list[Frames]:
    times: list[float] = []
    pixels: list[list[np.ndarray]] = [[] for _ in views]
    last = None
    for time, frame in frames:
        if frame is not last:
            last = frame
            if decord is None:
                picture = _picture(frame)
                full_size = display_size(picture, frame, clip.aspect)
            else:
                picture, full_size = decord.picture(time, frame), None
            height, width = full_size or picture.shape[:2]
            check_pixels(width, height, clip.limits.clip_pixels)
            in_views = [render_view(picture, view, full_size) for view in views]
        times.append(float(time))
        for rendered, view in zip(pixels, in_views, strict=True):
            rendered.append(view)
    if not times:
        raise ItemError("decode", "clip has no frame")
    return [Frames(_stacked(rendered), tuple(times)) for rendered in pixels]


def _stacked(rendered: list[np.ndarray]) -> np.ndarray:
    """uint8 ``[frames, height, width, 3]`` in the size of the first."""
    size = rendered[0].shape
    return np.stack([one if one.shape == size else fitted(one, size[:2]) for one in rendered])


def _picture(frame: VideoFrame) -> np.ndarray:
    """uint8 ``[height, width, 3]`` RGB, upright."""
    if frame.is_corrupt:
        raise ItemError("decode", "clip is damaged (a sampled frame cannot be decoded in full)")
    return shown(frame)


def read_anew(data: bytes) -> bool:
    """Whether rule 2 of clips may read other frames than rule 1 did, or any where that failed.

    By what the container says, the first frame, and the heads of keyframes.
    """
    import av

    if declared_size(data) > len(data):
        return False
    try:
        with _opened(data) as container:
            return _is_read_anew(container)
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError, ItemError):
        return False


def _is_read_anew(container: InputContainer) -> bool:
    kinds = frozenset(container.format.name.split(","))
    stream = track_of(container)
    if stream.codec_context is None:
        return False
    if kinds & _NEW_CONTAINERS or is_other_track(container) or alpha_decoder(stream) is not None:
        return True
    decoder = stream.codec_context
    if "avi" in kinds and decoder.has_b_frames:
        return True
    frame = None
    packets = []
    for packet in container.demux(stream):
        packets.append(packet)
        if frame is None:
            frame = next(iter(decoder.decode(packet)), None)
    whole = [packet for packet in packets if packet.size]
    if kinds & JOINED and _is_joined(whole, stream.time_base or Fraction(1, 90_000)):
        return True
    return sizes_may_vary(whole, decoder) or (
        frame is not None and is_shown_anew(frame, pixel_aspect(stream))
    )


def _is_joined(packets: Sequence[Packet[Any]], time_base: Fraction) -> bool:
    times = [packet.dts for packet in packets if packet.dts is not None]
    steps = [(later - earlier) * time_base for earlier, later in pairwise(times)]
    return any(packet.is_corrupt for packet in packets) or any(s < 0 or s > AHEAD for s in steps)

"""A decoded frame as players show it: which track, which way up, how wide, on what, and how bright.

FFmpeg's ``ffplay`` and browsers are the reference. The decoder gives samples as they were stored; what is
said beside them is done here:

* The display matrix turns by quarters and mirrors.
* Pixels that are no squares: the shorter side is stretched, so that no pixel is lost.
* Alpha is laid on white, as that of pictures is.
* HDR (PQ, HLG) is tone-mapped to sRGB. Colours of standard range are left as they are.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mmfeat.extract.modalities.decoders.tone import HDR_TRANSFERS, tone_mapped
from mmfeat.schemas.errors import ItemError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Of tracks that are no clip but a still of it: none is taken where there is another.
_STILL_CODECS = frozenset({"mjpeg", "png", "bmp", "webp", "tiff", "gif"})
# Pixels further from a square are taken for damage.
_NARROWEST, _WIDEST = Fraction(1, 10), Fraction(10)
# FFmpeg's own decoders leave out the alpha that WebM keeps beside the frames; libvpx's do not.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_UNSPECIFIED, _BT2020 = 2, 9


def track_of(container: InputContainer) -> VideoStream:
    """The picture track to take: no cover or thumbnail, a default one, no still or single frame, and of
    several such FFmpeg's choice: of those that it looked at frames of, the one with more, or with more bits.

    Raises:
        ItemError: there is none.
    """
    tracks = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not tracks:
        # FFmpeg writes a clip of no frame as a file without a single track.
        raise ItemError(
            "decode", "clip has no picture track" if len(container.streams) else "clip has no frame"
        )
    for is_better in (_is_default, lambda stream: not _is_still(stream), lambda stream: stream.frames != 1):
        tracks = list(filter(is_better, tracks)) or tracks
    best = container.streams.best("video")
    return next((stream for stream in tracks if best is not None and stream.index == best.index), tracks[0])


def is_other_track(container: InputContainer) -> bool:
    """Whether another track is taken than the first that is no attached cover."""
    first = next((s for s in container.streams.video if not s.disposition & s.disposition.attached_pic), None)
    return first is not None and track_of(container).index != first.index


def _is_cover(stream: VideoStream) -> bool:
    kinds = stream.disposition
    return bool(kinds & (kinds.attached_pic | kinds.still_image | kinds.timed_thumbnails))


def _is_default(stream: VideoStream) -> bool:
    return bool(stream.disposition & stream.disposition.default)


def _is_still(stream: VideoStream) -> bool:
    return stream.codec_context is not None and stream.codec_context.codec.canonical_name in _STILL_CODECS


def alpha_decoder(stream: VideoStream) -> VideoCodecContext | None:
    """A decoder that also gives the alpha of a track, where the usual one does not."""
    import av

    name = _ALPHA_DECODERS.get(stream.codec_context.codec.canonical_name)
    said = {key.lower(): value for key, value in stream.metadata.items()}
    if name is None or said.get("alpha_mode") != "1":
        return None
    decoder: Any = av.CodecContext.create(name, "r")
    decoder.extradata = stream.codec_context.extradata
    return cast("VideoCodecContext", decoder)


def pixel_aspect(stream: VideoStream) -> Fraction:
    """Width of a track's pixels by their height; 1 if it is not said, or cannot be true."""
    said = stream.sample_aspect_ratio
    return said if said and _NARROWEST <= said <= _WIDEST else Fraction(1)


def shown(frame: VideoFrame) -> np.ndarray:
    """uint8 ``[height, width, 3]`` RGB, upright, in the frame's own pixels."""
    turns, mirrored = _turns(frame)
    picture = _colours(frame)
    if mirrored:
        picture = np.flipud(picture)
    return np.ascontiguousarray(np.rot90(picture, -turns)) if turns or mirrored else picture


def display_size(picture: np.ndarray, frame: VideoFrame, aspect: Fraction) -> tuple[int, int] | None:
    """``(height, width)`` in squares of a picture that :func:`shown` gave; None if its pixels are ones."""
    if aspect == 1:
        return None
    height, width = picture.shape[:2]
    across = 1 / aspect if _turns(frame)[0] % 2 else aspect
    return (height, round(width * across)) if across > 1 else (round(height / across), width)


def is_shown_anew(frame: VideoFrame, aspect: Fraction) -> bool:
    """Whether more is done to a frame than to turn it: mirrored, stretched, laid on white or tone-mapped."""
    return aspect != 1 or _turns(frame)[1] or _has_alpha(frame) or frame.color_trc in HDR_TRANSFERS


def _turns(frame: VideoFrame) -> tuple[int, bool]:
    """Quarter turns clockwise of a frame, after it is mirrored upside down where that is so.

    A display matrix takes ``(x, y)`` to ``(a x + c y, b x + d y)``, y downwards.
    """
    from av.sidedata.sidedata import Type

    sides: Any = frame.side_data
    found = sides.get(Type.DISPLAYMATRIX)
    if found is None:
        return 0, False
    a, b, _, c, d = struct.unpack_from("=5i", bytes(found))
    across, down = math.hypot(a, c), math.hypot(b, d)
    if not across or not down:
        return 0, False
    return round(math.atan2(b / down, a / across) / (math.pi / 2)) % 4, a * d - b * c < 0


def _colours(frame: VideoFrame) -> np.ndarray:
    """uint8 ``[height, width, 3]`` RGB of standard range, on white."""
    if frame.color_trc in HDR_TRANSFERS:
        matrix = _BT2020 if frame.colorspace == _UNSPECIFIED else None
        deep = frame.reformat(format="rgb48le", src_colorspace=matrix).to_ndarray()
        return tone_mapped(deep, frame.color_trc, frame.color_primaries)
    if _has_alpha(frame):
        return _on_white(frame.to_ndarray(format="rgba"))
    return frame.to_ndarray(format="rgb24")


def _has_alpha(frame: VideoFrame) -> bool:
    return any(component.is_alpha for component in frame.format.components) or frame.format.name == "pal8"


def _on_white(pixels: np.ndarray) -> np.ndarray:
    """uint8 ``[height, width, 3]`` of ``[height, width, 4]``."""
    alpha = pixels[..., 3:].astype(np.uint32)
    mixed = pixels[..., :3] * alpha + 255 * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)

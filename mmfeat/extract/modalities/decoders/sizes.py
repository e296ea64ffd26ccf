"""Whether the size of a clip's frames may change on its way, by the heads of its keyframes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext

# Parameter sets stand before the first slice.
_HEAD = 1024
_START_CODE = b"\0\0\1"
_H264_SIZES, _HEVC_SIZES = 7, 33
_VP9_PROFILE = 0x30
_MPEG_SEQUENCE = b"\0\0\1\xb3"


def sizes_may_vary(packets: Sequence[Packet[Any]], decoder: VideoCodecContext) -> bool:
    """Whether what keyframes say of their size differs; of codecs that are not read here False."""
    codec = decoder.codec.canonical_name
    heads = (bytes(memoryview(packet)[:_HEAD]) for packet in packets if packet.is_keyframe)
    said = {size for head in heads for size in _sizes(codec, head)}
    return len(said) > 1 or any(packet.has_sidedata("new_extradata") for packet in packets)


def _sizes(codec: str, head: bytes) -> Iterator[bytes]:
    """What a keyframe says of its size, in the codec's own words."""
    if codec == "vp8":
        yield head[6:10]
    elif codec == "vp9" and head:
        # Behind the sync code stand four bits of colour, up to three more by profile, then 32 of size.
        bits = int.from_bytes(head[4:9], "big")
        yield (bits >> (1 if head[0] & _VP9_PROFILE else 4)).to_bytes(5, "big")
    elif codec in ("mpeg1video", "mpeg2video"):
        at = head.find(_MPEG_SEQUENCE)
        if at >= 0:
            yield head[at + 4 : at + 7]
    elif codec == "h264":
        yield from (unit for unit in _units(head) if unit[:1] and unit[0] & 31 == _H264_SIZES)
    elif codec == "hevc":
        yield from (unit for unit in _units(head) if unit[:1] and unit[0] >> 1 & 63 == _HEVC_SIZES)


def _units(head: bytes) -> Iterator[bytes]:
    """NAL units, after start codes or after their sizes."""
    if head.startswith((b"\0\0\1", b"\0\0\0\1")):
        yield from (unit.rstrip(b"\0") for unit in head.split(_START_CODE))
        return
    at = 0
    while at + 4 < len(head):
        size = int.from_bytes(head[at : at + 4], "big")
        yield head[at + 4 : at + 4 + size]
        at += 4 + size

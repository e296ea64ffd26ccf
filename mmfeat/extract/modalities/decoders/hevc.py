"""Which HEVC frames no other frame refers to, as the headers of their NAL units say (ITU-T H.265, 7.4.2.2).

A slice of an even type below 16 belongs to a frame that no later frame of its own temporal layer refers
to. One of a higher layer may, so that only frames of the highest layer are certain to be left out in peace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.packet import Packet

# Types below are slices of pictures; those from it on are parameter sets and messages.
_FIRST_OTHER_TYPE = 32
# Of those below it, the even ones are of frames to which their layer does not refer.
_FIRST_KEY_TYPE = 16
# Of a decoder configuration record (ISO/IEC 14496-15, 8.3.3.1): its shortest, and where it says how
# many bytes the size before each unit takes.
_RECORD_BYTES, _SIZE_AT = 23, 21


def never_referred_to(packets: Sequence[Packet[Any]], configuration: bytes | None) -> list[bool]:
    """Of each packet of a track, whether no other frame refers to its frame.

    Args:
        packets: all of the track, as MP4 and Matroska hold them: units after their sizes.
        configuration: the track's decoder configuration record; without one nothing is known, and no
            packet is said to be such a one.
    """
    if configuration is None or len(configuration) < _RECORD_BYTES or configuration[0] != 1:
        return [False] * len(packets)
    size_bytes = (configuration[_SIZE_AT] & 3) + 1
    slices = [_first_slice(memoryview(packet), size_bytes) for packet in packets]
    highest = max((layer for _, layer in filter(None, slices)), default=0)
    return [found is not None and found[0] and found[1] == highest for found in slices]


def _first_slice(packet: memoryview, size_bytes: int) -> tuple[bool, int] | None:
    """Whether its layer does not refer to a packet's frame, and which layer that is; None without a slice."""
    at = 0
    while at + size_bytes + 2 <= len(packet):
        first, second = packet[at + size_bytes], packet[at + size_bytes + 1]
        kind = first >> 1 & 63
        if kind < _FIRST_OTHER_TYPE:
            return kind < _FIRST_KEY_TYPE and kind % 2 == 0, (second & 7) - 1
        at += size_bytes + int.from_bytes(packet[at : at + size_bytes])
    return None

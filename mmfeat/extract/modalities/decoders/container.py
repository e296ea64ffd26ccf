"""What the container of a clip or sound says of its own length, to tell a file that was cut short.

A decoder gives the frames that are there and does not mind the others. So the sizes that the
container declares are held against the file's. Nothing is found of a file that declares none, such as a
live WebM, or that was cut between two self-contained parts (packets of MPEG-TS, fragments of MP4).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_ISO_STARTS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp")
# The boxes that hold samples or their tables. Others are ignored: players do so too, and writers
# that get the size of some trailing box wrong are not rare.
_ISO_CONTENT = (b"moov", b"moof", b"mdat")
_ISO_INDEX = (b"moov", b"moof")
_TS_PACKET = 188
# Writers that cannot go back, as into a pipe, leave a size from here on for a WAV file's samples.
_OPEN_SIZE = 0x7FFF0000
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def declared_size(data: bytes) -> int:
    """How many bytes the file must have for its outermost structures to be whole; 0 if unknown.

    Reads MP4 and QuickTime (ISO/IEC 14496-12 boxes), Matroska and WebM (RFC 8794 elements), AVI
    and WAV (RIFF chunks) and MPEG-TS (packets of 188 bytes).
    """
    if data[4:8] in _ISO_STARTS:
        return _iso_size(data)
    if data.startswith(_EBML):
        return _matroska_size(data)
    if data.startswith(b"RIFF"):
        return _wave_size(data) if data[8:12] == b"WAVE" else _riff_size(data)
    if data[0:1] == data[_TS_PACKET : _TS_PACKET + 1] == b"\x47":
        return -(-len(data) // _TS_PACKET) * _TS_PACKET
    return 0


def whole_boxes(data: bytes) -> int:
    """How many bytes of a file that is cut short can be read: all, but of an MP4 that is cut within its index
    or a fragment's those before it."""
    if data[4:8] not in _ISO_STARTS:
        return len(data)
    ends = [(start, kind) for start, end, kind in _iso_boxes(data) if end > len(data)]
    return next((start for start, kind in ends if kind in _ISO_INDEX), len(data))


def _iso_size(data: bytes) -> int:
    return max((end for _, end, kind in _iso_boxes(data) if kind in _ISO_CONTENT), default=0)


def _iso_boxes(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Where each of the outermost boxes begins and, by its own word, ends, and its kind."""
    position = 0
    while position + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        if size == 1 and position + 16 <= len(data):
            size = struct.unpack_from(">Q", data, position + 8)[0]
        if size < 8:  # 0: up to the end of the file
            break
        yield position, position + size, kind
        position += size


def _matroska_size(data: bytes) -> int:
    header, start = _element_size(data, len(_EBML))
    if header is None or data[start + header : start + header + 4] != _SEGMENT:
        return 0
    segment, content = _element_size(data, start + header + len(_SEGMENT))
    return 0 if segment is None else content + segment


def _element_size(data: bytes, position: int) -> tuple[int | None, int]:
    """The size of an element's content (None if unknown, as in live streams) and where it starts."""
    first = data[position] if position < len(data) else 0
    length = 9 - first.bit_length()
    if length > 8:
        return None, position
    bits = 7 * length
    size = int.from_bytes(data[position : position + length], "big") & ((1 << bits) - 1)
    return (None if size == (1 << bits) - 1 else size), position + length


def _riff_size(data: bytes) -> int:
    declared = position = 0
    # Beyond one gigabyte an AVI continues in further chunks of the same kind (OpenDML).
    while position + 8 <= len(data) and data[position : position + 4] == b"RIFF":
        declared = position = position + 8 + struct.unpack_from("<I", data, position + 4)[0]
    return declared


def _wave_size(data: bytes) -> int:
    """To the end of the samples: the size of the whole is wrong in many a file."""
    position = 12
    while position + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, position)
        if kind == b"data":
            return 0 if size >= _OPEN_SIZE else position + 8 + size
        position += 8 + size + size % 2
    return 0

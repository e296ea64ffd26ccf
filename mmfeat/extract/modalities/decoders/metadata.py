"""Files of pictures without their metadata: broken notes about a picture must not cost the picture.

EXIF, XMP, colour profiles, thumbnails and comments are taken out; what decides the pixels stays, byte for
byte. Of that, what is too short to say anything is left out as well, as libjpeg and libpng do. Nothing is
decoded or unpacked.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNK = struct.Struct(">I4s")
# Application segments of a JPEG that say how its pixels are to be read: JFIF's and Adobe's.
_JPEG_PIXEL_SEGMENTS = (0xE0, 0xEE)
# How they begin, and the bytes that they have at least.
_JPEG_SHORTEST = {b"JFIF": 14, b"Adobe": 12}
# Bytes of a transparent colour, by a PNG's colour type (PNG, 11.3.1.1), and where its header chunk has that.
_PNG_KEY_BYTES = {0: 2, 2: 6}
_PNG_COLOUR_AT = 17
_WEBP_NOTES = {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}
# Baseline and extension tags of TIFF 6.0 that say how pixels are stored, and the orientation.
_TIFF_PIXEL_TAGS = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 280, 281, 284, 292, 293, 317, 320}
    | {322, 323, 324, 325, 332, 338, 339, 340, 341, 347, 512, 513, 514, 529, 530, 531, 532}
)
_ORIENTATION = 274
# An item of an AVIF file that holds EXIF or XMP (ISO/IEC 14496-12, 8.11.6.2).
_AVIF_NOTE = re.compile(rb"(infe[\x02].{7}|infe[\x03].{9})(?:Exif|mime)", re.DOTALL)


def without_metadata(data: bytes, *, keep_exif: bool) -> bytes | None:
    """The same picture without its metadata; None of a kind that is not known.

    Args:
        keep_exif: leave EXIF where it is: it says which way up the picture is.
    """
    if data.startswith(_PNG):
        return _png(data, keep_exif)
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data, keep_exif)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data, keep_exif)
    if data[:2] in (b"II", b"MM"):
        return _tiff(data, keep_exif)
    if data[4:8] == b"ftyp" and not keep_exif:
        return _AVIF_NOTE.sub(rb"\1free", data)
    return None


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and whole bytes of each chunk of a PNG file; the last one may be cut short."""
    at = len(_PNG)
    while at + _PNG_CHUNK.size <= len(data):
        length, kind = _PNG_CHUNK.unpack_from(data, at)
        end = at + _PNG_CHUNK.size + length + 4
        yield kind, data[at:end]
        at = end


def has_short_key(data: bytes) -> bool:
    """Whether a PNG has a transparent colour that is too short to be one."""
    return any(kind == b"tRNS" and len(chunk) < _least_key(data) for kind, chunk in png_chunks(data))


def _least_key(data: bytes) -> int:
    """Bytes of the whole chunk of a transparent colour."""
    _, header = next(png_chunks(data), (b"", b""))
    colour = header[_PNG_COLOUR_AT : _PNG_COLOUR_AT + 1]
    return _PNG_CHUNK.size + 4 + (_PNG_KEY_BYTES.get(colour[0], 0) if colour else 0)


def _png(data: bytes, keep_exif: bool) -> bytes:
    least = _least_key(data)
    return _PNG + b"".join(
        chunk
        for kind, chunk in png_chunks(data)
        if kind[:1].isupper()
        or (kind == b"tRNS" and len(chunk) >= least)
        or (kind == b"eXIf" and keep_exif and _is_whole(chunk))
    )


def _is_whole(chunk: bytes) -> bool:
    return zlib.crc32(chunk[4:-4]).to_bytes(4, "big") == chunk[-4:]


def _jpeg(data: bytes, keep_exif: bool) -> bytes:
    kept, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            break
        if not _is_note(marker, data[at + 4 : end], keep_exif):
            kept.append(data[at:end])
        at = end
    return b"".join((*kept, data[at:]))


def _is_note(marker: int, body: bytes, keep_exif: bool) -> bool:
    """Whether a segment of a JPEG says nothing of its pixels, or is too short to."""
    if marker in _JPEG_PIXEL_SEGMENTS:
        return any(body.startswith(start) and len(body) < least for start, least in _JPEG_SHORTEST.items())
    is_exif = body.startswith(b"Exif\0\0")
    return (0xE0 <= marker <= 0xEF or marker == 0xFE) and not (keep_exif and is_exif)


def _webp(data: bytes, keep_exif: bool) -> bytes:
    chunks, at, dropped = [], 12, 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        end = at + 8 + size + size % 2
        if kind in _WEBP_NOTES and not (keep_exif and kind == b"EXIF" and end <= len(data)):
            dropped |= _WEBP_NOTES[kind]
        else:
            chunks.append(data[at:end])
        at = end
    if chunks and chunks[0][:4] == b"VP8X":
        flags = chunks[0][8:9]
        chunks[0] = chunks[0][:8] + bytes(flag & ~dropped for flag in flags) + chunks[0][9:]
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _tiff(data: bytes, keep_exif: bool) -> bytes | None:
    """With a directory of its own behind the file, which names the same pixels and nothing else."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 16:
        return None
    is_big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    first, count_of, entry_size = ("Q", "Q", 20) if is_big else ("I", "H", 12)
    header = 8 if is_big else 4
    start = struct.unpack_from(f"{order}{first}", data, header)[0]
    if start + struct.calcsize(count_of) > len(data):
        return None
    count = struct.unpack_from(f"{order}{count_of}", data, start)[0]
    entries_at = start + struct.calcsize(f"{order}{count_of}")
    entries = [
        data[at : at + entry_size]
        for at in range(
            entries_at, min(entries_at + count * entry_size, len(data) - entry_size + 1), entry_size
        )
    ]
    kept = [entry for entry in entries if _says_pixels(entry, order, keep_exif)]
    directory = struct.pack(f"{order}{count_of}", len(kept)) + b"".join(kept)
    directory += struct.pack(f"{order}{first}", 0)
    padded = data + bytes(len(data) % 2)
    at_end = struct.pack(f"{order}{first}", len(padded))
    return padded[:header] + at_end + padded[header + len(at_end) :] + directory


def _says_pixels(entry: bytes, order: str, keep_exif: bool) -> bool:
    tag = struct.unpack_from(f"{order}H", entry)[0]
    return tag in _TIFF_PIXEL_TAGS and (keep_exif or tag != _ORIENTATION)

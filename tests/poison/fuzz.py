"""Seeded mutations of valid images, clips and sounds: flipped bits, cuts, splices, lies in headers."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from helpers import media_samples
from helpers.sound_samples import sound, tone
from PIL import Image

#: As what each format is read.
MODALITIES = {
    **dict.fromkeys(("jpeg", "png", "webp", "gif"), "image"),
    **dict.fromkeys(("mp4", "webm", "ts", "avi", "ogv", "apng"), "video"),
    **dict.fromkeys(("wav", "flac", "mp3", "aac", "m4a", "ogg", "mka"), "audio"),
}
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
# What the formats' structures begin with: markers, chunks, boxes and elements.
_MARKS = {
    "jpeg": (b"\xff\xc0", b"\xff\xc2", b"\xff\xc4", b"\xff\xda", b"\xff\xdb", b"\xff\xe0"),
    "png": (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"),
    "webp": (b"RIFF", b"VP8X", b"VP8 ", b"VP8L", b"ANIM", b"ANMF"),
    "gif": (b"GIF8", b"\x21\xf9\x04", b"\x2c\0\0\0\0"),
    "mp4": (b"ftyp", b"moov", b"mvhd", b"trak", b"mdhd", b"stsd", b"avcC", b"stts", b"stsz", b"mdat"),
    "webm": (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75", b"\xe0"),
    "ts": (b"\x47\x40\0", b"\0\0\1\xe0", b"\0\0\0\1"),
    "avi": (b"RIFF", b"avih", b"strh", b"strf", b"movi", b"idx1", b"00dc"),
    "ogv": (b"OggS", b"OVP8"),
    "apng": (b"IHDR", b"acTL", b"fcTL", b"fdAT", b"IDAT", b"IEND"),
    "wav": (b"RIFF", b"fmt ", b"data"),
    "flac": (b"fLaC", b"\xff\xf8"),
    "mp3": (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xe3", b"Info", b"Xing"),
    "aac": (b"\xff\xf1",),
    "m4a": (b"ftyp", b"moov", b"mvhd", b"trak", b"mdhd", b"stsd", b"esds", b"stts", b"stsz", b"mdat"),
    "ogg": (b"OggS", b"OpusHead", b"OpusTags"),
    "mka": (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75", b"\xe1"),
}  # fmt: skip


def seeds() -> list[tuple[str, bytes]]:
    """Valid files, tiny, as ``(format, bytes)``."""
    picture = media_samples.picture(24, 32)
    other = Image.fromarray(media_samples.picture(24, 32, 1))
    palette = Image.fromarray(picture).convert("P", palette=Image.Palette.ADAPTIVE)
    deep = Image.fromarray(np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 80)
    many = {"save_all": True, "append_images": [other]}
    # The same bytes every time: no random ids in WebM, no rate control that depends on threads' luck.
    same = {"options": {"threads": "1"}, "container_options": {"fflags": "+bitexact"}}
    clip = {"size": (32, 48), "group": 4, **same}
    # Of so small pictures, what x264 sees ahead of them hangs on what lay in memory before.
    h264 = {**clip, "options": {**same["options"], "x264-params": "rc-lookahead=0"}}
    made = [
        ("jpeg", media_samples.encoded(picture, "JPEG")),
        ("jpeg", media_samples.encoded(picture, "JPEG", progressive=True, subsampling=0)),
        ("png", media_samples.encoded(picture, "PNG")),
        ("png", media_samples.encoded(palette, "PNG", transparency=3)),
        ("png", media_samples.encoded(deep, "PNG")),
        ("webp", media_samples.encoded(picture, "WEBP")),
        ("webp", media_samples.encoded(picture, "WEBP", lossless=True, **many)),
        ("gif", media_samples.encoded(picture, "GIF", **many)),
        ("mp4", media_samples.clip(8, **h264)),
        ("mp4", media_samples.clip(8, "mpeg4", **clip)),
        ("webm", media_samples.clip(8, "libvpx", "webm", **clip)),
        ("webm", media_samples.clip(8, "libvpx-vp9", "webm", **clip)),
        ("ts", media_samples.clip(8, container="mpegts", **h264)),
        ("avi", media_samples.clip(8, container="avi", **h264)),
        ("ogv", media_samples.clip(8, "libvpx", "ogg", **clip)),
        ("apng", media_samples.encoded(picture, "PNG", **many, duration=40)),
    ]
    return [*((kind, bytes(data)) for kind, data in made), *_sounds()]


def _sounds() -> list[tuple[str, bytes]]:
    """A tone of half a second in every way that is usual, and in two of WAV's."""
    made = (
        ("wav", 8_000, "pcm_s16le", "wav"),
        ("wav", 8_000, "pcm_f32le", "wav"),
        ("flac", 8_000, "flac", "flac"),
        ("mp3", 8_000, "libmp3lame", "mp3"),
        ("aac", 8_000, "aac", "adts"),
        ("m4a", 8_000, "aac", "ipod"),
        ("ogg", 48_000, "libopus", "ogg"),
        ("mka", 8_000, "flac", "matroska"),
    )
    return [
        (kind, sound(tone(440, 0.5, rate), rate, codec, container)) for kind, rate, codec, container in made
    ]


def mutated(number: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """``number`` files, the formats in turn; the same ``seed`` gives the same files."""
    rng = np.random.default_rng(seed)
    valid = seeds()
    for i in range(number):
        kind, data = valid[i % len(valid)]
        for _ in range(int(rng.integers(1, 4))):
            change = _CHANGES[int(rng.integers(len(_CHANGES)))]
            data = change(rng, kind, data, valid)
        mend = _CHECKSUMS.get(kind)
        yield kind, mend(data) if mend and rng.random() < 0.8 else data


def _flip_bits(rng: np.random.Generator, kind: str, data: bytes, valid: list) -> bytes:
    out = bytearray(data)
    for at in rng.integers(0, len(out), int(rng.integers(1, 9))):
        out[at] ^= 1 << int(rng.integers(8))
    return bytes(out)


def _cut(rng: np.random.Generator, kind: str, data: bytes, valid: list) -> bytes:
    return data[: max(1, int(len(data) * rng.random()))]


def _drop(rng: np.random.Generator, kind: str, data: bytes, valid: list) -> bytes:
    start = int(rng.integers(len(data)))
    return data[:start] + data[start + int(rng.integers(1, 64)) :] or b"\0"


def _repeat(rng: np.random.Generator, kind: str, data: bytes, valid: list) -> bytes:
    start = int(rng.integers(len(data)))
    part = data[start : start + int(rng.integers(1, 200))]
    return data[:start] + part * int(rng.integers(2, 20)) + data[start:]


def _splice(rng: np.random.Generator, kind: str, data: bytes, valid: list) -> bytes:
    """The beginning of one file and the end of another, of its kind more often than not."""
    others = [d for k, d in valid if k == kind] if rng.random() < 0.7 else [d for _, d in valid]
    other = others[int(rng.integers(len(others)))]
    return data[: int(rng.integers(1, len(data) + 1))] + other[int(rng.integers(len(other))) :]


def _lie(rng: np.random.Generator, kind: str, data: bytes, valid: list) -> bytes:
    """An interesting number beside a mark: lengths, counts, sizes and offsets stand there."""
    marks = [mark for mark in _MARKS[kind] if mark in data]
    if not marks:
        return _flip_bits(rng, kind, data, valid)
    at = data.index(marks[int(rng.integers(len(marks)))]) + int(rng.integers(-8, 40))
    width = int(rng.choice((1, 2, 4)))
    at = min(max(at, 0), max(0, len(data) - width))
    number = int(rng.choice(_INTERESTING)) & ((1 << 8 * width) - 1)
    order = "little" if kind in ("gif", "webp", "wav", "ogg", "ogv", "avi") else "big"
    return data[:at] + number.to_bytes(width, order) + data[at + width :]


def _shuffle_chunk(rng: np.random.Generator, kind: str, data: bytes, valid: list) -> bytes:
    """What follows one mark moved to another."""
    marks = [data.index(mark) for mark in _MARKS[kind] if mark in data]
    if len(marks) < 2:
        return _repeat(rng, kind, data, valid)
    first, second = sorted(int(at) for at in rng.choice(marks, 2, replace=False))
    return data[:first] + data[second:] + data[first:second]


_CHANGES: tuple[Callable[..., bytes], ...] = (
    _flip_bits,
    _cut,
    _drop,
    _repeat,
    _splice,
    _lie,
    _lie,
    _shuffle_chunk,
)


def _with_png_checksums(data: bytes) -> bytes:
    """Checksums made right again, so that what was changed is read and not refused for them."""
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        length = int.from_bytes(out[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(out):
            break
        out[end : end + 4] = struct.pack(">I", zlib.crc32(out[at + 4 : end]))
        at = end + 4
    return bytes(out)


def _with_ogg_checksums(data: bytes) -> bytes:
    """As :func:`_with_png_checksums`, of Ogg's pages (RFC 3533, 6)."""
    out = bytearray(data)
    starts = [at for at in range(len(out)) if out.startswith(b"OggS", at)]
    for at in starts:
        sizes = out[at + 27 : at + 27 + (out[at + 26] if at + 26 < len(out) else 0)]
        end = at + 27 + len(sizes) + sum(sizes)
        if end > len(out):
            break
        out[at + 22 : at + 26] = bytes(4)
        out[at + 22 : at + 26] = _ogg_checksum(out[at:end]).to_bytes(4, "little")
    return bytes(out)


def _ogg_checksum(page: bytes) -> int:
    """CRC-32 of the polynomial 0x04C11DB7, from 0, the highest bit first."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value >> 31 else value << 1) & 0xFFFFFFFF
    return value


_CHECKSUMS = {
    **dict.fromkeys(("png", "apng"), _with_png_checksums),
    **dict.fromkeys(("ogg", "ogv"), _with_ogg_checksums),
}

"""Media that lies, bursts or never ends, made by hand from the formats' own rules."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from helpers import media_samples
from helpers.sound_samples import sound, tone
from PIL import Image

MB = 1 << 20


def chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, rows: bytes, *extra: bytes) -> bytes:
    """An RGB PNG whose header says ``width x height``, whatever ``rows`` hold."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + body + chunk(b"IEND", b"")


def true_png_bomb(side: int) -> bytes:
    """All pixels are there: ``3 * side * side`` zeros in a thousandth of the bytes."""
    return png(side, side, bytes((1 + 3 * side) * side))


def png_text_bomb(megabytes: int) -> bytes:
    """A small picture with a comment that unpacks to ``megabytes``."""
    text = b"Comment\0\1\0\0\0" + zlib.compress(bytes(megabytes * MB), 9)
    return png(8, 8, bytes(25 * 8), chunk(b"iTXt", text))


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    """``data`` with the one place that reads ``old`` changed."""
    assert data.count(old) == 1 and len(old) == len(new)
    return data.replace(old, new)


def huge_gif() -> bytes:
    """A GIF that says 65,535 x 65,535 on its screen and its first frame."""
    data = media_samples.encoded(media_samples.picture(8, 8), "GIF")
    size = struct.pack("<HH", 8, 8)
    return data.replace(size, b"\xff\xff\xff\xff")


def huge_jpeg() -> bytes:
    """A JPEG whose frame header says 65,535 x 65,535."""
    data = media_samples.encoded(media_samples.picture(8, 8), "JPEG")
    return patched(data, b"\x08" + struct.pack(">HH", 8, 8) + b"\x03", b"\x08\xff\xff\xff\xff\x03")


def huge_webp() -> bytes:
    """An animated WebP whose canvas is 16,384 x 16,384 and whose frames are 8 x 8."""
    frames = [Image.fromarray(media_samples.picture(8, 8, seed)) for seed in (1, 2)]
    data = media_samples.encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    at = data.index(b"VP8X") + 12
    return data[:at] + b"\xff\x3f\x00\xff\x3f\x00" + data[at + 6 :]


def endless_gif(frames: int) -> bytes:
    """A GIF of that many frames, all the same."""
    two = [Image.new("P", (8, 8), colour) for colour in (1, 2)]
    data = media_samples.encoded(two[0], "GIF", save_all=True, append_images=two[1:])
    second = data.rindex(b"\x2c\0\0\0\0\x08\0\x08\0")
    start = data.rindex(b"\x21\xf9\x04", 0, second) if b"\x21\xf9\x04" in data[:second] else second
    return data[:start] + data[start:-1] * frames + b"\x3b"


def scan_bomb(side: int, scans: int) -> bytes:
    """A progressive JPEG that refines the whole picture ``scans`` times more than it needs to.

    Each further scan is some bytes long and costs a pass over all coefficients: what the report
    "Two issues with the JPEG standard" of libjpeg-turbo calls a denial of service.
    """
    data = media_samples.encoded(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def ten_hour_clip() -> bytes:
    """Three frames, the last one ten hours after the first."""
    return media_samples.clip(3, times=[0, 40, 36_000_000])


def box(kind: bytes, *parts: bytes) -> bytes:
    """One MP4 box."""
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def mp4_of_tracks(tracks: int) -> bytes:
    """An MP4 that has nothing but tracks."""
    return box(b"ftyp", b"isom\0\0\2\0isom") + box(b"moov", box(b"trak", box(b"tkhd", bytes(84))) * tracks)


def mp4_of_frames(frames: int) -> bytes:
    """An MP4 whose index names the same picture ``frames`` times, a millisecond each."""
    one = media_samples.clip(1, "mpeg4", size=(16, 16))
    data = one
    at = data.index(b"mdat") + 4
    size = int.from_bytes(data[at - 8 : at - 4], "big") - 8
    moov = data[data.index(b"moov") - 4 :]
    entry = moov[moov.index(b"stsd") - 4 :]
    stsd = entry[: int.from_bytes(entry[:4], "big")]
    stbl = box(
        b"stbl",
        stsd,
        box(b"stts", struct.pack(">IIII", 0, 1, frames, 1)),
        box(b"stsc", struct.pack(">IIIII", 0, 1, 1, 1, 1)),
        box(b"stsz", struct.pack(">III", 0, size, frames)),
        box(b"stco", struct.pack(">II", 0, frames) + struct.pack(">I", at) * frames),
    )
    minf = box(
        b"minf",
        box(b"vmhd", b"\0\0\0\1" + bytes(8)),
        box(b"dinf", box(b"dref", struct.pack(">II", 0, 1), box(b"url ", b"\0\0\0\1"))),
        stbl,
    )
    mdhd = box(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, 1000, frames, 0x55C4, 0))
    hdlr = box(b"hdlr", bytes(8) + b"vide" + bytes(13))
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    tkhd = box(
        b"tkhd", struct.pack(">IIIIII", 3, 0, 0, 1, 0, frames), bytes(16), matrix,
        struct.pack(">II", 16 << 16, 16 << 16),
    )  # fmt: skip
    mvhd = box(b"mvhd", struct.pack(">IIIIIIH", 0, 0, 0, 1000, frames, 0x10000, 0x100), bytes(10), matrix,
               bytes(24), struct.pack(">I", 2))  # fmt: skip
    moov = box(b"moov", mvhd, box(b"trak", tkhd, box(b"mdia", mdhd, hdlr, minf)))
    return data[: at + size] + moov


def mp4_that_claims_frames(frames: int) -> bytes:
    """A clip of ten frames whose table of sizes says there are ``frames``."""
    data = media_samples.clip(10)
    at = data.index(b"stsz") + 12
    return data[:at] + struct.pack(">I", frames) + data[at + 4 :]


def flac_that_claims_samples() -> bytes:
    """A second of FLAC whose header says that there are 2^36 - 1 samples: at 16 kHz, seven weeks."""
    data = bytearray(sound(tone(440, 1, 16_000), 16_000, "flac", "flac"))
    # The last 36 bits of sample rate, channels, bits and number of samples (RFC 9639, 8.2).
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    return bytes(data)


def mp3_that_claims_frames() -> bytes:
    """A second of MP3 whose first frame says that 2^32 - 1 follow."""
    data = sound(tone(440, 1, 16_000), 16_000, "libmp3lame", "mp3")
    at = data.index(b"Info") + 8
    return data[:at] + b"\xff" * 4 + data[at + 4 :]


def mp3_with_cover(cover: bytes) -> bytes:
    """A second of MP3 with a picture (ID3v2.3, 4.15)."""
    frame = b"\0image/png\0\3\0" + cover
    tag = b"APIC" + struct.pack(">IH", len(frame), 0) + frame
    size = bytes(len(tag) >> 7 * (3 - i) & 0x7F for i in range(4))
    return b"ID3\3\0\0" + size + tag + sound(tone(440, 1, 16_000), 16_000, "libmp3lame", "mp3")


def wave_that_claims(**fields: int) -> bytes:
    """A second of a WAVE file with other numbers in its header: ``channels``, ``rate``, ``frame`` (bytes of
    a sample of all channels), ``size`` (bytes of the samples)."""
    data = bytearray(sound(tone(440, 1, 16_000), 16_000))
    places = {"channels": (22, 2), "rate": (24, 4), "frame": (32, 2), "size": (data.index(b"data") + 4, 4)}
    for name, number in fields.items():
        at, width = places[name]
        data[at : at + width] = number.to_bytes(width, "little")
    return bytes(data)


def m4a_that_claims_packets(packets: int) -> bytes:
    """A second of AAC whose table of sizes says that there are so many packets."""
    data = sound(tone(440, 1, 16_000), 16_000, "aac", "ipod")
    at = data.index(b"stsz") + 12
    return data[:at] + struct.pack(">I", packets) + data[at + 4 :]


def endless_aac(packets: int) -> bytes:
    """One packet of silence again and again, each 1,024 samples at 96 kHz in 11 bytes; no header says how
    many there are."""
    data = sound(np.zeros(96_000, np.float32), 96_000, "aac", "adts")
    second = _adts_size(data)
    third = second + _adts_size(data[second:])
    return data[second:third] * packets


def _adts_size(data: bytes) -> int:
    """Bytes of the first packet (ISO/IEC 14496-3, 1.A.3.2)."""
    return (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5


def svg() -> bytes:
    """A drawing that fetches a file and unfolds entities."""
    return (
        b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/><text>&b;</text></svg>'
    )


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that mean nothing."""
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()

"""Pictures whose notes about themselves are broken: the pixels are read, and read the right way up."""

import re
import struct
import zlib

import numpy as np
import pytest
from helpers.media_samples import AS_IS, LIMITS, encoded, opened, picture
from PIL import Image, ImageCms, PngImagePlugin

from mmfeat.extract.modalities.decoders.image import render_image
from mmfeat.extract.modalities.decoders.metadata import png_chunks, without_metadata
from mmfeat.extract.modalities.image import IMAGE
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.inputs import PixelView

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
SCALED = PixelView(mode="bound", height=200, width=200, jpeg="scaled")
EXACT = PixelView(mode="bound", height=200, width=200)
PIXELS = picture(40, 70)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + b"<rdf:li/>" * 20 + b"</x:xmpmeta>"
SHORT, BYTE, ASCII, LONG = 3, 1, 2, 4


def rendered(data: bytes, view: PixelView = AS_IS) -> np.ndarray:
    return render_image(data, [view], LIMITS)[0].pixels[0]


def noted() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 1, "Maker"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    return exif


def with_notes(kind: str) -> bytes:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("a", "b" * 200, zip=True)
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=True)
    texts.add_text("c", "d")
    own = {"PNG": {"pnginfo": texts}, "TIFF": {}, "WEBP": {"lossless": True}}
    more = own.get(kind, {}) if kind in ("PNG", "TIFF") else {"xmp": XMP, **own.get(kind, {})}
    return encoded(PIXELS, kind, exif=noted(), icc_profile=PROFILE, **more)


def notes_in(data: bytes, kind: str) -> list[tuple[int, int]]:
    """From where to where the metadata stands in the file."""
    if kind == "TIFF":
        start = struct.unpack_from("<I", data, 4)[0]
        count = struct.unpack_from("<H", data, start)[0]
        entries = {
            struct.unpack_from("<H", data, at)[0]: at for at in range(start + 2, start + 12 * count, 12)
        }
        spots = [(entries[tag] + 2, entries[tag] + 12) for tag in (271, 34675)]
        return [*spots, *((data.index(n), data.index(n) + len(n)) for n in (b"Maker", PROFILE))]
    if kind == "PNG":
        chunks = [chunk for kind, chunk in png_chunks(data) if kind[:1].islower()]
        return [(data.index(chunk) + 8, data.index(chunk) + len(chunk)) for chunk in chunks]
    # Exif is written in other words by some kinds: from its header on.
    start = next(re.finditer(rb"II\*\0|MM\0\*", data)).start()
    return [(start, data.index(b"2020:01"))] + [
        (data.index(n), data.index(n) + len(n)) for n in (PROFILE, XMP)
    ]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_metadata_with_any_bytes_overwritten_cost_no_pixel(kind):
    whole = with_notes(kind)
    wanted, spots = rendered(whole), notes_in(whole, kind)
    rng = np.random.default_rng(5)
    for _ in range(300):
        data = bytearray(whole)
        low, high = spots[rng.integers(len(spots))]
        for at in rng.integers(low, high, rng.integers(1, 6)):
            data[at] = rng.integers(256)
        if kind == "PNG" and rng.random() < 0.6:
            data[high - 4 : high] = zlib.crc32(data[low - 4 : high - 4]).to_bytes(4, "big")
        found = rendered(bytes(data))
        # What was written may by chance be another orientation.
        assert sorted(found.shape) == sorted(wanted.shape)
        assert np.array_equal(np.sort(found, axis=None), np.sort(wanted, axis=None))


@pytest.mark.parametrize("tag", [34665, 34853, 700, 34675], ids=["exif", "gps", "xmp", "profile"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_note_of_a_tiff_that_points_nowhere_costs_no_pixel(tag, compression):
    data = bytearray(encoded(PIXELS, "TIFF", tiffinfo={305: "Maker"}, compression=compression))
    start = struct.unpack_from("<I", data, 4)[0]
    at = next(at for at in range(start + 2, len(data), 12) if struct.unpack_from("<H", data, at)[0] == 305)
    for kind, count, value in ((4, 1, 0xFFFFFF00), (13, 1, 3), (1, 0x7FFFFFFF, 8), (2, 50, 1 << 31)):
        data[at : at + 12] = struct.pack("<HHII", tag, kind, count, value)
        assert np.array_equal(rendered(bytes(data)), PIXELS)


def png_with(*chunks: tuple[bytes, bytes], behind: bool = False) -> bytes:
    data = encoded(PIXELS, "PNG")
    added = b"".join(
        struct.pack(">I", len(body)) + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        for kind, body in chunks
    )
    at = len(data) - 12 if behind else 33
    return data[:at] + added + data[at:]


@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind them"])
@pytest.mark.parametrize(
    "chunk",
    [
        (b"eXIf", b"MM\0*\xff\xff\xff\xff"),
        (b"eXIf", b"no exif"),
        (b"eXIf", b""),
        (b"iCCP", b"name\0\0not zlib"),
        (b"iCCP", b"name\0\7"),
        (b"zTXt", b"key\0\0not zlib"),
        (b"zTXt", b"key\0\7abc"),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 4\nzzzz")),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0not zlib"),
        (b"iTXt", b"key"),
        (b"tEXt", b""),
        (b"pHYs", b"\0\0"),
        (b"gAMA", b"\0"),
        (b"cHRM", b"\0\0\0"),
        (b"tIME", b"\0"),
        (b"sRGB", b""),
    ],
    ids=lambda chunk: f"{chunk[0].decode()} {chunk[1][:12]!r}",
)
def test_a_broken_chunk_of_a_png_costs_no_pixel(chunk, behind):
    assert np.array_equal(rendered(png_with(chunk, behind=behind)), PIXELS)


def test_a_chunk_of_notes_with_a_wrong_checksum_costs_no_pixel():
    data = png_with((b"tEXt", b"key\0value"))
    at = data.index(b"value")
    assert np.array_equal(rendered(data[:at] + b"VALUE" + data[at + 5 :]), PIXELS)


def test_a_whole_orientation_beside_broken_notes_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.rot90(PIXELS, -1)
    png = png_with((b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")), (b"iCCP", b"name\0\7"))
    assert np.array_equal(rendered(png), turned)
    webp = encoded(PIXELS, "WEBP", exif=exif, lossless=True)
    assert np.array_equal(rendered(without_metadata(webp, keep_exif=True)), turned)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_a_picture_without_its_metadata_has_the_same_pixels_and_none_of_it(kind):
    bare = without_metadata(with_notes(kind), keep_exif=False)
    assert np.array_equal(rendered(bare), rendered(with_notes(kind)))
    assert not {"exif", "xmp", "icc_profile", "XML:com.adobe.xmp"} & set(opened(bare).info) or kind == "AVIF"
    assert not dict(opened(bare).getexif()) or kind == "TIFF"


def test_metadata_that_unpack_to_too_much_are_still_refused():
    bomb = png_with((b"zTXt", b"key\0\0" + zlib.compress(bytes(100 << 20))))
    with pytest.raises(ItemError, match="too large"):
        rendered(bomb)


def oriented(kind: int, count: int, value: bytes, size: tuple[int, int] = (700, 1000)) -> bytes:
    """A JPEG whose orientation is written as this type of EXIF."""
    tiff = (
        b"II*\0\x08\0\0\0" + struct.pack("<HHHI", 1, 0x0112, kind, count) + value.ljust(4, b"\0") + bytes(4)
    )
    return encoded(picture(*size), "JPEG", quality=92, exif=b"Exif\0\0" + tiff)


STRANGE = {
    "ascii": (ASCII, 2, b"6\0"),
    "ascii 8": (ASCII, 2, b"8\0"),
    "byte": (BYTE, 1, b"\6"),
    "none": (SHORT, 0, b""),
    "zero": (SHORT, 1, b"\0\0"),
    "nine": (SHORT, 1, b"\x09\0"),
    "many": (SHORT, 1, b"\xff\xff"),
    "undefined": (7, 1, b"\6"),
    "unknown type": (200, 1, b"\6"),
}


@pytest.mark.parametrize("strange", STRANGE)
def test_an_orientation_that_is_no_whole_number_from_1_to_8_turns_nothing_at_any_scale(strange):
    data = oriented(*STRANGE[strange])
    plain = picture(700, 1000)
    assert rendered(data).shape == plain.shape
    exact, scaled = rendered(data, EXACT), rendered(data, SCALED)
    assert exact.shape == scaled.shape == (140, 200, 3)
    assert np.abs(exact.astype(int) - scaled).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [SHORT, LONG])
def test_exact_and_scaled_pictures_are_turned_alike(orientation, kind):
    data = oriented(kind, 1, bytes([orientation]))
    exact, scaled = rendered(data, EXACT), rendered(data, SCALED)
    assert exact.shape == scaled.shape == ((200, 140, 3) if orientation >= 5 else (140, 200, 3))
    assert np.abs(exact.astype(int) - scaled).mean() < 4


def xmp_of(orientation: int) -> bytes:
    return XMP.replace(b"<rdf:li/>", b'<rdf:Description tiff:Orientation="%d"/>' % orientation, 1)


def turned_by_xmp(kind: str, orientation: int, exif: Image.Exif | None = None) -> bytes:
    """A picture with this orientation in XMP, and no EXIF unless given."""
    note, exif = xmp_of(orientation), exif or Image.Exif()
    if kind == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", note.decode())
        return encoded(PIXELS, kind, pnginfo=texts, exif=exif)
    if kind == "TIFF":
        return encoded(PIXELS, kind, tiffinfo={700: note, **dict(exif)})
    return encoded(PIXELS, kind, xmp=note, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))


XMP_KINDS = ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"]


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", XMP_KINDS)
def test_an_orientation_that_only_xmp_says_turns_nothing(kind, orientation):
    data = turned_by_xmp(kind, orientation)
    assert opened(data).getexif()[0x0112] == orientation or kind == "PNG"
    assert np.array_equal(rendered(data), rendered(encoded(PIXELS, kind, lossless=True)))
    assert IMAGE.changed(data, 1)
    assert not IMAGE.changed(turned_by_xmp(kind, 1), 1)


@pytest.mark.parametrize("kind", XMP_KINDS)
def test_exif_turns_a_picture_whatever_xmp_says(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = turned_by_xmp(kind, 8, exif)
    assert np.array_equal(rendered(data), np.rot90(rendered(encoded(PIXELS, kind, lossless=True)), -1))
    assert not IMAGE.changed(data, 1)


def test_exact_and_scaled_pictures_heed_xmp_alike():
    data = encoded(picture(700, 1000), "JPEG", quality=92, xmp=xmp_of(6))
    exact, scaled = rendered(data, EXACT), rendered(data, SCALED)
    assert exact.shape == scaled.shape == (140, 200, 3)


def jpeg_with(*segments: tuple[int, bytes], replaced: bool = False, **options: object) -> bytes:
    """A JPEG with segments in front, in place of its own JFIF segment or before it."""
    data = encoded(PIXELS, "JPEG", **options)
    own = 2 + int.from_bytes(data[4:6], "big") if replaced else 0
    added = b"".join(
        b"\xff" + bytes([kind]) + (len(body) + 2).to_bytes(2, "big") + body for kind, body in segments
    )
    return data[:2] + added + data[2 + own :]


SHORT_SEGMENTS = [(0xE0, b"JFIF\0" + bytes(n)) for n in (0, 1, 2, 8)] + [
    (0xEE, b"Adobe" + bytes(n)) for n in (0, 1, 2, 6)
]


@pytest.mark.parametrize("replaced", [True, False])
@pytest.mark.parametrize("segment", SHORT_SEGMENTS, ids=lambda one: f"{one[1][:5]!r} {len(one[1])}")
def test_a_jfif_or_adobe_segment_that_is_too_short_costs_no_pixel(segment, replaced):
    wanted = rendered(encoded(PIXELS, "JPEG"))
    for scale in (AS_IS, SCALED):
        found = rendered(jpeg_with(segment, replaced=replaced), scale)
        assert np.array_equal(found, rendered(encoded(PIXELS, "JPEG"), scale))
    turned = jpeg_with(segment, replaced=replaced, exif=oriented_six())
    assert np.array_equal(rendered(turned), np.rot90(wanted, -1))


def oriented_six() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind them"])
@pytest.mark.parametrize("length", range(6))
def test_a_transparent_colour_that_is_too_short_costs_no_pixel(length, behind):
    data = png_with((b"tRNS", bytes(length)), behind=behind)
    assert np.array_equal(rendered(data), PIXELS)
    assert IMAGE.changed(data, 1)
    if length < 2:
        grey = grey_png(np.arange(16)[None], 4, None)
        short = b"\0\0\0" + bytes([length]) + b"tRNS" + bytes(length)
        short += zlib.crc32(short[4:]).to_bytes(4, "big")
        assert np.array_equal(rendered(grey[:33] + short + grey[33:]), rendered(grey))


def grey_png(samples: np.ndarray, depth: int, key: int | None) -> bytes:
    """A grey PNG of any depth; ``samples`` ``[height, width]``."""
    height, width = samples.shape
    if depth == 16:
        rows = samples.astype(">u2").tobytes()
        lines = [rows[2 * width * y : 2 * width * (y + 1)] for y in range(height)]
    else:
        bits = np.unpackbits(samples.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
        lines = [np.packbits(row.reshape(-1)).tobytes() for row in bits]
    return png_of(width, height, depth, 0, lines, None if key is None else key.to_bytes(2, "big"))


def png_of(width, height, depth, colour, lines, key) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    parts += [chunk(b"tRNS", key)] if key is not None else []
    parts += [chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line for line in lines))), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_is_white_and_no_other_at_every_depth(depth):
    most = (1 << depth) - 1
    samples = np.arange(min(most + 1, 256))[None].repeat(3, 0)
    if depth == 16:
        samples = samples * 3 + 700  # neighbours that share their upper byte
    for key in (0, int(samples[0, len(samples[0]) // 2]), most if depth < 16 else int(samples[0, -1])):
        wanted = (samples >> 8) if depth == 16 else samples * 255 // most
        wanted = np.where(samples == key, 255, wanted)
        assert np.array_equal(rendered(grey_png(samples, depth, key))[..., 0], wanted)


def test_bits_of_a_transparent_colour_beyond_the_depth_do_not_count():
    samples = np.arange(16)[None]
    assert rendered(grey_png(samples, 4, 0xFF07))[0, 7].tolist() == [255] * 3


def test_the_transparent_colour_of_a_16_bit_png_is_compared_in_full():
    samples = np.full((4, 5, 3), (0x1234, 0x5678, 0x9ABC), np.uint16)
    samples[1, 2] = (0x1234, 0x5678, 0x9ABD)
    lines = [row.astype(">u2").tobytes() for row in samples]
    found = rendered(png_of(5, 4, 16, 2, lines, np.array([0x1234, 0x5678, 0x9ABC], ">u2").tobytes()))
    assert found[1, 2].tolist() == [0x12, 0x56, 0x9A]
    assert (np.delete(found.reshape(-1, 3), 7, axis=0) == 255).all()


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_sixteen_bits_of_which_0_is_white_are_inverted(compression):
    grey = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    data = encoded(grey, "TIFF", tiffinfo={262: 0}, compression=compression)
    assert opened(data).tag_v2[262] == 0
    assert rendered(data)[0, :, 0].tolist() == [255, 255, 254, 127, 0]
    assert rendered(encoded(grey, "TIFF", compression=compression))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


# --- which files the fixes touch


TOUCHED = {
    "ascii orientation": lambda: oriented(*STRANGE["ascii"]),
    "byte orientation": lambda: oriented(*STRANGE["byte"]),
    "orientation 9": lambda: oriented(*STRANGE["nine"]),
    "orientation in xmp": lambda: turned_by_xmp("JPEG", 6),
    "short jfif": lambda: jpeg_with((0xE0, b"JFIF\0"), replaced=True),
    "short adobe": lambda: jpeg_with((0xEE, b"Adobe")),
    "short key": lambda: png_with((b"tRNS", b"\0")),
    "broken exif": lambda: png_with((b"eXIf", b"no exif")),
    "broken chunk behind": lambda: png_with((b"eXIf", b"no exif"), (b"zTXt", b"a\0\7b"), behind=True),
    "broken profile": lambda: png_with((b"iCCP", b"name\0\7")),
    "key of 4 bits": lambda: grey_png(np.arange(16)[None], 4, 7),
    "key of 16 bits": lambda: grey_png(np.arange(16)[None], 16, 7),
    "negative": lambda: encoded(np.zeros((3, 3), np.uint16), "TIFF", tiffinfo={262: 0}),
}
UNTOUCHED = {
    "jpeg": lambda: encoded(PIXELS, "JPEG"),
    "turned jpeg": lambda: oriented(SHORT, 1, b"\6"),
    "no orientation in xmp": lambda: turned_by_xmp("JPEG", 1),
    "noted jpeg": lambda: with_notes("JPEG"),
    "noted png": lambda: with_notes("PNG"),
    "noted webp": lambda: with_notes("WEBP"),
    "noted tiff": lambda: with_notes("TIFF"),
    "noted avif": lambda: with_notes("AVIF"),
    "gif": lambda: encoded(PIXELS, "GIF"),
    "bmp": lambda: encoded(PIXELS, "BMP"),
    "key of 8 bits": lambda: grey_png(np.arange(16)[None], 8, 7),
    "16 bits": lambda: encoded(np.zeros((3, 3), np.uint16), "TIFF"),
    "palette": lambda: encoded(Image.new("P", (3, 3)), "PNG", transparency=0),
    "cut jpeg": lambda: encoded(PIXELS, "JPEG")[:400],
    "page": lambda: b"<html>",
    "empty": lambda: b"",
}


@pytest.mark.parametrize("touched", TOUCHED)
def test_rows_of_a_picture_that_a_fix_touches_are_out_of_date(touched):
    assert IMAGE.changed(TOUCHED[touched](), 1)
    assert not IMAGE.changed(TOUCHED[touched](), IMAGE.rule)


@pytest.mark.parametrize("untouched", UNTOUCHED)
def test_rows_of_all_other_pictures_stay(untouched):
    assert not IMAGE.changed(UNTOUCHED[untouched](), 1)

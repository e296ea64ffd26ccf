"""Decoding an image once and rendering it in every view that is wanted.

The reference is Pillow's ``Image.open(...).convert("RGB")``, which open_clip, timm and transformers
start from. Beyond it:

* EXIF orientation is applied where it is one of the whole numbers 1 to 8, as browsers read it, and
  only the first frame of an animation is taken. What XMP says of orientation is not read, as by them.
* Transparent pixels are shown on white, as a shop page shows them; ``convert`` would bring out
  whatever colour lies hidden below. Opaque images are not affected.
* 16-bit samples are scaled to 8 bits where ``convert`` cuts them off.
* Embedded colour profiles are left alone, as all three libraries do.
* Broken metadata is left out and the picture is read without it.

JPEGs take simplejpeg, which has the same library decode them: the same pixels, without a Pillow image
in between.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from mmfeat.extract.failures import ran_out_of_memory
from mmfeat.extract.media.limits import check_bytes, check_pixels
from mmfeat.extract.modalities.decoders.kinds import unreadable
from mmfeat.extract.modalities.decoders.metadata import has_short_key, png_chunks, without_metadata
from mmfeat.extract.modalities.decoders.views import render_view, resized_size
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.inputs import PixelView
from mmfeat.schemas.media import Frames, MediaLimits

if TYPE_CHECKING:
    from PIL import Image

# Pillow would also open kinds that run other programs (EPS) or fetch fonts; covers are none of these.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_JPEG = ("JPEG", "MPO")  # MPO: a JPEG followed by more of them, as some cameras write
_ORIENTATION = 0x0112
_WHITE_IS_ZERO = (262, 0)  # tag and value of a TIFF whose samples are a negative's
# Of a PNG's header chunk, where it says bits a sample and colour type (PNG, 11.2.2).
_PNG_DEPTH_AT, _PNG_COLOUR_AT = 16, 17
_PNG_GREY, _PNG_COLOUR = 0, 2
_PNG_END_BYTES = 12
# Chunks of a PNG that belong to its pixels, though not all readers need them: of animations too.
_PNG_PIXELS = (b"tRNS", b"acTL", b"fcTL", b"fdAT")
# Directories within EXIF: its own, GPS and interoperability.
_EXIF_GROUPS = (0x8769, 0x8825, 0xA005)
_LAST_ORIENTATION = 8
# Where Pillow keeps XMP, in which it looks for an orientation that EXIF lacks.
_XMP = ("xmp", "XML:com.adobe.xmp")
_JPEG_SCALES = (8, 4, 2)
_SCALED_MARGIN = 2
_no_pillow_limit = threading.Lock()


def render_image(data: bytes, views: Sequence[PixelView], limits: MediaLimits) -> list[Frames]:
    """Decode an image and render every view of it.

    Each scale that the views want of a JPEG is decoded once: the exact one is shared by all views
    that are ``exact`` or too large to gain from less.

    Args:
        data: a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file.

    Returns:
        per view, in order, one frame at time 0.

    Raises:
        ItemError: stage ``decode``: not an image, cut short, damaged or over the limits, which are
            checked against the header before any pixel is decoded.
    """
    check_bytes("decode", len(data), limits.image_bytes)
    if not data:
        raise ItemError("decode", "file is empty")
    check_pixels(*_webp_canvas(data), limits.image_pixels)
    try:
        return _rendered(data, views, limits)
    except ItemError as error:
        frames = _rendered_without_metadata(data, views, limits, error)
        if frames is None:
            raise
        return frames


def _rendered_without_metadata(
    data: bytes, views: Sequence[PixelView], limits: MediaLimits, error: ItemError
) -> list[Frames] | None:
    """The views where it was the metadata alone that could not be read; None if it was not.

    Args:
        error: what came of the whole file.
    """
    if error.reason.startswith("too large"):
        return None
    for keep_exif in (True, False):
        bare = without_metadata(data, keep_exif=keep_exif)
        if bare is not None:
            with suppress(ItemError):
                return _rendered(bare, views, limits)
    return None


def _rendered(data: bytes, views: Sequence[PixelView], limits: MediaLimits) -> list[Frames]:
    header = _opened(data)
    check_pixels(*header.size, limits.image_pixels)
    with _readable_errors():
        decoded: dict[int, np.ndarray] = {}
        frames = []
        for view in views:
            scale = _scale(header, view)
            if scale not in decoded:
                decoded[scale] = _decode(data, header) if scale == 1 else _decode_scaled(data, scale)
            full_size = None if scale == 1 else _upright_size(header)
            frames.append(Frames(render_view(decoded[scale], view, full_size)[None], (0.0,)))
    return frames


def _opened(data: bytes) -> Image.Image:
    """The image with its header read and no pixel decoded."""
    from PIL import Image

    with _no_pillow_limit:
        # Pillow's own limit is lower than ours may be. Ours is checked before any pixel is decoded.
        most, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(data), formats=_FORMATS)
        except Exception as error:  # Pillow's readers raise whatever a damaged header leads to
            if ran_out_of_memory(error):
                raise
            if "too large" in str(error):  # a comment that unpacks to megabytes
                raise ItemError("decode", f"too large: {error}") from error
            raise ItemError("decode", unreadable("an image", data)) from error
        finally:
            Image.MAX_IMAGE_PIXELS = most


def _webp_canvas(data: bytes) -> tuple[int, int]:
    """``(width, height)`` of an extended WebP's canvas (RFC 9649, 2.7), else zeros.

    libwebp takes memory for the canvas of an animation, twice, as soon as the file is opened.
    """
    if data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8X" or len(data) < 30:
        return 0, 0
    return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")


@contextmanager
def _readable_errors() -> Iterator[None]:
    try:
        yield
    except ItemError:
        raise
    except Exception as error:  # as above
        if ran_out_of_memory(error):
            raise
        text = str(error)
        if "truncated" in text.lower() or isinstance(error, EOFError):
            raise ItemError("decode", f"image is cut short ({text})") from error
        raise ItemError("decode", f"image is damaged ({text or type(error).__name__})") from error


def _scale(header: Image.Image, view: PixelView) -> int:
    """By how much libjpeg may divide the picture's sides for this view."""
    if view.jpeg == "exact" or header.format not in _JPEG:
        return 1
    size = _upright_size(header)
    needed = [_SCALED_MARGIN * side for side in resized_size(*size, view)]
    fits = (
        s for s in _JPEG_SCALES if all(have // s >= need for have, need in zip(size, needed, strict=True))
    )
    return next(fits, 1)


def _upright_size(jpeg: Image.Image) -> tuple[int, int]:
    """``(height, width)`` of a JPEG once it is turned as its EXIF says."""
    return jpeg.size if _orientation(jpeg) >= 5 else jpeg.size[::-1]


def _decode(data: bytes, header: Image.Image) -> np.ndarray:
    if header.format in _JPEG and header.mode in ("RGB", "L"):
        pixels = _decode_plain_jpeg(data)
        if pixels is not None:
            return _turned(pixels, _orientation(header))
    return _pixels(header, data)


def _decode_plain_jpeg(data: bytes) -> np.ndarray | None:
    """uint8 ``[height, width, 3]``; None if simplejpeg does not, so that Pillow does or says why."""
    import simplejpeg

    try:
        # The transform and the upsampling that Pillow has libjpeg use; its quicker ones round otherwise.
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False)
    except ValueError:
        return None
    return pixels


def _decode_scaled(data: bytes, scale: int) -> np.ndarray:
    image = _opened(data)
    width, height = image.size
    image.draft(None, (width // scale, height // scale))
    return _pixels(image, data)


def _pixels(image: Image.Image, data: bytes) -> np.ndarray:
    if image.format == "TIFF":
        # Pillow turns its pixels as soon as they are loaded, by XMP too.
        image.info.pop("xmp", None)
    image.load()
    pixels = np.array(_rgb(image))
    if image.format == "PNG":
        hidden = _keyed(image, data)
        if hidden is not None:
            pixels[hidden] = 255
    # After loading: metadata may stand behind the pixels, and Pillow turns TIFF itself.
    return _turned(pixels, _orientation(image))


def _keyed(image: Image.Image, data: bytes) -> np.ndarray | None:
    """bool ``[height, width]``: which pixels of a PNG have its transparent colour; None without one.

    The colour is compared with the samples as the file has them (PNG, 11.3.1.1).
    """
    key, depth = _colour_key(data)
    if not key:
        return None
    if len(key) == 3 and depth == 16:
        return _keyed_deep_colour(data)
    most = (1 << depth) - 1
    # Pillow stretches samples of fewer than 8 bits to the whole of a byte.
    stretch = 255 // most if depth < 8 else 1
    samples = np.asarray(image.convert("L") if image.mode == "1" else image)
    wanted = (np.array(key) & most) * stretch
    return np.asarray(samples == wanted[0] if len(key) == 1 else (samples == wanted).all(axis=-1))


def _colour_key(data: bytes) -> tuple[tuple[int, ...], int]:
    """The transparent colour of a grey or true-colour PNG, one or three samples, and its bits a sample; an
    empty one without a colour."""
    chunks: dict[bytes, bytes] = {}
    for kind, chunk in png_chunks(data):
        chunks.setdefault(kind, chunk)
    header, key = chunks.get(b"IHDR", b""), chunks.get(b"tRNS", b"")
    if len(header) <= _PNG_COLOUR_AT:
        return (), 0
    depth, samples = header[_PNG_DEPTH_AT], {_PNG_GREY: 1, _PNG_COLOUR: 3}.get(header[_PNG_COLOUR_AT], 0)
    if len(key) < 12 + 2 * samples:
        return (), depth
    return tuple(int.from_bytes(key[at : at + 2], "big") for at in range(8, 8 + 2 * samples, 2)), depth


def _keyed_deep_colour(data: bytes) -> np.ndarray:
    """:func:`_keyed` of 16-bit colour, of which Pillow keeps the upper bytes alone."""
    import av

    decoder = av.CodecContext.create("png", "r")
    packet = av.Packet(data)
    frame = next(frame for part in (packet, None) for frame in decoder.decode(part))
    return np.asarray(frame.to_ndarray()[..., 3] == 0)


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):
        return _eight_bits(image).convert("RGB")
    if image.mode == "F":
        raise ItemError("decode", "image has floating-point samples, whose white is not defined")
    # A PNG's transparent colour is dealt with where its samples are known.
    if image.has_transparency_data and not (image.format == "PNG" and image.mode in ("1", "L", "RGB")):
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Greyscale of 16 bits to its upper 8, as Pillow itself reads 16-bit colour."""
    from PIL import Image

    samples = np.asarray(image).astype(np.int64)
    if samples.min() < 0 or samples.max() > 0xFFFF:
        raise ItemError("decode", "image has 32-bit samples, whose white is not defined")
    if _is_negative(image):
        samples = 0xFFFF - samples
    return Image.fromarray((samples >> 8).astype(np.uint8))


def _is_negative(image: Image.Image) -> bool:
    """Whether it is a TIFF of 16 bits whose white is 0; those of fewer bits Pillow inverts itself."""
    tag, value = _WHITE_IS_ZERO
    tags: Any = getattr(image, "tag_v2", {})
    return image.format == "TIFF" and image.mode.startswith("I;16") and tags.get(tag) == value


def _orientation(image: Image.Image) -> int:
    """1 to 8, as EXIF says in a whole number; 1 if it says it otherwise or cannot be read.

    Browsers take an orientation of another type for none, and so does every scale here.
    """
    try:
        found = _without_xmp(image).getexif().get(_ORIENTATION, 1)
    except Exception as error:  # Pillow's reader raises whatever damage leads to
        if ran_out_of_memory(error):
            raise
        return 1
    return found if isinstance(found, int) and 1 <= found <= _LAST_ORIENTATION else 1


def _without_xmp(image: Image.Image) -> Image.Image:
    """A single pixel that has an image's notes but for its XMP. A TIFF has its orientation elsewhere, and is
    upright once it is loaded."""
    from PIL import Image

    dot = Image.new("L", (1, 1))
    dot.info = {name: note for name, note in image.info.items() if name not in _XMP}
    return dot


# EXIF orientation to what undoes it (Exif 2.32, table 6).
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: np.rot90,
}


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    turn = _TURNS.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def read_anew(data: bytes) -> bool:
    """Whether rule 2 of pictures may read other pixels than rule 1 did, or any where that failed.

    By the header and the metadata: an orientation that is no whole number from 1 to 8, or is XMP's alone,
    metadata that cannot be read, a PNG's transparent colour where it was compared wrongly or is too short,
    and 16-bit negatives.
    """
    try:
        header = _opened(data)
    except ItemError:
        return any(_opens(without_metadata(data, keep_exif=kept)) for kept in (True, False))
    if _is_negative(header) or (header.format == "PNG" and _keyed_anew(data)):
        return True
    if header.format == "PNG" and has_short_key(data):
        return True
    try:
        # Pillow looks for what a PNG says of itself behind its pixels, and decodes them on the way.
        noted = _dot_with_notes(data) if header.format == "PNG" else header
        exif, is_turned = noted.getexif(), _is_turned_by_xmp(noted)
        if header.format == "TIFF":  # Pillow reads them with the pixels
            for group in _EXIF_GROUPS:
                exif.get_ifd(group)
    except Exception as error:  # as above
        if ran_out_of_memory(error):
            raise
        return True
    found = exif.get(_ORIENTATION, 1)
    is_strange = not (isinstance(found, int) and found <= _LAST_ORIENTATION)
    return is_turned or (header.format in _JPEG and is_strange)


def _is_turned_by_xmp(image: Image.Image) -> bool:
    own: Any = getattr(image, "tag_v2", None) or _without_xmp(image).getexif()
    return _ORIENTATION not in own and image.getexif().get(_ORIENTATION) in _TURNS


def _opens(data: bytes | None) -> bool:
    try:
        return data is not None and _opened(data) is not None
    except ItemError:
        return False


def _keyed_anew(data: bytes) -> bool:
    key, depth = _colour_key(data)
    return bool(key) and (depth != 8 or max(key) > 0xFF)


def _dot_with_notes(data: bytes) -> Image.Image:
    """What a PNG says of itself, behind a single pixel."""
    from PIL import Image

    notes = [chunk for kind, chunk in png_chunks(data) if kind[:1].islower() and kind not in _PNG_PIXELS]
    dot = io.BytesIO()
    Image.new("L", (1, 1)).save(dot, "PNG")
    before, end = dot.getvalue()[:-_PNG_END_BYTES], dot.getvalue()[-_PNG_END_BYTES:]
    image = _opened(before + b"".join(notes) + end)
    image.load()
    return image

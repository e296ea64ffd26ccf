"""Decoding an image once and rendering it in every view that is wanted.

The reference is Pillow's ``Image.open(...).convert("RGB")``, which open_clip, timm and transformers
start from. Beyond it:

* EXIF orientation is applied, and only the first frame of an animation is taken.
* Transparent pixels are shown on white, as a shop page shows them; ``convert`` would bring out
  whatever colour lies hidden below. Opaque images are not affected.
* 16-bit samples are scaled to 8 bits where ``convert`` cuts them off.
* Embedded colour profiles are left alone, as all three libraries do.

JPEGs take simplejpeg, which has the same library decode them: the same pixels, without a Pillow image
in between.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from mmfeat.extract.failures import ran_out_of_memory
from mmfeat.extract.media.limits import check_bytes, check_pixels
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
            raise ItemError("decode", "not an image that can be read") from error
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
    return _pixels(header)


def _decode_plain_jpeg(data: bytes) -> np.ndarray | None:
    """uint8 ``[height, width, 3]``; None where simplejpeg does not, so that Pillow does or says why."""
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
    return _pixels(image)


def _pixels(image: Image.Image) -> np.ndarray:
    from PIL import ImageOps

    image.load()
    return np.array(_rgb(ImageOps.exif_transpose(image)))


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):
        return _rgb(_eight_bits(image))
    if image.mode == "F":
        raise ItemError("decode", "image has floating-point samples, whose white is not defined")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Greyscale of 16 bits to its upper 8, as Pillow itself reads 16-bit colour."""
    from PIL import Image

    samples = np.asarray(image).astype(np.int64)
    if samples.min() < 0 or samples.max() > 0xFFFF:
        raise ItemError("decode", "image has 32-bit samples, whose white is not defined")
    return Image.fromarray((samples >> 8).astype(np.uint8))


def _orientation(image: Image.Image) -> int:
    return int(image.getexif().get(_ORIENTATION, 1))


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

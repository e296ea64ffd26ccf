"""Decoded pixels to the view that a model reads.

The reference is what the models' own libraries do to a Pillow image: ``Image.resize`` on uint8, then
crop or pad. Bilinear and bicubic run in torch's antialiased uint8 kernel, which follows Pillow's and
is about ten times as quick with AVX2. Its weights have 16 bits instead of Pillow's 22, so on noise
about one value in 300 differs, by 1 or 2 of 255. It is also the kernel of torchvision's ``resize``, which
transformers' processors call: what a view does as they do is the same to the bit.

Rows are resized before columns, always, as every Pillow before 13 does; Pillow 13 chooses by the
image's shape. A feature's values must not depend on which one is installed.

Both kernels run on the calling thread alone, so neither needs torch's thread count changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmfeat.extract.modalities.decoders.model_sizes import model_sizes
from mmfeat.extract.modalities.decoders.resize import resized
from mmfeat.schemas.inputs import Interpolation, PixelView

if TYPE_CHECKING:
    from PIL import Image

# A strip 10 pixels high and 100,000 wide would take gigabytes at 224 high, to keep its middle.
_MOST_RESIZED_PIXELS = 1 << 25


def render_view(pixels: np.ndarray, view: PixelView, full_size: tuple[int, int] | None = None) -> np.ndarray:
    """One picture in one view.

    Args:
        pixels: uint8 ``[height, width, 3]`` RGB.
        full_size: ``(height, width)`` of the picture where ``pixels`` was decoded at a reduced scale, or
            where its pixels are no squares.

    Returns:
        uint8 ``[height, width, 3]``, contiguous: of the view's size where that is fixed.

    Raises:
        ItemError: stage ``decode``: a model has no size for a picture of this shape.
    """
    height, width = full_size or pixels.shape[:2]
    if view.step is not None:
        for size in model_sizes(height, width, view):
            pixels = resized(pixels, size, view.interpolation)
        return np.ascontiguousarray(pixels)
    size, frame = resized_size(height, width, view), (view.height, view.width)
    if view.mode == "shortest":
        if size[0] * size[1] > _MOST_RESIZED_PIXELS:
            rendered = _resize_middle(pixels, size, view)
        else:
            rendered = _crop(_resize(pixels, size, view.interpolation), view)
        rendered = _pad(rendered, frame, (0, 0, 0))
    else:
        rendered = _resize(pixels, size, view.interpolation)
        if view.mode == "pad":
            rendered = _pad(rendered, frame, view.fill)
    return np.ascontiguousarray(rendered)


def fitted(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture as large as ``size`` (height, width) takes it whole, centred on black.

    Args:
        pixels: uint8 ``[height, width, 3]``.
    """
    height, width = pixels.shape[:2]
    ratio = min(size[0] / height, size[1] / width)
    inner = max(1, round(height * ratio)), max(1, round(width * ratio))
    return _pad(_resize(pixels, inner, "bicubic"), size, (0, 0, 0))


def resized_size(height: int, width: int, view: PixelView) -> tuple[int, int]:
    """``(height, width)`` that a picture is resized to before it is cropped or padded.

    Rounding follows the upstream of each mode: torchvision's ``Resize(int)`` cuts off
    (``shortest``), open_clip's ``ResizeKeepRatio`` rounds (``pad``), and so does ``bound``.

    Raises:
        ItemError: see :func:`render_view`.
    """
    if view.step is not None:
        return model_sizes(height, width, view)[-1]
    if view.mode == "shortest":
        assert view.resize is not None, "checked by PixelView"
        long = int(view.resize * max(height, width) / min(height, width))
        return (view.resize, long) if height <= width else (long, view.resize)
    if view.mode == "squash":
        return view.height, view.width
    if view.mode == "pad":
        ratio = max(height / view.height, width / view.width)
    else:
        ratio = max(1.0, max(height, width) / view.height)
    # A strip must not lose its last row or column.
    return max(1, round(height / ratio)), max(1, round(width / ratio))


def _resize(pixels: np.ndarray, size: tuple[int, int], interpolation: Interpolation) -> np.ndarray:
    rows = _resize_once(pixels, (pixels.shape[0], size[1]), interpolation)
    return _resize_once(rows, size, interpolation)


def _resize_once(pixels: np.ndarray, size: tuple[int, int], interpolation: Interpolation) -> np.ndarray:
    if pixels.shape[:2] == size:
        return pixels
    if interpolation not in ("bilinear", "bicubic"):
        from PIL import Image

        return np.asarray(Image.fromarray(pixels).resize(size[::-1], _filter(interpolation)))
    return resized(pixels, size, interpolation)


def _resize_middle(pixels: np.ndarray, size: tuple[int, int], view: PixelView) -> np.ndarray:
    """``_crop(_resize(pixels, size), frame)`` without ever holding more than the crop."""
    from PIL import Image

    height, width = pixels.shape[:2]
    (top, left), (rows, columns) = _corner(size, view), np.minimum(size, (view.height, view.width)).tolist()
    across, down = width / size[1], height / size[0]
    picture = Image.fromarray(pixels).resize(
        (columns, height),
        _filter(view.interpolation),
        box=(left * across, 0, (left + columns) * across, height),
    )
    return np.asarray(
        picture.resize(
            (columns, rows), _filter(view.interpolation), box=(0, top * down, columns, (top + rows) * down)
        )
    )


def _filter(interpolation: Interpolation) -> Image.Resampling:
    from PIL import Image

    return Image.Resampling[interpolation.upper()]


def _corner(size: tuple[int, int], view: PixelView) -> tuple[int, int]:
    """``(top, left)`` of the middle of a picture, rounded as the view says."""
    rounded = round if view.crop_rounding == "even" else int
    return max(0, rounded((size[0] - view.height) / 2)), max(0, rounded((size[1] - view.width) / 2))


def _crop(pixels: np.ndarray, view: PixelView) -> np.ndarray:
    top, left = _corner(pixels.shape[:2], view)
    return pixels[top : top + view.height, left : left + view.width]


def _pad(pixels: np.ndarray, frame: tuple[int, int], fill: tuple[int, int, int]) -> np.ndarray:
    """Centred on ``fill``, the odd row or column at the bottom or right; no change if large enough."""
    height, width = pixels.shape[:2]
    if (height, width) == frame:
        return pixels
    canvas = np.full((*frame, 3), fill, dtype=np.uint8)
    top, left = (frame[0] - height) // 2, (frame[1] - width) // 2
    canvas[top : top + height, left : left + width] = pixels
    return canvas

"""The sizes to which models' own processors resize a picture, where these depend on its shape.

The rules are those of transformers 5.24:

* ``multiples``: ``smart_resize`` in ``models/qwen2_vl/image_processing_qwen2_vl.py``, which Qwen2-VL,
  Qwen2.5-VL and Qwen3-VL share. ``step`` is a patch's side times the patches that are merged along a side.
* ``tiles``: ``resize`` and ``resize_for_vision_encoder`` in ``models/idefics3/image_processing_idefics3.py``
  and in its copy for SmolVLM, both of which really resize: a picture goes through two sizes.

A size is only given where the same rule leaves a picture of it as it is. What comes out of here may then go
through the model's processor, here or on a server: it resizes nothing any more.
"""

from __future__ import annotations

import math

from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.inputs import PixelView

Size = tuple[int, int]

# Qwen's processors refuse a picture that is so many times as long as it is wide.
_LONGEST = 200


def model_sizes(height: int, width: int, view: PixelView) -> tuple[Size, ...]:
    """Each ``(height, width)`` that a picture is resized to, one after the other.

    Raises:
        ItemError: stage ``decode``: the model takes no picture of this shape, or would resize it again.
    """
    rule = _multiples if view.mode == "multiples" else _tiles
    sizes = rule(height, width, view)
    again = rule(*sizes[-1], view)
    if any(size != sizes[-1] for size in again):
        raise ItemError(
            "decode", f"the model would resize a picture of {width:,} x {height:,} pixels again and again"
        )
    return sizes


def _multiples(height: int, width: int, view: PixelView) -> tuple[Size, ...]:
    assert view.step is not None and view.pixels is not None, "checked by PixelView"
    if max(height, width) > _LONGEST * min(height, width):
        raise ItemError(
            "decode",
            f"the model takes no strip of {width:,} x {height:,} pixels: {_LONGEST} to 1 is the most",
        )
    step, (least, most) = view.step, view.pixels
    rows, columns = round(height / step), round(width / step)
    if rows * columns * step**2 > most:
        ratio = math.sqrt((height * width) / most)
        rows, columns = (max(1, math.floor(side / ratio / step)) for side in (height, width))
    elif rows * columns * step**2 < least:
        ratio = math.sqrt(least / (height * width))
        rows, columns = (math.ceil(side * ratio / step) for side in (height, width))
    return ((rows * step, columns * step),)


def _tiles(height: int, width: int, view: PixelView) -> tuple[Size, ...]:
    assert view.step is not None and view.resize is not None, "checked by PixelView"
    short = _shorter(view.resize, height, width)
    first = _in_order(view.resize, max(1, short + short % 2), height, width)
    long = _enlarged(max(first), view.step)
    second = _in_order(long, _enlarged(_shorter(long, *first), view.step), *first)
    return first, second


def _shorter(long: int, height: int, width: int) -> int:
    """The shorter side of a picture of this shape whose longer side is ``long``. Its roundings are theirs."""
    ratio = width / height
    return int(long / ratio) if width >= height else int(long * ratio)


def _in_order(long: int, short: int, height: int, width: int) -> Size:
    return (short, long) if width >= height else (long, short)


def _enlarged(side: int, step: int) -> int:
    return math.ceil(side / step) * step

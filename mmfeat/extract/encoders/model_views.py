"""What a model's own processor does to a picture's size, as a view that the decode stage renders.

A picture in such a view goes through the processor afterwards, in this process or in an engine, and has
the same ``pixel_values`` to the bit as the picture that was decoded: the resize has nothing left to do. That
holds where one picture can stand for all that the model sees of it: in these families, by transformers 5.24
(``models/*/image_processing_*.py``):

* Qwen2-VL, Qwen2.5-VL, Qwen3-VL: multiples of a step, within a number of pixels;
* SmolVLM, Idefics3: multiples of a tile; tiles and the small whole picture are both cut from that one;
* Gemma 3 without pan and scan, InternVL of one tile: a square;
* LLaVA 1.5 and others with CLIP's or SigLIP's processor: resized, and the centre cut out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mmfeat.extract.base import Ask
from mmfeat.extract.encoders.processor import INTERPOLATIONS, kind_of, load_processor, plain_view
from mmfeat.extract.weights import find_on_hub, is_path
from mmfeat.schemas.inputs import PixelView

# The first torchvision that has this filter; with an older one transformers takes another.
_LANCZOS_SINCE = (0, 27)
# Above it Idefics3's processor shrinks again.
_MOST_SIDE = 4096


def processor_folder(ask: Ask[Any], place: str) -> Path:
    """The folder with the processor's files of a model that is named by a folder or an id of the hub.

    Raises:
        ConfigError: the hub gives no such model.
    """
    if is_path(place):
        return Path(place).expanduser()
    return find_on_hub(ask.name, place, revision=None, needs=None).folder


def model_view(ask: Ask[Any], folder: Path) -> PixelView:
    """The view that a model's own processor gives a picture.

    Args:
        ask: its options ``max_pixels`` and ``jpeg`` change the view.
        folder: with the processor's files.

    Raises:
        ConfigError: no such processor, or one of which no picture in a view gives the same pixels.
    """
    options = ask.options
    model = options.model if options.resize == "model" else options.resize
    processor = load_processor(ask.name, model, folder)
    try:
        view = _view(processor)
    except _NotExpressedError as problem:
        raise ask.error(
            f"resize cannot do what the {type(processor).__name__} of {model!r} does: it {problem}",
            "Leave resize out: the model's own processor, or the engine, then resizes.",
        ) from problem
    if options.max_pixels is not None:
        view = _bounded(ask, view, options.max_pixels)
    return view.model_copy(update={"jpeg": options.jpeg or "exact"})


class _NotExpressedError(Exception):
    """Why no view of ours gives the pixels of a processor: what it does."""


def _view(processor: Any) -> PixelView:
    kind = kind_of(processor)
    if kind in _TILED or (kind == "GotOcr2ImageProcessor" and processor.max_patches > 1):
        raise _NotExpressedError("makes tiles and a small whole picture, each of them from the original")
    if kind not in _FAMILIES:
        raise _NotExpressedError("is of no family whose resize is known here")
    if processor.backend != "torchvision":
        raise _NotExpressedError("resizes with Pillow, for want of torchvision")
    view = _FAMILIES[kind](processor)
    if view is None or view.interpolation == "nearest":
        raise _NotExpressedError("is set up in a way that is not known here")
    if view.interpolation == "lanczos" and _torchvision() < _LANCZOS_SINCE:
        raise _NotExpressedError("needs torchvision 0.27, which has the filter that it resizes with")
    return view


def _multiples(processor: Any) -> PixelView:
    """``min_pixels`` and ``max_pixels`` of older files are in ``size`` once the processor is loaded."""
    least, most = processor.size.shortest_edge, processor.size.longest_edge
    side = math.isqrt(most)
    return PixelView(
        mode="multiples",
        height=side,
        width=side,
        step=processor.patch_size * processor.merge_size,
        pixels=(least, most),
        interpolation=_interpolation(processor),
    )


def _tiles(processor: Any) -> PixelView | None:
    long, step = processor.size.longest_edge, processor.max_image_size["longest_edge"]
    if not processor.do_image_splitting or long % step or long > _MOST_SIDE:
        return None
    return PixelView(
        mode="tiles", height=long, width=long, resize=long, step=step, interpolation=_interpolation(processor)
    )


def _plain(processor: Any) -> PixelView | None:
    others = ("do_pad", "do_pan_and_scan")
    view = None if any(getattr(processor, name, None) for name in others) else plain_view(processor)
    # Of the other filters a view of one size has Pillow's.
    return view if view is not None and view.interpolation in ("bilinear", "bicubic") else None


def _interpolation(processor: Any) -> Any:
    return INTERPOLATIONS[int(processor.resample)]


def _torchvision() -> tuple[int, ...]:
    return tuple(int(part) for part in version("torchvision").split(".")[:2])


# The class of a processor to the view that it gives; None if its settings are not those that the family's
# models have.
_FAMILIES: dict[str, Callable[[Any], PixelView | None]] = {
    "Qwen2VLImageProcessor": _multiples,
    "Idefics3ImageProcessor": _tiles,
    "SmolVLMImageProcessor": _tiles,
    "CLIPImageProcessor": _plain,
    "Gemma3ImageProcessor": _plain,
    "GotOcr2ImageProcessor": _plain,
    "LlavaImageProcessor": _plain,
    "SiglipImageProcessor": _plain,
}
_TILED = {"LlavaNextImageProcessor", "LlavaOnevisionImageProcessor"}


def _bounded(ask: Ask[Any], view: PixelView, most: int) -> PixelView:
    """A view of fewer pixels, of which the model's own rule changes none either."""
    if view.pixels is None or view.step is None:
        raise ask.error("'max_pixels' goes with models that take pictures of any size, such as Qwen's")
    least, models_own = view.pixels
    if not least <= most <= models_own:
        raise ask.error(f"max_pixels is {most:,}, and this model takes {least:,} to {models_own:,}")
    side = math.isqrt(most)
    return view.model_copy(update={"pixels": (least, most), "height": side, "width": side})

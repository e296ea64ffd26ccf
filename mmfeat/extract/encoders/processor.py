"""transformers' image and video processors as preprocessing of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmfeat.extract.weights import missing_package
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.inputs import ImagePrepare, PixelPrepare, PixelView

# Processors that resize, crop, rescale and normalise and do nothing else. Others flip channels, pad to
# multiples or split into tiles, under settings of the same names.
_PLAIN = {
    "BeitImageProcessor",
    "BitImageProcessor",
    "BlipImageProcessor",
    "CLIPImageProcessor",
    "ChineseCLIPImageProcessor",
    "ConvNextImageProcessor",
    "DINOv3ViTImageProcessor",
    "DeiTImageProcessor",
    "MobileNetV2ImageProcessor",
    "SiglipImageProcessor",
    "ViTImageProcessor",
}
# The same of those for clips: every frame by itself, as a picture.
_PLAIN_FRAMES = {
    "CLIPImageProcessor",
    "LlavaOnevisionVideoProcessor",
    "PeVideoVideoProcessor",
    "TimesformerVideoProcessor",
    "VJEPA2VideoProcessor",
    "VideoMAEImageProcessor",
    "VideoMAEVideoProcessor",
    "VivitVideoProcessor",
}
_RESIZES_FLOATS = {"DINOv3ViTImageProcessor"}
# Rescales to -1..1 before it normalises.
_FROM_MINUS_ONE = {"VivitVideoProcessor"}
#: Filters by Pillow's number.
INTERPOLATIONS: dict[int, Any] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
# ConvNeXt's rule: from this size on images are squashed whole, below it the centre is cropped.
_CONVNEXT_WHOLE = 384


def load_processor(name: str, model: str, folder: Path) -> Any:
    """The image processor in ``folder``.

    Raises:
        ConfigError: there is none, or it lets every picture keep its size.
    """
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, ImportError) as error:
        if lack := missing_package(name, model, error):
            raise lack from error
        raise ConfigError(
            f"feature {name!r}: {model!r} has no image processor: {str(error).splitlines()[0]}",
            hint="The folder needs the model's preprocessor_config.json.",
        ) from error
    if not getattr(processor, "do_resize", True):
        raise ConfigError(
            f"feature {name!r}: the image processor of {model!r} does not resize",
            hint="Set do_resize in its preprocessor_config.json: pictures are of many sizes.",
        )
    return processor


def picture_prepare(processor: Any, crop: str | None) -> ImagePrepare | None:
    """What a processor does to a picture; None if no view of ours expresses it.

    DINOv3's resizes pixels as floats between 0 and 1, where all others, and we, resize and round them to 8
    bits: inputs differ by 1 of 255, and vectors agreed at 0.9998 to 0.9999 alone. It is expressed where a
    ``crop`` of ours takes the place of its own.
    """
    if _problem(processor, _PLAIN, 255) or (kind_of(processor) in _RESIZES_FLOATS and crop is None):
        return None
    view = plain_view(processor)
    if view is None:
        return None
    mean, std = _deviation(processor)
    return ImagePrepare(view=view, mean=mean, std=std)


def frames_prepare(processor: Any) -> PixelPrepare | None:
    """What a processor of clips does to each frame; None if no view of ours expresses it.

    Args:
        processor: of transformers, for clips or for pictures.
    """
    kind = kind_of(processor)
    view = plain_view(processor)
    from_minus_one = kind in _FROM_MINUS_ONE
    if view is None or _problem(processor, _PLAIN_FRAMES, 127.5 if from_minus_one else 255) is not None:
        return None
    mean, std = _deviation(processor)
    if from_minus_one:
        # (2 x - 1 - mean) / std, of x within 0 and 1
        mean = tuple((1 + m) / 2 for m in mean)
        std = tuple(s / 2 for s in std)
    return PixelPrepare(view=view, mean=mean, std=std)


def kind_of(processor: Any) -> str:
    """The class of a processor, whichever of transformers' variants of it is installed."""
    return type(processor).__name__.removesuffix("Fast").removesuffix("Pil")


def _deviation(processor: Any) -> tuple[Any, Any]:
    """Mean and standard deviation that the processor normalises by."""
    if not processor.do_normalize:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return tuple(processor.image_mean), tuple(processor.image_std)


def _problem(processor: Any, plain: set[str], values: float) -> str | None:
    """What a processor does beside resizing, cropping, dividing by ``values`` and normalising; None for
    nothing else."""
    if kind_of(processor) not in plain:
        return f"is a {type(processor).__name__}, which is not known to resize, crop and normalise alone"
    if not processor.do_resize:
        return "does not resize"
    if not processor.do_rescale or abs(processor.rescale_factor * values - 1) > 1e-6:
        return f"does not rescale by 1/255 (rescale_factor {processor.rescale_factor})"
    if int(processor.resample) not in INTERPOLATIONS:
        return f"resizes with resample {processor.resample}"
    return None


def plain_view(processor: Any) -> PixelView | None:
    """What a processor does that squashes, or resizes the shorter side and cuts out the centre; None of
    others."""
    size = processor.size
    crop = processor.crop_size if getattr(processor, "do_center_crop", False) else None
    shown: dict[str, Any] = {
        "interpolation": INTERPOLATIONS[int(processor.resample)],
        "crop_rounding": "down",
    }
    if type(processor).__name__.startswith("ConvNext"):
        return _convnext_view(size.shortest_edge, processor.crop_pct, shown)
    if crop is None and size.height and size.width:
        return PixelView(mode="squash", height=size.height, width=size.width, **shown)
    if crop is not None and size.shortest_edge and not size.longest_edge:
        resize = size.shortest_edge
        return PixelView(mode="shortest", height=crop.height, width=crop.width, resize=resize, **shown)
    return None


def _convnext_view(side: int | None, crop_pct: float, shown: dict[str, Any]) -> PixelView | None:
    if side is None:
        return None
    if side >= _CONVNEXT_WHOLE:
        return PixelView(mode="squash", height=side, width=side, **shown)
    return PixelView(mode="shortest", height=side, width=side, resize=int(side / crop_pct), **shown)

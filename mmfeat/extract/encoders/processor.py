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
    "CLIPImageProcessor",
    "ConvNextImageProcessor",
    "DINOv3ViTImageProcessor",
    "DeiTImageProcessor",
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
# Rescales to -1..1 before it normalises.
_FROM_MINUS_ONE = {"VivitVideoProcessor"}
_INTERPOLATIONS: dict[int, Any] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
# ConvNeXt's rule: from this size on images are squashed whole, below it the centre is cropped.
_CONVNEXT_WHOLE = 384


def read_processor(name: str, model: str, folder: Path) -> ImagePrepare:
    """The preprocessing that the image processor in ``folder`` does.

    Raises:
        ConfigError: no processor there, or one that does more than resize, crop, rescale to 0..1 and
            normalise.

    DINOv3's processor resizes in floating point where all others, and we, resize 8-bit pixels: its
    inputs differ from ours by up to 1 of 255.
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
    problem = _problem(processor, _PLAIN, 255)
    if problem:
        raise ConfigError(f"feature {name!r}: the image processor of {model!r} {problem}")
    view = _view(processor)
    if view is None:
        raise ConfigError(
            f"feature {name!r}: the image processor of {model!r} cannot be expressed: size "
            f"{processor.size}, crop_size {getattr(processor, 'crop_size', None)}",
            hint="Images must end up in one fixed size by one resize and at most one centre crop.",
        )
    mean, std = _deviation(processor)
    return ImagePrepare(view=view, mean=mean, std=std)


def frames_prepare(processor: Any) -> PixelPrepare | None:
    """What a processor of clips does to each frame; None where no view of ours expresses it.

    Args:
        processor: of transformers, for clips or for pictures.
    """
    kind = _kind(processor)
    view = _view(processor)
    from_minus_one = kind in _FROM_MINUS_ONE
    if view is None or _problem(processor, _PLAIN_FRAMES, 127.5 if from_minus_one else 255) is not None:
        return None
    mean, std = _deviation(processor)
    if from_minus_one:
        # (2 x - 1 - mean) / std, of x within 0 and 1
        mean = tuple((1 + m) / 2 for m in mean)
        std = tuple(s / 2 for s in std)
    return PixelPrepare(view=view, mean=mean, std=std)


def _kind(processor: Any) -> str:
    return type(processor).__name__.removesuffix("Fast").removesuffix("Pil")


def _deviation(processor: Any) -> tuple[Any, Any]:
    """Mean and standard deviation that the processor normalises by."""
    if not processor.do_normalize:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return tuple(processor.image_mean), tuple(processor.image_std)


def _problem(processor: Any, plain: set[str], values: float) -> str | None:
    """What a processor does beside resizing, cropping, dividing by ``values`` and normalising; None for
    nothing else."""
    if _kind(processor) not in plain:
        return f"is a {type(processor).__name__}, which is not known to resize, crop and normalise alone"
    if not processor.do_resize:
        return "does not resize"
    if not processor.do_rescale or abs(processor.rescale_factor * values - 1) > 1e-6:
        return f"does not rescale by 1/255 (rescale_factor {processor.rescale_factor})"
    if int(processor.resample) not in _INTERPOLATIONS:
        return f"resizes with resample {processor.resample}"
    return None


def _view(processor: Any) -> PixelView | None:
    size = processor.size
    crop = processor.crop_size if getattr(processor, "do_center_crop", False) else None
    shown: dict[str, Any] = {
        "interpolation": _INTERPOLATIONS[int(processor.resample)],
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

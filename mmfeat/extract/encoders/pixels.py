"""What image encoders share: the view that a model wants, and pixels as its input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from mmfeat.schemas.errors import MmfeatError
from mmfeat.schemas.spec import FeatureSpec, PixelView

if TYPE_CHECKING:
    import torch


def adjusted(
    view: PixelView,
    crop: Literal["center", "squash", "pad"] | None,
    jpeg: Literal["exact", "scaled"] | None,
) -> PixelView:
    """A model's own view with the options of a job: another crop, another JPEG decoding.

    ``center`` keeps the model's own resize where it has one; otherwise the shorter side is resized to
    the model's height, and nothing but the centre square is seen.
    """
    changes: dict[str, object] = {"jpeg": jpeg or view.jpeg}
    if crop == "center":
        changes |= {"mode": "shortest", "resize": view.resize or view.height}
    elif crop is not None:
        changes |= {"mode": crop, "resize": None}
    return PixelView.model_validate(view.model_dump() | changes)


def to_input(pixels: np.ndarray, spec: FeatureSpec, device: str) -> torch.Tensor:
    """uint8 ``[n, height, width, 3]`` in the spec's view to ``[n, 3, height, width]`` in its dtype.

    Pixels travel to the device as uint8 and are normalised there, in float32 as upstream libraries
    do. The result has channels-last strides, which convolutions on a CPU run faster on.

    Raises:
        MmfeatError: the pixels are not in the spec's view. Some models take any size, and would give
            other values without a word.
    """
    import torch

    image = spec.image
    if image is None or image.mean is None or image.std is None:
        raise MmfeatError(f"feature {spec.name!r} has no image preprocessing")
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (image.view.height, image.view.width, 3):
        raise MmfeatError(
            f"{spec.method} wants uint8 pixels of {image.view.height} x {image.view.width}, "
            f"got {pixels.dtype} {pixels.shape}"
        )
    batch = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).to(torch.float32) / 255
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (image.mean, image.std))
    normalised: torch.Tensor = (batch - mean) / std
    return normalised.to(getattr(torch, spec.compute_dtype))


def to_vectors(outputs: torch.Tensor, spec: FeatureSpec) -> np.ndarray:
    """A model's ``[n, dims]`` or ``[n, vectors, dims]`` outputs as float32, every vector of length 1
    where the spec says so."""
    import torch

    vectors = outputs.to(torch.float32)
    if spec.normalize:
        vectors = torch.nn.functional.normalize(vectors, dim=-1)
    result: np.ndarray = vectors.cpu().numpy()
    return result

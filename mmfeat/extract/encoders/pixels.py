"""What image encoders share: the view that a model wants, and pixels as its input."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mmfeat.extract.base import Query
from mmfeat.schemas.errors import MmfeatError
from mmfeat.schemas.inputs import ImagePrepare, PixelPrepare, PixelView
from mmfeat.schemas.spec import FeatureSpec

if TYPE_CHECKING:
    import torch

# A vector of zeros has no direction and stays one, as in torch.nn.functional.normalize.
_LEAST_LENGTH = 1e-12


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


def picture_query(pixels: PixelPrepare, encode: Callable[[np.ndarray], np.ndarray]) -> Query:
    """How a feature of pictures, or of clips, is searched by one picture.

    Args:
        encode: uint8 ``[n, height, width, 3]`` to float32 ``[n, dims]``.
    """
    prepare = ImagePrepare(view=pixels.view, mean=pixels.mean, std=pixels.std)
    return Query(prepare, lambda frames: encode(np.concatenate([one.pixels for one in frames])))


def picture_tower(
    spec: FeatureSpec,
    network: torch.nn.Module,
    read: Callable[[Any, torch.Tensor], torch.Tensor | tuple[torch.Tensor, ...]],
) -> torch.nn.Module:
    """A network behind its preprocessing: what :func:`~mmfeat.extract.runtimes.choice.picture_network` runs.

    The module takes uint8 ``[n, height, width, 3]`` in the spec's view and gives a tuple of float32
    outputs. Pixels are normalised in float32 as upstream libraries do, whatever the network's type. Its
    input has channels-last strides, which convolutions on a CPU run faster on.

    Args:
        network: in the spec's compute dtype.
        read: ``read(network, inputs)`` gives what is wanted of ``[n, 3, height, width]`` inputs.
    """
    import torch

    image = spec.pixels
    if image is None or image.mean is None or image.std is None:
        raise MmfeatError(f"feature {spec.name!r} has no image preprocessing")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (image.mean, image.std))
    device, dtype = next(network.parameters()).device, getattr(torch, spec.compute_dtype)

    class Tower(torch.nn.Module):
        mean: torch.Tensor
        std: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.register_buffer("mean", mean.to(device))
            self.register_buffer("std", std.to(device))

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            batch = pixels.permute(0, 3, 1, 2).to(torch.float32) / 255
            outputs = read(self.network, ((batch - self.mean) / self.std).to(dtype))
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            return tuple(output.to(torch.float32) for output in outputs)

    return Tower()


def checked(pixels: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """The pixels.

    Raises:
        MmfeatError: they are not in the spec's view. Some models take any size, and would give other
            values without a word.
    """
    image = spec.pixels
    if image is None:
        raise MmfeatError(f"feature {spec.name!r} has no image preprocessing")
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (image.view.height, image.view.width, 3):
        raise MmfeatError(
            f"{spec.method} wants uint8 pixels of {image.view.height} x {image.view.width}, "
            f"got {pixels.dtype} {pixels.shape}"
        )
    return pixels


def to_vectors(outputs: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """A model's float32 ``[n, dims]`` or ``[n, vectors, dims]`` outputs, every vector of length 1 if the
    spec says so."""
    if not spec.options.get("normalize"):
        return outputs
    lengths = np.linalg.norm(outputs, axis=-1, keepdims=True)
    vectors: np.ndarray = outputs / np.maximum(lengths, _LEAST_LENGTH)
    return vectors

"""Pictures through a model's own processor of transformers, where no view of ours expresses what it does.

Slower than a view: a picture travels as it was decoded, and the processor sees one at a time. Exact: the
model's inputs are those of ``AutoImageProcessor``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmfeat.schemas.errors import ConfigError, MmfeatError
from mmfeat.schemas.inputs import PixelView
from mmfeat.schemas.spec import FeatureSpec

if TYPE_CHECKING:
    import torch

#: Inputs by name, as a model takes them: of one picture, or of several of the same shapes.
Inputs = dict[str, "torch.Tensor"]

# Of one picture's ``pixel_values``, the batch's included.
_DIMENSIONS = 4

#: What a processor is given: pictures as they are decoded, shrunk where they are larger than that.
OWN_VIEW = PixelView(mode="bound", height=2048, width=2048)


def by_own_processor(spec: FeatureSpec) -> bool:
    """Whether a spec's pictures go through the model's own processor: it says no mean to subtract."""
    return spec.pixels is not None and spec.pixels.mean is None


def processed(processor: Any, model: Any, pixels: np.ndarray) -> Inputs:
    """What a model takes of one picture.

    Args:
        pixels: uint8 ``[height, width, 3]``.
    """
    taken = inspect.signature(model.forward).parameters
    made = processor(images=pixels, input_data_format="channels_last", return_tensors="pt")
    return {name: value for name, value in made.items() if name in taken}


def outlined(processor: Any, model: Any) -> dict[str, Any]:
    """Such inputs of a blank picture, for a model on ``meta``.

    Raises:
        ValueError: the processor makes several pictures of one.
    """
    inputs = processed(processor, model, np.zeros((64, 80, 3), np.uint8))
    if inputs["pixel_values"].ndim > _DIMENSIONS:
        raise ValueError(f"its {type(processor).__name__} makes several pictures of one")
    return {name: _without_values(name, value) for name, value in inputs.items()}


def _without_values(name: str, value: torch.Tensor) -> torch.Tensor | None:
    """What a model on ``meta`` can take: it looks into masks, which change no shape, and into sizes."""
    if name.endswith("mask"):
        return None
    return value.to("meta") if value.is_floating_point() else value


class ProcessedPictures:
    """A model behind its own processor.

    Args:
        model: in the spec's compute dtype, on its device.
        read: ``read(model, inputs)`` gives float vectors of inputs of several pictures.
    """

    def __init__(
        self, spec: FeatureSpec, processor: Any, model: Any, read: Callable[[Any, Inputs], torch.Tensor]
    ) -> None:
        self._spec, self._processor, self._model, self._read = spec, processor, model, read
        #: What a person should know of such a feature.
        self.note = (
            f"{spec.name}: pictures go through the model's own {type(processor).__name__}, one by one: exact,"
            " and slower than a view"
        )

    def __call__(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 ``[height, width, 3]`` of any sizes to float32 vectors, in order.

        Pictures whose inputs have the same shapes go through the model together; nothing is padded for a
        neighbour's sake.
        """
        import torch

        each = [processed(self._processor, self._model, self._checked(pixels)) for pixels in pictures]
        alike: dict[tuple[Any, ...], list[int]] = {}
        for number, inputs in enumerate(each):
            alike.setdefault(tuple(value.shape for value in inputs.values()), []).append(number)
        vectors: list[np.ndarray] = [np.empty(0)] * len(each)
        with torch.inference_mode():
            for numbers in alike.values():
                outputs = self._outputs([each[n] for n in numbers])
                for number, vector in zip(numbers, outputs, strict=True):
                    vectors[number] = vector
        return np.stack(vectors)

    def _outputs(self, each: Sequence[Inputs]) -> np.ndarray:
        import torch

        weights = next(self._model.parameters())
        inputs = {}
        for name in each[0]:
            value = torch.cat([one[name] for one in each])
            inputs[name] = value.to(weights.device, weights.dtype if value.is_floating_point() else None)
        found: np.ndarray = self._read(self._model, inputs).float().cpu().numpy()
        return found

    def _checked(self, pixels: np.ndarray) -> np.ndarray:
        """The pixels; MmfeatError where they are none."""
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise MmfeatError(
                f"{self._spec.method} wants uint8 [height, width, 3], got {pixels.dtype} {pixels.shape}"
            )
        return pixels


def refuse_crop(name: str, model: str, processor: Any, crop: str | None) -> None:
    """ConfigError where pictures are to be cropped otherwise than a processor does."""
    if crop is not None:
        raise ConfigError(
            f"feature {name!r}: pictures are prepared by the {type(processor).__name__} of {model!r}",
            hint="Leave crop out.",
        )

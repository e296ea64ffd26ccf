"""What computes vectors: torch, or on a CPU the same network converted to OpenVINO.

Both compute the same feature, which is checked when a network is converted
(:mod:`mmfeat.extract.runtimes.openvino.conversion`), so the choice is no part of a spec. It is made here
alone, by the work that is to come.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mmfeat.extract.base import Placement
from mmfeat.extract.probes import coloured_blocks
from mmfeat.extract.runtimes.openvino import kept
from mmfeat.extract.runtimes.openvino.conversion import Arrays, NotConverted, Original
from mmfeat.extract.runtimes.openvino.network import PRECISIONS, OpenVino
from mmfeat.schemas.spec import ComputeDtype, FeatureSpec

if TYPE_CHECKING:
    import torch

# Pictures and texts whose saved time pays for converting a network, in the run that converts it
# (docs/trust.md).
_PICTURES_PAY_BACK_FROM: dict[ComputeDtype, int] = {"float32": 1000, "bfloat16": 2000}
_TEXTS_PAY_BACK_FROM: dict[ComputeDtype, int] = {"float32": 5000, "bfloat16": 15_000}
# Of a chat model it is the vision tower alone.
_SEEN_PAY_BACK_FROM = 500


class Network(Protocol):
    """Arrays to float32 outputs, ``n`` rows each. Of pictures it is one array, uint8 pixels
    ``[n, height, width, 3]`` in a spec's view.

    Attributes:
        runtime, notes: as :class:`~mmfeat.extract.base.Method` has them.
    """

    runtime: str
    notes: tuple[str, ...]

    def __call__(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """One batch of any size; a row's values do not depend on the others."""
        ...


def picture_network(
    spec: FeatureSpec, place: Placement, build: Callable[[FeatureSpec], torch.nn.Module]
) -> Network:
    """The network of a spec's pictures, in the runtime that suits the work.

    Args:
        build: makes a spec's torch module whose parameters are on ``device``, from uint8 pixels to a tuple of
            float32 outputs (``pixels.picture_tower``). It is called only where torch is needed. A
            network is converted from the spec in float32, whatever its own compute dtype is.

    Raises:
        ConfigError: the weights cannot be loaded.
    """
    original = picture_original(spec, place, build)
    network, notes = converted_network(spec, place, original)
    return network or TorchNetwork(original.tower(spec.compute_dtype), place.device, notes)


def picture_original(
    spec: FeatureSpec, place: Placement, build: Callable[[FeatureSpec], torch.nn.Module]
) -> Original:
    """What is converted of a network of pictures; arguments as in :func:`picture_network`."""

    @cache
    def tower(dtype: ComputeDtype) -> torch.nn.Module:
        use_torch_threads(place.threads)
        return build(spec.with_options(compute_dtype=dtype)).eval()

    def probes() -> list[Arrays]:
        assert spec.pixels is not None, f"{spec.name} reads no pictures"
        pixels = coloured_blocks(6, spec.pixels.view.height, spec.pixels.view.width)
        return [(pixels[:2],), (pixels[2:5],), (pixels[5:],)]

    return Original(tower, probes, varying=1)


def converted_network(
    spec: FeatureSpec, place: Placement, original: Original
) -> tuple[OpenVino | None, tuple[str, ...]]:
    """The converted network of a spec where that suits the work, and else why there is none, if that is
    to be said.

    Raises:
        ConfigError: the weights cannot be loaded.
    """
    if not _can_be_converted(spec, place):
        return None, ()
    try:
        return kept.find(spec, original if _pays_back(spec, place) else None, place.threads), ()
    except NotConverted as reason:
        return None, (f"{spec.name} runs in torch: {reason}",)


class TorchNetwork:
    """A torch module on one device; see :class:`Network`."""

    def __init__(self, module: torch.nn.Module, device: str, notes: tuple[str, ...] = ()) -> None:
        self.module = module
        self.runtime = torch_runtime()
        self.notes = notes
        self._device = device

    def __call__(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """See :class:`Network`. Inputs travel to the device in the type they have."""
        import torch

        with torch.inference_mode():
            outputs = self.module(*(torch.from_numpy(array).to(self._device) for array in inputs))
            return tuple(output.cpu().numpy() for output in outputs)


def torch_runtime() -> str:
    """The name of torch's runtime; does not import torch."""
    return f"torch {version('torch')}"


def use_torch_threads(threads: int | None) -> None:
    """Bound torch's compute threads in this process; None leaves them as they are."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _can_be_converted(spec: FeatureSpec, place: Placement) -> bool:
    known = place.expected is not None and spec.compute_dtype in PRECISIONS
    return known and place.device == "cpu" and find_spec("openvino") is not None


def _pays_back(spec: FeatureSpec, place: Placement) -> bool:
    if spec.pixels is None:
        return (place.expected or 0) >= _TEXTS_PAY_BACK_FROM[spec.compute_dtype]
    pictures = (place.expected or 0) * spec.pixels.pictures
    if spec.decoding is not None:
        return pictures >= _SEEN_PAY_BACK_FROM
    return pictures >= _PICTURES_PAY_BACK_FROM[spec.compute_dtype]

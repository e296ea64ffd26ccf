"""What computes a picture's vectors: torch, or on a CPU the same network converted to OpenVINO.

Both compute the same feature, which is checked when a network is converted (:mod:`mmfeat.extract.exported`),
so the choice is no part of a spec. It is made here alone, by the work that is to come.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mmfeat.extract import exported
from mmfeat.extract.base import Work
from mmfeat.schemas.spec import ComputeDtype, FeatureSpec

if TYPE_CHECKING:
    import torch

# Pictures whose saved time pays for converting a network, in the run that converts it (docs/encoders.md), by
# the compute dtypes that a converted network may have.
_PAYS_BACK_FROM: dict[ComputeDtype, int] = {"float32": 1000, "bfloat16": 2000}


class Network(Protocol):
    """uint8 pixels ``[n, height, width, 3]`` in a spec's view to float32 outputs, ``n`` rows each.

    Attributes:
        runtime, notes: as :class:`~mmfeat.extract.base.Model` has them.
    """

    runtime: str
    notes: tuple[str, ...]

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """One batch of any size; a row's values do not depend on the others."""
        ...


def picture_network(
    spec: FeatureSpec, device: str, work: Work, build: Callable[[FeatureSpec], torch.nn.Module]
) -> Network:
    """The network of a spec's pictures, in the runtime that suits the work.

    Args:
        build: makes a spec's torch module whose parameters are on ``device``, from uint8 pixels to a tuple of
            float32 outputs (``pixels.picture_tower``). It is called only where torch is needed. A
            network is converted from the spec in float32, whatever its own compute dtype is.

    Raises:
        ConfigError: the weights cannot be loaded.
    """

    @cache
    def tower(dtype: ComputeDtype) -> torch.nn.Module:
        use_torch_threads(work.threads)
        return build(spec.model_copy(update={"compute_dtype": dtype})).eval()

    notes: tuple[str, ...] = ()
    if _can_be_converted(spec, device, work):
        try:
            network = exported.find(spec, tower if _pays_back(spec, work) else None, work.threads)
        except exported.NotExported as reason:
            notes = (f"{spec.name} runs in torch: {reason}",)
        else:
            if network is not None:
                return network
    return TorchNetwork(tower(spec.compute_dtype), device, notes)


class TorchNetwork:
    """A torch module on one device; see :class:`Network`."""

    def __init__(self, module: torch.nn.Module, device: str, notes: tuple[str, ...] = ()) -> None:
        self.module = module
        self.runtime = torch_runtime()
        self.notes = notes
        self._device = device

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """See :class:`Network`. Pixels travel to the device as uint8."""
        import torch

        with torch.inference_mode():
            outputs = self.module(torch.from_numpy(pixels).to(self._device))
            return tuple(output.cpu().numpy() for output in outputs)


def torch_runtime() -> str:
    """The name of torch's runtime; does not import torch."""
    return f"torch {version('torch')}"


def use_torch_threads(threads: int | None) -> None:
    """Bound torch's compute threads in this process; None leaves them as they are."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _can_be_converted(spec: FeatureSpec, device: str, work: Work) -> bool:
    known = work.expected is not None and spec.compute_dtype in _PAYS_BACK_FROM
    return known and device == "cpu" and find_spec("openvino") is not None


def _pays_back(spec: FeatureSpec, work: Work) -> bool:
    pictures_of_an_item = spec.frames.most if spec.frames else 1
    return (work.expected or 0) * pictures_of_an_item >= _PAYS_BACK_FROM[spec.compute_dtype]

"""The vision tower of a chat model on a CPU: two pictures at a time, computed by OpenVINO if that pays back.

A language model writes many answers nearly as fast as one. A vision tower is slower with many pictures than
with two, whose numbers stay in a core's cache. So questions go through the model many at a time, and their
pictures in parts: what the tower holds in memory does not grow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmfeat.extract.base import Placement
from mmfeat.extract.probes import coloured_blocks
from mmfeat.extract.runtimes.choice import converted_network
from mmfeat.extract.runtimes.openvino.conversion import Arrays, Original
from mmfeat.extract.runtimes.openvino.network import OpenVino
from mmfeat.schemas.spec import FeatureSpec

if TYPE_CHECKING:
    import torch

_PICTURES_AT_ONCE = 2
# Their encoder of patches takes embeddings and a mask, and gives the last states alone.
_TOWERS = ("Idefics3VisionTransformer", "SmolVLMVisionTransformer")


@dataclass(frozen=True)
class Sight:
    """What computes a vision tower.

    Attributes:
        runtime: of the converted tower; None if torch computes it.
        notes: as :class:`~mmfeat.extract.base.Method` has them.
    """

    runtime: str | None = None
    notes: tuple[str, ...] = ()


def quicken(model: Any, spec: FeatureSpec, place: Placement) -> Sight:
    """Let the vision tower of a model on a CPU, if its kind is known, take its pictures in parts.

    In float32 OpenVINO computes it if the run is long enough. In bfloat16 torch does: two runtimes round
    differently, and one changed word changes all that follow.
    """
    tower = next((module for module in model.modules() if type(module).__name__ in _TOWERS), None)
    if tower is None:
        return Sight()
    exact = spec.compute_dtype == "float32"
    network, notes = converted_network(spec, place, _original(tower)) if exact else (None, ())
    tower.encoder.forward = _in_parts(tower.encoder.forward, network)
    return Sight(None if network is None else network.runtime, notes)


def _in_parts(forward: Callable[..., Any], network: OpenVino | None) -> Callable[..., Any]:
    def encode(inputs_embeds: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Any:
        """``[pictures, patches, dims]`` to states of that shape, as the encoder itself has it."""
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        states = []
        for start in range(0, len(inputs_embeds), _PICTURES_AT_ONCE):
            part = slice(start, start + _PICTURES_AT_ONCE)
            # Patches come as a transposed view, which every layer would hand on, and copy for its norms.
            patches = inputs_embeds[part].contiguous()
            if network is not None and attention_mask is None:
                states.append(torch.from_numpy(network(patches.numpy())[0]))
                continue
            mask = None if attention_mask is None else attention_mask[part]
            states.append(forward(patches, mask).last_hidden_state)
        return BaseModelOutput(last_hidden_state=torch.cat(states))

    return encode


def _original(tower: Any) -> Original:
    """What is converted: the encoder of patches, without a mask, for any number of pictures and patches."""
    import torch

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = tower.encoder

        def forward(self, patches: torch.Tensor) -> tuple[torch.Tensor]:
            return (self.encoder(inputs_embeds=patches, attention_mask=None).last_hidden_state,)

    def probes() -> list[Arrays]:
        """Embeddings of blocks of colour: two whole pictures, and one of half their height."""
        side, patch = tower.config.image_size, tower.config.patch_size
        whole = torch.from_numpy(coloured_blocks(2, side, side)).movedim(-1, 1) / 127.5 - 1
        return [(_embedded(tower, whole),), (_embedded(tower, whole[:1, :, : max(side // 2, patch)]),)]

    encoder = Encoder().eval()
    return Original(lambda dtype: encoder, probes, varying=2)


def _embedded(tower: Any, pixels: torch.Tensor) -> np.ndarray:
    """float32 ``[n, 3, height, width]`` to embeddings of all patches, float32 ``[n, patches, dims]``."""
    import torch

    patch = tower.config.patch_size
    seen = torch.ones(len(pixels), pixels.shape[2] // patch, pixels.shape[3] // patch, dtype=torch.bool)
    with torch.inference_mode():
        embedded = tower.embeddings(pixel_values=pixels, patch_attention_mask=seen)
        return np.ascontiguousarray(embedded.numpy())

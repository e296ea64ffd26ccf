"""The vision tower of a chat model on a CPU: a few pictures at a time, in the layout that is fast.

A language model writes many answers nearly as fast as one, and a vision tower is no faster with many pictures
than with four. So questions go through the model many at a time, and their pictures in parts: what the tower
holds meanwhile does not grow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_PICTURES_AT_ONCE = 4
# Their encoder of patches takes embeddings and a mask, and gives the last states alone.
_TOWERS = ("Idefics3VisionTransformer", "SmolVLMVisionTransformer")


def see_in_parts(model: Any) -> None:
    """Let the vision tower of a model, if it is one that is known, take its pictures in parts."""
    for module in model.modules():
        if type(module).__name__ in _TOWERS:
            module.encoder.forward = _in_parts(module.encoder.forward)


def _in_parts(forward: Any) -> Any:
    def encode(inputs_embeds: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Any:
        """``[pictures, patches, dims]`` to states of that shape, as the encoder itself has it."""
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        states = []
        for start in range(0, len(inputs_embeds), _PICTURES_AT_ONCE):
            part = slice(start, start + _PICTURES_AT_ONCE)
            mask = None if attention_mask is None else attention_mask[part]
            # Patches come as a transposed view, which every layer would hand on, and copy for its norms.
            states.append(forward(inputs_embeds[part].contiguous(), mask).last_hidden_state)
        return BaseModelOutput(last_hidden_state=torch.cat(states))

    return encode

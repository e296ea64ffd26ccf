"""The hidden states of a language model's decoder, whatever stands around it, and one vector of them.

Models that see and hear put their pictures and sounds between the embeddings of the text and give all of it
to a decoder. Its layers and what follows them are read where they are computed, not from ``hidden_states`` of
the whole model's output: the last of these is before the final norm in some classes of transformers, behind
it in others, and in others missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.spec import FeatureSpec

if TYPE_CHECKING:
    import torch


def decoder_of(spec: FeatureSpec, model: Any) -> Any:
    """The module that has the text's embeddings, the layers, and the norm behind them.

    Raises:
        ConfigError: there is no such module.
    """
    embeddings = model.get_input_embeddings()
    for module in model.modules():
        if getattr(module, "embed_tokens", None) is embeddings and hasattr(module, "layers"):
            return module
    raise ConfigError(
        f"feature {spec.name!r}: {spec.model!r} ({type(model).__name__}) has no decoder that mllm can read",
        hint="It reads decoders built as Llama's and Qwen's are, which most models of transformers have.",
    )


def without_head(model: Any) -> Any:
    """The model without the matrix that makes words of states: of a batch its product is the largest tensor
    of all, and nothing reads it."""
    import torch

    for module in list(model.modules()):
        if isinstance(getattr(module, "lm_head", None), torch.nn.Module):
            module.lm_head = torch.nn.Identity()
    return model


class States:
    """Runs a model and gives one of its decoder's states: ``[n, tokens, dims]``.

    Args:
        layer: 0 for what goes into the first layer, ``k`` for what the k-th gives.
        final_norm: whether the last layer's states are read behind the norm that follows it.
    """

    def __init__(self, model: Any, decoder: Any, layer: int, final_norm: bool) -> None:
        self._model, self._decoder = model, decoder
        self._layer, self._normed = layer, final_norm and layer == len(decoder.layers)

    def __call__(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The states of a batch of a processor."""
        import torch

        with self._kept() as kept, torch.inference_mode():
            self._model(**batch, use_cache=False)
        (state,) = kept
        return state

    @contextmanager
    def _kept(self) -> Iterator[list[torch.Tensor]]:
        kept: list[torch.Tensor] = []

        def before(module: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            kept.append(args[0] if args else named["hidden_states"])

        def after(module: Any, args: Any, output: Any) -> None:
            # A layer gives a tensor, or a tuple that begins with it; a decoder an output that does.
            kept.append(output if hasattr(output, "ndim") else output[0])

        if self._normed:
            hook = self._decoder.register_forward_hook(after)
        elif self._layer == 0:
            hook = self._decoder.layers[0].register_forward_pre_hook(before, with_kwargs=True)
        else:
            hook = self._decoder.layers[self._layer - 1].register_forward_hook(after)
        try:
            yield kept
        finally:
            hook.remove()


def pooled(states: torch.Tensor, mask: torch.Tensor, mean: bool) -> torch.Tensor:
    """float32 ``[n, dims]``: the mean of the tokens that the mask shows, or the last of them, whichever side
    the padding is on."""
    import torch

    if mean:
        shown = mask.unsqueeze(-1).to(torch.float32)
        return (states.float() * shown).sum(dim=1) / shown.sum(dim=1)
    last = mask.shape[1] - 1 - mask.flip(dims=[1]).argmax(dim=1)
    return states[torch.arange(len(states), device=states.device), last].float()


def plain_positions(mask: torch.Tensor) -> torch.Tensor:
    """Positions ``[3, n, tokens]`` that count the shown tokens one by one: how Qwen2-VL's older code places a
    picture that no vision token announces."""
    count = (mask.long().cumsum(dim=-1) - 1).clamp(min=0)
    return count.unsqueeze(0).expand(3, -1, -1)

"""States of a question: what a chat model's layers hold of it before the first word of an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from mmfeat.schemas.errors import MmfeatError
from mmfeat.schemas.frozen import Frozen

if TYPE_CHECKING:
    import torch

StatePooling = Literal["last", "mean"]


class PromptStates(Frozen):
    """Which hidden states of a question are taken, and of which of its tokens.

    They are those of transformers' ``output_hidden_states=True``: 0 are the embeddings with what is shown
    and heard in their places, ``i`` is what layer ``i`` put out. The last one is behind the model's final
    norm where transformers has it so (``tie_last_hidden_states``), as of Qwen2-Audio, Qwen2.5-VL, Qwen3-VL,
    SmolVLM and the omni models; all others are before any norm.

    Attributes:
        layers: their numbers, 0 or more.
        pooling: ``last`` (the token after which the answer begins) or ``mean`` (of all tokens without the
            padding of a batch: the chat template's own, those of pictures and of sound, and the text's).
    """

    layers: tuple[int, ...] = Field(min_length=1)
    pooling: StatePooling

    def of(self, states: Sequence[torch.Tensor], mask: torch.Tensor) -> np.ndarray:
        """Float32 ``[n, layers, dims]``.

        Args:
            states: of every layer ``[n, tokens, dims]``, padded on the left.
            mask: 1 for a token, 0 for padding, ``[n, tokens]``.
        """
        import torch

        pooled = torch.stack([self._pooled(states[layer], mask) for layer in self.layers], dim=1)
        vectors: np.ndarray = pooled.cpu().numpy()
        return vectors

    def _pooled(self, state: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.pooling == "last":
            return state[:, -1].float()
        # Left out, not multiplied by 0: padding that sees nothing may be NaN.
        tokens = state.float().masked_fill(mask[..., None] == 0, 0)
        return tokens.sum(1) / mask.sum(1, keepdim=True)


@contextmanager
def first_pass(
    model: Any, tokens: tuple[int, int], take: Callable[[Sequence[torch.Tensor]], None]
) -> Iterator[None]:
    """While it lasts, a model's first pass, which is that of the question, gives ``take`` its hidden states.

    The passes of the answer's tokens keep none. All states are asked for and not the wanted ones by number:
    a model that reads its vision tower's layers by number would be given ours instead.

    Args:
        tokens: rows of the batch, and tokens of each with its padding.

    Raises:
        MmfeatError: the model gives no hidden states, or not one for each token.
    """
    asking: list[Any] = []

    def ask(_: Any, given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return given, {**named, "output_hidden_states": True}

    def taken(_: Any, given: Any, output: Any) -> None:
        while asking:
            asking.pop().remove()
        states = getattr(output, "hidden_states", None)
        if not states or any(tuple(state.shape[:2]) != tokens for state in states):
            raise MmfeatError(f"{type(model).__name__} does not give a hidden state of each layer and token")
        take(states)

    asking += [
        model.register_forward_pre_hook(ask, with_kwargs=True),
        model.register_forward_hook(taken),
    ]
    try:
        yield
    finally:
        while asking:
            asking.pop().remove()

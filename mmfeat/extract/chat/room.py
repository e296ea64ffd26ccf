"""What a language model keeps of the tokens it has read, with room for those that it will write.

transformers' own cache copies all keys and values anew for every token that is written.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

# Tokens of a row that a cache has room for beyond those that it holds; answers are often shorter.
_ROOM = 128


def with_room(model: Any) -> dict[str, Any]:
    """The argument of ``generate`` for a cache with room; none for a model that makes a cache of its own."""
    if not model._supports_default_dynamic_cache():
        return {}
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    # Sliding windows and states of linear attention are of one size anyway.
    cache.layers = [_Roomy() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    # Renamed in transformers 5.
    name = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
    return {name: cache}


class _Roomy(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values, ``[rows, heads, tokens, dims]`` each, as views of what is allocated ahead."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._all_keys = self._all_values = torch.empty(0)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``DynamicLayer.update``: takes in new tokens and returns all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin = self.get_seq_length()
        end = begin + key_states.shape[-2]
        if not begin or end > self._all_keys.shape[-2]:
            self._all_keys = _enlarged(self.keys, begin, key_states)
            self._all_values = _enlarged(self.values, begin, value_states)
        self._all_keys[..., begin:end, :] = key_states
        self._all_values[..., begin:end, :] = value_states
        self.keys, self.values = self._all_keys[..., :end, :], self._all_values[..., :end, :]
        return self.keys, self.values


def _enlarged(kept: torch.Tensor | None, begin: int, new: torch.Tensor) -> torch.Tensor:
    """Memory for what is kept, ``begin`` tokens that are copied, for what is new, and for more."""
    rows, heads, tokens, dims = new.shape
    memory = new.new_empty((rows, heads, begin + tokens + _ROOM, dims))
    if begin and kept is not None:
        memory[..., :begin, :] = kept
    return memory

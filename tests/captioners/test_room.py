"""A cache with room for what a language model will write: transformers' values, without its copies."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache, Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import DynamicSlidingWindowLayer

from mmfeat.extract.chat.room import with_room

SHAPE = {
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "hidden_size": 8,
    "intermediate_size": 8, "vocab_size": 9,
}  # fmt: skip


MODEL = LlamaForCausalLM(LlamaConfig(**SHAPE))


def states(tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of three rows: ``[3, 1, tokens, 4]`` each."""
    return torch.randn(3, 1, tokens, 4), torch.randn(3, 1, tokens, 4)


@given(steps=st.lists(st.integers(1, 150), min_size=1, max_size=8))
@settings(deadline=None)
def test_it_returns_what_transformers_own_cache_returns_also_beyond_its_room(steps):
    ours, theirs = with_room(MODEL)["cache"], DynamicCache(config=MODEL.config)
    for tokens in steps:
        for layer in range(2):
            given_states = states(tokens)
            found, expected = (cache.update(*given_states, layer) for cache in (ours, theirs))
            assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert ours.get_seq_length() == theirs.get_seq_length() == sum(steps)
    assert ours.get_mask_sizes(1, 0) == theirs.get_mask_sizes(1, 0)


def test_a_written_token_copies_none_of_those_before_it():
    cache = with_room(MODEL)["cache"]
    places = {tuple(t.data_ptr() for t in cache.update(*states(n), 0)) for n in (30, *[1] * 100)}
    assert len(places) == 1


def test_sliding_windows_keep_the_layers_that_transformers_gives_them():
    config = Gemma3TextConfig(**SHAPE, sliding_window=4, layer_types=["sliding_attention", "full_attention"])
    first, second = with_room(Gemma3ForCausalLM(config))["cache"].layers
    assert type(first) is DynamicSlidingWindowLayer
    assert not isinstance(second, DynamicSlidingWindowLayer)

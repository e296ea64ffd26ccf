"""Tokens for the tiny models that write: a tokenizer, and questions with their answers as a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def byte_pairs(said: Sequence[str], special: Sequence[str], **names: Any):
    """A byte-level BPE of a few hundred tokens, trained on what is said; padding is ``<|endoftext|>``.

    Args:
        special: tokens of the model's own, the first ids.
        names: what transformers' tokenizer is told of them, such as ``eos_token``.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(said, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        model_max_length=4096,
        **names,
    )


def padded(rows: list[list[int]], starts: list[int], pad: int) -> dict[str, torch.Tensor]:
    """Token ids, attention mask and labels (the answers alone, from their starts on), padded on the right."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad)
    labels = torch.full((len(rows), longest), -100)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
        ids[i, : len(row)] = torch.tensor(row)
        labels[i, start : len(row)] = torch.tensor(row[start:])
        mask[i, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}

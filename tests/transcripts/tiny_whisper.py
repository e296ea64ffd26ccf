"""A folder with a Whisper of random weights, of two languages, and a tokenizer of single bytes."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

LANGUAGES = ("en", "de")
_SPECIAL = (
    "<|endoftext|>", "<|startoftranscript|>", *(f"<|{one}|>" for one in LANGUAGES), "<|translate|>",
    "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip
_TIMES = tuple(f"<|{0.02 * n:.2f}|>" for n in range(1501))


def write(folder: Path, seed: int = 0) -> Path:
    tokenizer = _tokenizer()
    number = tokenizer.convert_tokens_to_ids
    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, init_std=0.6,
        bos_token_id=number("<|endoftext|>"), eos_token_id=number("<|endoftext|>"),
        pad_token_id=number("<|endoftext|>"), decoder_start_token_id=number("<|startoftranscript|>"),
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id,
        decoder_start_token_id=config.decoder_start_token_id, max_length=448, is_multilingual=True,
        lang_to_id={f"<|{one}|>": number(f"<|{one}|>") for one in LANGUAGES},
        task_to_id={task: number(f"<|{task}|>") for task in ("translate", "transcribe")},
        no_timestamps_token_id=number("<|notimestamps|>"), max_initial_timestamp_index=50,
        prev_sot_token_id=number("<|startofprev|>"), return_timestamps=False,
        suppress_tokens=_not_letters(tokenizer), begin_suppress_tokens=[],
    )  # fmt: skip
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)
    return folder


def _not_letters(tokenizer: WhisperTokenizer) -> list[int]:
    """Single bytes that are no text by themselves."""
    vocabulary = tokenizer.get_vocab()
    return sorted(n for token, n in vocabulary.items() if len(token) == 1 and not token.isascii())


def _tokenizer() -> WhisperTokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True) for token in _SPECIAL])
    made.add_tokens([AddedToken(token) for token in _TIMES])
    return WhisperTokenizer(tokenizer_object=made)

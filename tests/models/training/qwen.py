"""What the tiny models of Qwen's kinds share: their tokens, their language model, and questions to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from training.shared import save_folder
from training.words import byte_pairs, padded

# The tokens of Qwen's models: for sound, and for video.
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|audio_bos|>",
    "<|AUDIO|>",
    "<|audio_eos|>",
    "<|vision_start|>",
    "<|video_pad|>",
    "<|image_pad|>",
    "<|vision_end|>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WIDTH = 64
TEXT = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
FILLERS = (
    "Say only what can be told.",
    "The title is: lantern soup for two.",
    "Use plain words, one to three sentences.",
    "This item is sold as: steel kettle, 1.5 l, new (2024).",
)


def tokenizer_for(captions: Sequence[str], openings: Sequence[str]):
    """Trained on what is said and asked of a model."""
    said = [*captions, "<|im_start|>user\n", "<|im_start|>assistant\n", *(openings + FILLERS) * 5]
    return byte_pairs(said, SPECIAL, eos_token="<|im_end|>")


def ids_for(tokenizer) -> dict[str, int]:
    """The ids that end a text and fill a row, as a configuration names them."""
    return {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}


def questions(
    tokenizer,
    shown: Sequence[str],
    answers: Sequence[str],
    openings: Sequence[str],
    rng: np.random.Generator,
) -> dict[str, torch.Tensor]:
    """Token ids, attention mask and labels: of what is shown its tokens, a prompt, and the answer."""
    rows, starts = [], []
    # One for all: they have like lengths then.
    opening = str(rng.choice(openings))
    for tokens, answer in zip(shown, answers, strict=True):
        words = [opening, *rng.choice(FILLERS, int(rng.integers(0, 3)), replace=False)]
        question = f"<|im_start|>user\n{tokens}{' '.join(words)}<|im_end|>\n<|im_start|>assistant\n"
        asked = tokenizer(question)["input_ids"]
        starts.append(len(asked))
        rows.append(asked + tokenizer(f"{answer}<|im_end|>")["input_ids"])
    return padded(rows, starts, tokenizer.pad_token_id)


def save(model, processor, out: Path) -> None:
    """With the ids that end a text, by which a model is asked."""
    from transformers import GenerationConfig

    tokenizer = processor.tokenizer
    model.generation_config = GenerationConfig(**ids_for(tokenizer))
    save_folder(model, out)
    processor.save_pretrained(out)

"""Tiny random models of texts as sentence-transformers saves them."""

from pathlib import Path
from typing import Any

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from helpers.sentence_models import word_tokenizer

WORDS = ["a", "red", "blue", "shoe", "hat", "of", "wool", "warm", "in", "any", "winter"]
_SHAPE = {"num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 32, "pad_token_id": 1}
_TINY = {**_SHAPE, "hidden_size": 32, "intermediate_size": 64}
_ENDS = {"bos_token_id": 0, "eos_token_id": 1}
_GROUPED = {**_TINY, **_ENDS, "num_key_value_heads": 1, "head_dim": 16}

#: Model of transformers, its configuration, and how its tokens are pooled.
FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "BERT": ("BertModel", {**_TINY, "max_position_embeddings": 40}, "mean"),
    "XLM-RoBERTa": ("XLMRobertaModel", {**_TINY, **_ENDS, "max_position_embeddings": 40}, "cls"),
    "MPNet": ("MPNetModel", {**_TINY, **_ENDS, "max_position_embeddings": 40}, "mean"),
    "DistilBERT": (
        "DistilBertModel",
        {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2, "vocab_size": 32, "pad_token_id": 1},
        "mean",
    ),
    "ModernBERT": (
        "ModernBertModel",
        {**_TINY, **_ENDS, "cls_token_id": 0, "sep_token_id": 1, "max_position_embeddings": 40},
        "cls",
    ),
    "Qwen2": ("Qwen2Model", _GROUPED, "lasttoken"),
    "Qwen3": ("Qwen3Model", _GROUPED, "lasttoken"),
    "Gemma 3": ("Gemma3TextModel", {**_GROUPED, "use_bidirectional_attention": True}, "mean"),
}


def family(name: str, place: Path) -> Path:
    """A folder with a random model of a family."""
    model, config, pooling = FAMILIES[name]
    kind = getattr(transformers, model)
    plain = place.with_name(f"{place.name}-plain")
    torch.manual_seed(3)
    kind(kind.config_class(**config)).save_pretrained(plain)
    word_tokenizer(WORDS).save_pretrained(plain)
    modules = [Transformer(str(plain)), Pooling(32, pooling), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(place))
    return place

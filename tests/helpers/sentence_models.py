"""Tiny random models of sentence-transformers that take more than texts, or give a vector to every token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as t
from PIL import Image
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers

from helpers import sound_models, tiny_listeners
from mmfeat.extract.base import Row
from mmfeat.extract.clips import metadata
from mmfeat.schemas.media import Frames, Pictures
from mmfeat.schemas.sound import Sound

PROMPTS = {"query": "Find what is asked for.", "document": "Represent the item.", "sts": "Say what is alike."}


def chat(kind: str, place: Path, pooling: str = "lasttoken", **about: Any) -> Path:
    """A chat model of ``tiny_listeners`` as an embedder."""
    plain = place.with_name(f"{place.name}-plain")
    getattr(tiny_listeners, kind)(plain)
    modules = [Transformer(str(plain)), Pooling(32, pooling), Normalize()]
    SentenceTransformer(modules=modules, device="cpu", **{"prompts": PROMPTS, **about}).save(str(place))
    return place


def clip(place: Path) -> Path:
    """CLIP, whose texts and pictures have no message together."""
    plain = place.with_name(f"{place.name}-plain")
    tokenizer = word_tokenizer(["a", "red", "blue", "shoe", "hat"])
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**shape, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": 1}
    vision = {**shape, "image_size": 32, "patch_size": 8}
    images = t.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    torch.manual_seed(2)
    config = t.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    t.CLIPModel(config).save_pretrained(plain)
    t.CLIPProcessor(images, tokenizer).save_pretrained(plain)
    SentenceTransformer(modules=[Transformer(str(plain)), Normalize()], device="cpu").save(str(place))
    return place


def word_tokenizer(known: Sequence[str]) -> Any:
    """A tokenizer of 16 whole words at most."""
    words = _words(known, {"<|startoftext|>": 0, "<|endoftext|>": 1})
    return t.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<|endoftext|>", eos_token="<|endoftext|>", model_max_length=16
    )


def clap(place: Path) -> Path:
    """CLAP of 24 numbers, whose texts and sounds have no message together."""
    plain = sound_models.clap(place.with_name(f"{place.name}-plain"))
    SentenceTransformer(modules=[Transformer(str(plain)), Normalize()], device="cpu").save(str(place))
    return place


def colqwen(place: Path) -> Path:
    """ColQwen2 of 16 numbers: a vector for every patch of a picture and every token of a question."""
    plain = place.with_name(f"{place.name}-plain")
    tiny_listeners.colqwen2(plain)
    modules = [Transformer(str(plain), transformer_task="retrieval"), MultiVectorMask()]
    MultiVectorEncoder(modules=modules, device="cpu").save(str(place))
    return place


def colbert(sentences: Path, place: Path) -> Path:
    """A model of the ColBERT kind, from a folder of a sentence model; it leaves punctuation out."""
    torch.manual_seed(3)
    dense = Dense(32, 16, bias=False, activation_function=torch.nn.Identity(),
                  module_input_name="token_embeddings", module_output_name="token_embeddings")  # fmt: skip
    unit = Normalize(module_input_name="token_embeddings")
    modules = [Transformer(str(sentences)), dense, MultiVectorMask(skiplist_words=[",", "."]), unit]
    prompts = {"query": "asked: ", "document": "found: "}
    MultiVectorEncoder(modules=modules, device="cpu", prompts=prompts).save(str(place))
    return place


def theirs(values: Row, rate: int = 16_000) -> list[dict[str, Any]]:
    """A row as a chat message in sentence-transformers' own words."""
    content = [part for value in values for part in _content(value, rate)]
    return [{"role": "user", "content": content}]


def told(clips: Sequence[Frames]) -> dict[str, Any]:
    """What sentence-transformers' processor is told of clips whose frames are chosen."""
    about = {"do_sample_frames": False, "input_data_format": "channels_last"}
    return {"video": {**about, "video_metadata": [metadata(one) for one in clips]}} if clips else {}


def picture(seed: int, height: int = 40, width: int = 56) -> np.ndarray:
    """uint8 ``[height, width, 3]`` blocks of colours."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.ascontiguousarray(blocks[np.arange(height) * 4 // height][:, np.arange(width) * 4 // width])


def moving(seed: int, frames: int) -> Frames:
    """A clip of so many frames, one every half a second."""
    return Frames(np.stack([picture(seed + n) for n in range(frames)]), tuple(n / 2 for n in range(frames)))


def tone(pitch: int, seconds: float, rate: int = 16_000) -> Sound:
    """One window of a tone."""
    time = np.arange(round(seconds * rate)) / rate
    samples = (0.5 * np.sin(2 * np.pi * pitch * time)).astype(np.float32)
    return Sound(samples, rate, ((0.0, seconds, len(samples)),), 0.35)


def _content(value: Any, rate: int) -> list[dict[str, Any]]:
    if isinstance(value, Pictures):
        return [{"type": "image", "image": Image.fromarray(one)} for one in value.pixels]
    if isinstance(value, Frames) and len(value.times) == 1:
        return [{"type": "image", "image": Image.fromarray(value.pixels[0])}]
    if isinstance(value, Frames):
        return [{"type": "video", "video": value.pixels}]
    if isinstance(value, Sound):
        return [{"type": "audio", "audio": one} for one in value.parts]
    return [] if value is None else [{"type": "text", "text": value}]


def _words(known: Sequence[str], special: dict[str, int]) -> Tokenizer:
    """A tokenizer of whole words, which stand between the two special ones."""
    from tokenizers.processors import TemplateProcessing

    start, end = special
    vocabulary = {**special, "<unk>": 2, **{word: 3 + n for n, word in enumerate(known)}}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, special[start]), (end, special[end])]
    )
    return words

"""Tiny models with random weights that see video and hear sound, as their makers publish them: in folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as t
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

#: Seconds that the tiny models hear at once; Whisper's extractor, which they have, makes 100 frames of one.
HEARD_SECONDS = 2
_FRAMES = 100 * HEARD_SECONDS
_MEL = 8
_TEXT = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 4096, "initializer_range": 0.3,
    "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
_ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
_QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_VISION_TOKENS = {
    "image_token": "<|image_pad|>", "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>", "vision_end_token": "<|vision_end|>",
}  # fmt: skip
_AUDIO_TOKENS = {
    "audio_token": "<|AUDIO|>", "audio_bos_token": "<|audio_bos|>", "audio_eos_token": "<|audio_eos|>",
}  # fmt: skip


_OMNI_TOKENS = {
    "image_token": "<|image_pad|>", "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>", "vision_eos_token": "<|vision_end|>", **_AUDIO_TOKENS,
}  # fmt: skip
_VISION = {
    "depth": 1, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 32,
    "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
}  # fmt: skip
_QWEN2_VISION = {
    "depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14,
    "spatial_merge_size": 2, "temporal_patch_size": 2,
}  # fmt: skip


def qwen2_audio(folder: Path) -> None:
    """Hears windows of sound."""
    tokenizer = _tokenizer(_AUDIO_TOKENS)
    extractor = _extractor()
    text = t.Qwen2Config(vocab_size=len(tokenizer), **_TEXT)
    audio = t.Qwen2AudioEncoderConfig(
        num_mel_bins=_MEL, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32, d_model=16,
        max_source_positions=_FRAMES // 2, init_std=0.3,
    )  # fmt: skip
    config = t.Qwen2AudioConfig(
        audio_config=audio, text_config=text, audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>")
    )
    processor = t.Qwen2AudioProcessor(extractor, tokenizer, chat_template=_QWEN_TEMPLATE)
    _save(folder, processor, lambda: t.Qwen2AudioForConditionalGeneration(config))


def audio_flamingo(folder: Path) -> None:
    """Hears windows of sound, each padded to as much as it takes at once."""
    tokenizer = _tokenizer({"audio_token": "<sound>"})
    audio = {
        "num_mel_bins": _MEL, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
        "hidden_size": 16, "max_source_positions": _FRAMES // 2,
    }  # fmt: skip
    config = t.AudioFlamingo3Config(
        audio_config=audio, text_config={"model_type": "qwen2", **_TEXT, "vocab_size": len(tokenizer)},
        audio_token_id=tokenizer.convert_tokens_to_ids("<sound>"),
    )  # fmt: skip
    template = _QWEN_TEMPLATE.replace("<|audio_bos|><|AUDIO|><|audio_eos|>", "<sound>")
    processor = t.AudioFlamingo3Processor(_extractor(), tokenizer, chat_template=template)
    _save(folder, processor, lambda: t.AudioFlamingo3ForConditionalGeneration(config))


def qwen2_5_omni(folder: Path) -> None:
    """Sees video and hears sound, inside the video too; without the parts that speak."""
    tokenizer = _tokenizer(_OMNI_TOKENS)
    of = tokenizer.convert_tokens_to_ids
    vision = {**_VISION, "fullatt_block_indexes": [0], "window_size": 56}
    ids = {"image_token_index": of("<|image_pad|>"), "video_token_index": of("<|video_pad|>"),
           "audio_token_index": of("<|AUDIO|>")}  # fmt: skip
    config = t.Qwen2_5OmniThinkerConfig(**_omni(tokenizer, vision), **ids)
    processor = t.Qwen2_5OmniProcessor(*_qwen_pixels(), _extractor(), tokenizer, chat_template=_QWEN_TEMPLATE)
    _save(folder, processor, lambda: t.Qwen2_5OmniThinkerForConditionalGeneration(config))


def qwen2_5_omni_that_speaks(folder: Path) -> None:
    """The same model as its makers publish it: what it writes with, and beside that what it speaks with."""
    qwen2_5_omni(folder)
    thinker = t.Qwen2_5OmniThinkerConfig.from_pretrained(folder).to_dict()
    t.Qwen2_5OmniConfig(thinker_config=thinker).save_pretrained(folder)
    written = {f"thinker.{name}": weight for name, weight in load_file(folder / "model.safetensors").items()}
    spoken = {"talker.model.layers.0.self_attn.q_proj.weight": torch.zeros(2, 2)}
    save_file(written | spoken, folder / "model.safetensors", metadata={"format": "pt"})


def qwen3_omni(folder: Path) -> None:
    """As Qwen2.5-Omni, with experts."""
    tokenizer = _tokenizer(_OMNI_TOKENS)
    of = tokenizer.convert_tokens_to_ids
    told = _omni(tokenizer, {**_VISION, "deepstack_visual_indexes": [0], "num_position_embeddings": 64})
    told["text_config"] |= {
        "moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2, "head_dim": 8,
    }  # fmt: skip
    told["audio_config"] |= {"downsample_hidden_size": 8, "n_window_infer": 400}
    ids = {"image_token_id": of("<|image_pad|>"), "video_token_id": of("<|video_pad|>"),
           "audio_token_id": of("<|AUDIO|>")}  # fmt: skip
    config = t.Qwen3OmniMoeThinkerConfig(**told, **ids)
    processor = t.Qwen3OmniMoeProcessor(
        *_qwen_pixels(), _extractor(), tokenizer, chat_template=_QWEN_TEMPLATE
    )
    _save(folder, processor, lambda: t.Qwen3OmniMoeThinkerForConditionalGeneration(config))


def qwen2_vl(folder: Path) -> None:
    """Sees pictures and video."""
    tokenizer = _tokenizer(_VISION_TOKENS)
    config = t.Qwen2VLConfig(vision_config=_QWEN2_VISION, **_qwen_vl(tokenizer))
    images, videos = _qwen_pixels()
    processor = t.Qwen2VLProcessor(images, tokenizer, videos, chat_template=_QWEN_TEMPLATE)
    _save(folder, processor, lambda: t.Qwen2VLForConditionalGeneration(config))


def qwen2_5_vl(folder: Path) -> None:
    """Sees pictures and video."""
    tokenizer = _tokenizer(_VISION_TOKENS)
    vision = {**_VISION, "fullatt_block_indexes": [0], "window_size": 56}
    config = t.Qwen2_5_VLConfig(vision_config=vision, **_qwen_vl(tokenizer))
    images, videos = _qwen_pixels()
    processor = t.Qwen2_5_VLProcessor(images, tokenizer, videos, chat_template=_QWEN_TEMPLATE)
    _save(folder, processor, lambda: t.Qwen2_5_VLForConditionalGeneration(config))


def colqwen2(folder: Path) -> None:
    """Sees one picture or reads one question, and gives a vector of 16 numbers to each of its tokens."""
    tokenizer = _tokenizer(_VISION_TOKENS)
    sees = t.Qwen2VLConfig(vision_config=_QWEN2_VISION, **_qwen_vl(tokenizer))
    config = t.ColQwen2Config(vlm_config=sees.to_dict(), embedding_dim=16)
    images, _ = _qwen_pixels()
    processor = t.ColQwen2Processor(images, tokenizer)
    _save(folder, processor, lambda: t.ColQwen2ForRetrieval(config))


def qwen3_vl(folder: Path) -> None:
    """Sees pictures and video, and writes when each frame is shown."""
    tokenizer = _tokenizer(_VISION_TOKENS)
    vision = {**_VISION, "deepstack_visual_indexes": [0], "num_position_embeddings": 64}
    told = _qwen_vl(tokenizer)
    told["text_config"]["head_dim"] = 8
    config = t.Qwen3VLConfig(vision_config=vision, **told)
    images, _ = _qwen_pixels()
    videos = t.Qwen3VLVideoProcessor(
        patch_size=14, size={"shortest_edge": 28 * 28, "longest_edge": 64 * 28 * 28}
    )
    processor = t.Qwen3VLProcessor(images, tokenizer, videos, chat_template=_QWEN_TEMPLATE)
    _save(folder, processor, lambda: t.Qwen3VLForConditionalGeneration(config))


def smolvlm(folder: Path) -> None:
    """Sees pictures and video, and writes how many frames there are and when each is shown."""
    tokens = {
        "image_token": "<image>", "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>", "end_of_utterance_token": "<end_of_utterance>",
        "video_token": "<video>",
    }  # fmt: skip
    tokenizer = _tokenizer(tokens)
    side = 32
    config = t.SmolVLMConfig(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"), scale_factor=2, pad_token_id=0,
        vision_config={
            "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": side, "patch_size": 8,
        },
        text_config={"model_type": "llama", **_TEXT, "vocab_size": len(tokenizer)},
    )  # fmt: skip
    size = {"longest_edge": side}
    images = t.SmolVLMImageProcessor(size=size, max_image_size=size, do_image_splitting=False)
    videos = t.SmolVLMVideoProcessor(size=size, max_image_size=size, num_frames=64, fps=1)
    processor = t.SmolVLMProcessor(images, tokenizer, videos, image_seq_len=4, chat_template=_SMOL_TEMPLATE)
    _save(folder, processor, lambda: t.SmolVLMForConditionalGeneration(config))


def llava_next(folder: Path) -> None:
    """Sees pictures, each cut into tiles beside the whole; its texts begin with a token of their own."""
    tokenizer = _tokenizer({"image_token": "<image>"}, begins=True)
    side, patch = 28, 14
    vision = {
        "model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": side, "patch_size": patch, "projection_dim": 16,
    }  # fmt: skip
    grid = [[side, 2 * side], [2 * side, side], [2 * side, 2 * side]]
    config = t.LlavaNextConfig(
        vision_config=vision, text_config={"model_type": "llama", **_TEXT, "vocab_size": len(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), image_grid_pinpoints=grid,
        vision_feature_layer=-2,
    )  # fmt: skip
    images = t.LlavaNextImageProcessor(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}, image_grid_pinpoints=grid
    )
    processor = t.LlavaNextProcessor(
        images, tokenizer, patch_size=patch, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )  # fmt: skip
    _save(folder, processor, lambda: t.LlavaNextForConditionalGeneration(config))


def llama(folder: Path) -> None:
    """Reads texts, which begin with a token of their own; it has no chat template and no padding."""
    tokenizer = _tokenizer({}, begins=True)
    tokenizer.pad_token = None
    config = t.LlamaConfig(vocab_size=len(tokenizer), **_TEXT)
    _save(folder, tokenizer, lambda: t.LlamaForCausalLM(config))


def qwen3(folder: Path) -> None:
    """Reads texts, by a chat template."""
    tokenizer = _tokenizer({})
    tokenizer.chat_template = _TEXTS_TEMPLATE
    config = t.Qwen3Config(vocab_size=len(tokenizer), head_dim=8, **_TEXT)
    _save(folder, tokenizer, lambda: t.Qwen3ForCausalLM(config))


_TEXTS_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SMOL_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% elif part['type'] == 'image' %}<image>"
    "{% elif part['type'] == 'video' %}<video>{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def _omni(tokenizer: Any, vision: dict[str, Any]) -> dict[str, Any]:
    of = tokenizer.convert_tokens_to_ids
    return {
        "text_config": {**_TEXT, "vocab_size": len(tokenizer), "rope_parameters": _ROPE},
        "audio_config": {
            "num_mel_bins": _MEL, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32,
            "d_model": 16, "n_window": 50, "output_dim": 32, "max_source_positions": _FRAMES // 2,
        },
        "vision_config": vision,
        "vision_start_token_id": of("<|vision_start|>"), "vision_end_token_id": of("<|vision_end|>"),
        "audio_start_token_id": of("<|audio_bos|>"), "audio_end_token_id": of("<|audio_eos|>"),
        "initializer_range": 0.3, "pad_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip


def _qwen_vl(tokenizer: Any) -> dict[str, Any]:
    of = tokenizer.convert_tokens_to_ids
    return {
        "text_config": {**_TEXT, "vocab_size": len(tokenizer), "rope_parameters": _ROPE},
        "image_token_id": of("<|image_pad|>"), "video_token_id": of("<|video_pad|>"),
        "vision_start_token_id": of("<|vision_start|>"), "vision_end_token_id": of("<|vision_end|>"),
    }  # fmt: skip


def _qwen_pixels() -> tuple[Any, Any]:
    """The same bounds for pictures and for videos, so that their tokens can be compared."""
    size = {"shortest_edge": 28 * 28, "longest_edge": 64 * 28 * 28}
    return t.Qwen2VLImageProcessor(size=size), t.Qwen2VLVideoProcessor(size=size)


def _extractor() -> Any:
    return t.WhisperFeatureExtractor(feature_size=_MEL, sampling_rate=16_000, chunk_length=HEARD_SECONDS)


def _tokenizer(tokens: dict[str, str], begins: bool = False) -> Any:
    """Of bytes and a model's own tokens; ``begins`` puts one before every text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = ["<|endoftext|>", "<|im_end|>", "<|im_start|>"]
    vocabulary = {token: number for number, token in enumerate([*names, *letters])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    if begins:
        raw.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", special_tokens=[("<|im_start|>", 2)]
        )
    tokenizer = t.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>", extra_special_tokens=tokens
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    return tokenizer


def _save(folder: Path, processor: Any, make: Callable[[], Any]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make().eval().save_pretrained(folder)
    processor.save_pretrained(folder)

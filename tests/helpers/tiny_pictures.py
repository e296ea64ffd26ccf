"""Tiny random image models of transformers in folders as the hub has them, and their vectors upstream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

SIDE = 32
_SQUARE = {"height": SIDE, "width": SIDE}
_LARGER = {"height": 36, "width": 36}
_TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": SIDE,
    "patch_size": 8,
}
_TOWER = {**_TINY, "projection_dim": 16}
_PATCHES = {name: value for name, value in _TINY.items() if name != "image_size"} | {"num_patches": 16}
_WORDS = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
    "vocab_size": 64, "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
    "sep_token_id": 1,
}  # fmt: skip
_TIPS = {name: value for name, value in _TINY.items() if name != "intermediate_size"} | {"mlp_ratio": 2}
_NARROW = {"width_coefficient": 0.5, "depth_coefficient": 0.3, "hidden_dim": 640}
_SEES_LANGUAGE = {
    "vision_config": _TINY,
    "qformer_config": {**_WORDS, "encoder_hidden_size": 32},
    "text_config": {"model_type": "opt", **_WORDS, "ffn_dim": 64, "word_embed_proj_dim": 32},
}
_SEGMENTS = {
    "vision_config": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64,
        "patch_size": 8, "mlp_dim": 64, "output_channels": 16, "global_attn_indexes": [1], "window_size": 4,
        "num_pos_feats": 8,
    },
    "prompt_encoder_config": {"hidden_size": 16, "image_size": 64, "patch_size": 8},
    "mask_decoder_config": {
        "hidden_size": 16, "num_attention_heads": 2, "mlp_dim": 32, "iou_head_hidden_dim": 16,
    },
}  # fmt: skip
_CROPPED = {"size": {"shortest_edge": SIDE}, "crop_size": _SQUARE}
_CROPPED_MORE = {"size": {"shortest_edge": 40}, "crop_size": _SQUARE}
_SQUASHED = {"size": _SQUARE, "crop_size": _SQUARE}
_SQUASHED_AND_CROPPED = {"size": _LARGER, "crop_size": _SQUARE, "do_center_crop": True}
_STAGES = {"hidden_sizes": [8, 12, 16, 32], "depths": [1, 1, 1, 1]}
_SWIN = {
    "image_size": SIDE,
    "patch_size": 4,
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [1, 2],
    "window_size": 4,
}


@dataclass(frozen=True)
class Family:
    """A kind of models.

    Attributes:
        model, processor: the classes of transformers.
        config: of the model.
        shown: of the processor.
        pooling: what the ``default`` of mmfeat's encoder turns into.
        own: whether pictures go through the processor, as no view of ours expresses it.
    """

    model: str
    config: dict[str, Any]
    processor: str
    shown: dict[str, Any]
    pooling: str
    own: bool = False


FAMILIES = {
    # Of pictures and texts, of which the image tower is read
    "CLIP": Family(
        "CLIPModel",
        {"vision_config": _TOWER, "text_config": _TOWER},
        "CLIPImageProcessor",
        _CROPPED,
        "default",
    ),
    "SigLIP": Family(
        "SiglipModel",
        {"vision_config": _TINY, "text_config": _TINY},
        "SiglipImageProcessor",
        _SQUASHED,
        "attention",
    ),
    "SigLIP 2 NaFlex": Family(
        "Siglip2Model",
        {"vision_config": _PATCHES, "text_config": _WORDS},
        "Siglip2ImageProcessor",
        {"patch_size": 8, "max_num_patches": 24},
        "attention",
        own=True,
    ),
    "Chinese-CLIP": Family(
        "ChineseCLIPModel",
        {"vision_config": _TOWER, "text_config": _WORDS, "projection_dim": 16},
        "ChineseCLIPImageProcessor",
        _CROPPED_MORE,
        "default",
    ),
    "MetaCLIP 2": Family(
        "MetaClip2Model",
        {"vision_config": _TOWER, "text_config": _WORDS, "projection_dim": 16},
        "CLIPImageProcessor",
        _CROPPED,
        "default",
    ),
    "AltCLIP": Family(
        "AltCLIPModel",
        {"vision_config": _TOWER, "text_config": {**_WORDS, "project_dim": 32}, "projection_dim": 16},
        "CLIPImageProcessor",
        _CROPPED,
        "default",
    ),
    "AIMv2": Family(
        "Aimv2Model",
        {"vision_config": _TINY, "text_config": _WORDS, "projection_dim": 16},
        "CLIPImageProcessor",
        _CROPPED,
        "attention",
    ),
    "TIPSv2": Family(
        "Tipsv2Model",
        {"vision_config": _TIPS, "text_config": _WORDS},
        "Tipsv2ImageProcessor",
        {"size": _SQUARE},
        "default",
        own=True,
    ),
    "BLIP": Family(
        "BlipModel",
        {"vision_config": _TINY, "text_config": {**_WORDS, "encoder_hidden_size": 32}},
        "BlipImageProcessor",
        {"size": _SQUARE},
        "default",
    ),
    "BLIP-2": Family("Blip2Model", _SEES_LANGUAGE, "BlipImageProcessor", {"size": _SQUARE}, "default"),
    "ALIGN": Family(
        "AlignModel",
        {"vision_config": {"image_size": SIDE, **_NARROW}, "text_config": _WORDS, "projection_dim": 16},
        "EfficientNetImageProcessor",
        {**_SQUASHED_AND_CROPPED, "rescale_offset": True, "rescale_factor": 1 / 127.5, "do_normalize": False},
        "default",
        own=True,
    ),
    # Of pictures
    "ViT": Family("ViTModel", _TINY, "ViTImageProcessor", {"size": _SQUARE}, "cls"),
    "BEiT": Family("BeitModel", _TINY, "BeitImageProcessor", _SQUASHED, "default"),
    "DeiT": Family("DeiTModel", _TINY, "DeiTImageProcessor", _SQUASHED_AND_CROPPED, "cls", own=True),
    "DINOv2": Family("Dinov2Model", _TINY, "BitImageProcessor", _CROPPED_MORE, "default"),
    "DINOv2 with registers": Family(
        "Dinov2WithRegistersModel", _TINY, "BitImageProcessor", _CROPPED_MORE, "default"
    ),
    "DINOv3": Family(
        "DINOv3ViTModel",
        {**_TINY, "num_register_tokens": 4},
        "DINOv3ViTImageProcessor",
        {"size": _SQUARE},
        "default",
        own=True,
    ),
    "DINOv3 ConvNeXt": Family(
        "DINOv3ConvNextModel", _STAGES, "DINOv3ViTImageProcessor", {"size": _SQUARE}, "default", own=True
    ),
    "ConvNeXt": Family("ConvNextModel", _STAGES, "ConvNextImageProcessor", _CROPPED, "default"),
    "ConvNeXt V2": Family("ConvNextV2Model", _STAGES, "ConvNextImageProcessor", _CROPPED, "default"),
    "Swin": Family("SwinModel", _SWIN, "ViTImageProcessor", {"size": _SQUARE}, "default"),
    "ResNet": Family(
        "ResNetModel",
        {**_STAGES, "embedding_size": 8, "layer_type": "basic"},
        "ConvNextImageProcessor",
        _CROPPED,
        "default",
    ),
    "EfficientNet": Family(
        "EfficientNetModel",
        {"image_size": SIDE, **_NARROW},
        "EfficientNetImageProcessor",
        {"size": _LARGER},
        "default",
        own=True,
    ),
    "MobileNetV2": Family(
        "MobileNetV2Model", {"depth_multiplier": 0.25}, "MobileNetV2ImageProcessor", _CROPPED_MORE, "default"
    ),
    "SAM": Family(
        "SamModel",
        _SEGMENTS,
        "SamImageProcessor",
        {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}},
        "mean",
        own=True,
    ),
}


def family(name: str, place: Path) -> Path:
    """A folder with a random model of a family."""
    known = FAMILIES[name]
    kind = getattr(transformers, known.model)
    torch.manual_seed(3)
    kind(kind.config_class(**known.config)).save_pretrained(place)
    getattr(transformers, known.processor)(**known.shown).save_pretrained(place)
    return place


def theirs(name: str, place: Path, images: Sequence[Image.Image]) -> np.ndarray:
    """The vectors of pictures by the classes of transformers, picture by picture."""
    known = FAMILIES[name]
    processor = transformers.AutoImageProcessor.from_pretrained(place)
    model = getattr(transformers, known.model).from_pretrained(place).eval()
    tower = getattr(model, "vision_model", getattr(model, "vision_encoder", model))
    with torch.inference_mode():
        return np.concatenate([_vector(known, tower, processor, image).numpy() for image in images])


def _vector(known: Family, tower: Any, processor: Any, image: Image.Image) -> torch.Tensor:
    inputs = processor(image, return_tensors="pt")
    # Sizes of pictures, for what makes masks of the tower's output.
    outputs = tower(**{name: value for name, value in inputs.items() if not name.endswith("sizes")})
    if known.pooling == "cls":
        return outputs.last_hidden_state[:, 0]
    if known.pooling == "mean":
        return outputs.last_hidden_state.flatten(2).mean(2)
    return outputs.pooler_output.flatten(1)

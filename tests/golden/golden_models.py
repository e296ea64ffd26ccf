"""The models of the frozen features: folders of this checkout, and a hub of models downloaded before.

Of the hub's models there are the configuration files alone, as far as resolving a feature reads them. The
commits are made up.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mmfeat.schemas.spec import FeatureConfig

HERE = Path(__file__).parent
#: What frozen features call folders, and where these are.
FOLDERS = {"{models}": HERE.parent / "models", "{prompts}": HERE / "prompts"}

_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
_HEARS = {"sampling_rate": 16_000, "chunk_length": 30, "n_samples": 480_000, "hop_length": 160}
_RESCALE = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}


def _dinov2(width: int, layers: int, heads: int) -> dict[str, Any]:
    shape = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    crop = {"do_center_crop": True, "crop_size": {"height": 224, "width": 224}, "do_convert_rgb": True}
    size = {"size": {"shortest_edge": 256}, "resample": 3}
    return {
        "config.json": {"model_type": "dinov2", "image_size": 518, "patch_size": 14, "mlp_ratio": 4, **shape},
        "preprocessor_config.json": {
            "image_processor_type": "BitImageProcessor",
            **_RESCALE,
            **_IMAGENET,
            **crop,
            **size,
        },
    }


def _vit() -> dict[str, Any]:
    shape = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    size = {"size": {"height": 224, "width": 224}, "resample": 2}
    return {
        "config.json": {"model_type": "vit", "image_size": 224, "patch_size": 16, **shape},
        "preprocessor_config.json": {
            "image_processor_type": "ViTImageProcessor",
            **_RESCALE,
            **_HALF,
            **size,
        },
    }


def _bert(width: int, layers: int, heads: int) -> dict[str, Any]:
    shape = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    return {"model_type": "bert", "max_position_embeddings": 512, "vocab_size": 30522, **shape}


def _sentences(config: dict[str, Any], mode: str, max_tokens: int, **prompts: Any) -> dict[str, Any]:
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    return {
        "config.json": config,
        "modules.json": [
            {"idx": k, "name": str(k), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for k, (path, kind) in enumerate(kinds.items())
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": config["hidden_size"],
            f"pooling_mode_{mode}": True,
        },
        "sentence_bert_config.json": {"max_seq_length": max_tokens, "do_lower_case": False},
        "tokenizer_config.json": {"model_max_length": 512},
        "config_sentence_transformers.json": {"prompts": {}, **prompts},
    }


def _whisper() -> dict[str, Any]:
    """Of large-v3-turbo."""
    shape = {"d_model": 1280, "encoder_layers": 32, "decoder_layers": 4, "num_mel_bins": 128}
    heads = {"encoder_attention_heads": 20, "decoder_attention_heads": 20, "vocab_size": 51866}
    return {
        "config.json": {"model_type": "whisper", **shape, **heads},
        "generation_config.json": {"is_multilingual": True, "lang_to_id": {"<|en|>": 50259, "<|de|>": 50261}},
        "preprocessor_config.json": {
            "feature_extractor_type": "WhisperFeatureExtractor",
            "feature_size": 128,
            **_HEARS,
        },
    }


def _qwen2_audio() -> dict[str, Any]:
    return {
        "config.json": {"model_type": "qwen2_audio"},
        "preprocessor_config.json": {
            "feature_extractor_type": "WhisperFeatureExtractor",
            "processor_class": "Qwen2AudioProcessor",
            "feature_size": 128,
            **_HEARS,
        },
    }


def _clap() -> dict[str, Any]:
    """Of larger_clap_general."""
    audio = {"enable_fusion": False, "num_mel_bins": 64, "spec_size": 256}
    return {
        "config.json": {"model_type": "clap", "projection_dim": 512, "audio_config": audio},
        "preprocessor_config.json": {
            "feature_extractor_type": "ClapFeatureExtractor",
            "sampling_rate": 48_000,
            "max_length_s": 10,
            "truncation": "rand_trunc",
            "padding": "repeatpad",
        },
    }


def _videomae() -> dict[str, Any]:
    size = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, "resample": 2}
    return {
        "config.json": {"model_type": "videomae", "num_frames": 16, "tubelet_size": 2, "image_size": 224},
        "preprocessor_config.json": {
            "image_processor_type": "VideoMAEImageProcessor",
            "do_center_crop": True,
            **_RESCALE,
            **_IMAGENET,
            **size,
        },
    }


def _open_clip() -> dict[str, Any]:
    vision = {"image_size": [224, 224], "layers": 12, "width": 768, "patch_size": 16}
    preprocess = {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    model = {"embed_dim": 768, "vision_cfg": vision, "text_cfg": {"context_length": 64, "vocab_size": 32000}}
    return {"open_clip_config.json": {"model_cfg": model, "preprocess_cfg": preprocess}}


#: Hub id to its files, JSON types.
MODELS: dict[str, dict[str, Any]] = {
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": {"config.json": {}},
    "laion/CLIP-ViT-L-14-laion2B-s32B-b82K": {"config.json": {}},
    "timm/resnet50.a1_in1k": {"config.json": {}},
    "example/ViT-B-16-SigLIP": _open_clip(),
    "facebook/dinov2-small": _dinov2(384, 12, 6),
    "facebook/dinov2-large": _dinov2(1024, 24, 16),
    "google/vit-base-patch16-224": _vit(),
    "google/vit-base-patch16-224-in21k": _vit(),
    "google-bert/bert-base-uncased": {
        "config.json": _bert(768, 12, 12),
        "tokenizer_config.json": {"model_max_length": 512},
    },
    "sentence-transformers/all-MiniLM-L6-v2": _sentences(_bert(384, 6, 12), "mean_tokens", 256),
    "BAAI/bge-large-en-v1.5": _sentences(_bert(1024, 24, 16), "cls_token", 512),
    "example/prompted-embedder": _sentences(
        _bert(384, 6, 12), "mean_tokens", 128, prompts={"query": "query: "}, default_prompt_name="query"
    ),
    "HuggingFaceTB/SmolVLM-256M-Instruct": {"config.json": {"model_type": "idefics3"}},
    "Qwen/Qwen2.5-VL-7B-Instruct": {"config.json": {"model_type": "qwen2_5_vl"}},
    "Qwen/Qwen2-Audio-7B-Instruct": _qwen2_audio(),
    "openai/whisper-large-v3-turbo": _whisper(),
    "laion/larger_clap_general": _clap(),
    "MCG-NJU/videomae-base": _videomae(),
}


def commit_of(model: str) -> str:
    """The commit of a model on this hub."""
    return hashlib.sha1(model.encode()).hexdigest()


@contextmanager
def golden_hub(cache: Path) -> Iterator[None]:
    """While this holds, these models lie in ``cache`` and nothing else is asked."""
    from huggingface_hub import constants

    for model, files in MODELS.items():
        place = cache / f"models--{model.replace('/', '--')}"
        for name, content in files.items():
            path = place / "snapshots" / commit_of(model) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
        (place / "refs").mkdir(exist_ok=True)
        (place / "refs" / "main").write_text(commit_of(model))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        yield


def placed(tables: dict[str, dict[str, Any]]) -> dict[str, FeatureConfig]:
    """Features as a job has them, with the folders of this checkout."""
    return {name: FeatureConfig(**{k: _at(v) for k, v in table.items()}) for name, table in tables.items()}


def _at(value: Any) -> Any:
    head, slash, rest = value.partition("/") if isinstance(value, str) else ("", "", "")
    return f"{FOLDERS[head]}/{rest}" if slash and head in FOLDERS else value

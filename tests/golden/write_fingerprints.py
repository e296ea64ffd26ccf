"""Writes ``fingerprints.json``: features as people write them, and what mmfeat made of them at format 1.

    PYTHONPATH=tests python tests/golden/write_fingerprints.py

A frozen fingerprint must stay: run this to add features, and look at the difference. ``stored`` of each spec
is the JSON that a store of format 1 keeps.
"""

from __future__ import annotations

import json
import re
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from golden_models import FOLDERS, commit_of, golden_hub, placed

from mmfeat import presets
from mmfeat.extract.registry import resolve_all
from mmfeat.schemas.spec import FeatureSpec, Prompt, Quantization, Weights

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BLOCK = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
Tables = dict[str, dict[str, Any]]

CLIP = {"encoder": "open_clip", "model": "{models}/tiny-clip"}
B32 = {"encoder": "open_clip", "model": "ViT-B-32", "weights": "laion2b_s34b_b79k"}
DINO = {"encoder": "transformers", "model": "{models}/tiny-dino"}
RESNET = {"encoder": "timm", "model": "resnet18", "weights": "random:0"}
LITE = {"encoder": "efficientnet_lite"}
MINILM = {"encoder": "sentence_transformers", "model": "all-MiniLM-L6-v2", "weights": "package"}
VLM = {"captioner": "transformers", "model": "{models}/tiny-vlm"}
SERVED = {"captioner": "openai", "model": "Qwen/Qwen2.5-VL-7B-Instruct"}
ENGINE = {"captioner": "vllm", "model": "Qwen/Qwen2.5-VL-7B-Instruct"}
SIGLIP = {"encoder": "open_clip", "model": "hf-hub:example/ViT-B-16-SigLIP"}
SENTENCES = {"encoder": "sentence_transformers"}
TAGS = {"captioner": "imagenet_tags"}

SAMPLINGS: Tables = {
    "default": {},
    "uniform": {"sampling": "uniform", "frames": 3},
    "middle": {"sampling": "middle", "frames": 4},
    "fps": {"sampling": "fps", "fps": 0.5, "frames": 20},
    "keyframes": {"sampling": "keyframes", "frames": 5},
    "scenes": {"sampling": "scenes"},
    "scenes_adaptive": {
        "sampling": "scenes", "scene_detector": "adaptive", "scene_threshold": 2.5, "min_scene_seconds": 0.0,
        "max_scenes": 4, "frames": 2,
    },
}  # fmt: skip
PICTURE_OPTIONS: Tables = {
    "plain": {},
    "squash": {"crop": "squash"},
    "pad": {"crop": "pad"},
    "center": {"crop": "center"},
    "scaled": {"jpeg": "scaled"},
    "bfloat16": {"dtype": "bfloat16"},
    "float16": {"dtype": "float16", "store_dtype": "float16"},
    "normalized": {"normalize": True},
    "long": {"normalize": False},
}
CHAT_OPTIONS: Tables = {
    "plain": {},
    "scaled": {"jpeg": "scaled", "max_side": 512},
    "warm": {"temperature": 0.7, "max_new_tokens": 33},
    "titled": {"prompt": "describe-titled"},
    "told": {"prompt": "{prompts}/told.toml"},
    "json": {"prompt": "tags"},
    "json_titled": {"prompt": "{prompts}/kind.toml"},
}
CLIP_CHAT_OPTIONS: Tables = {
    "video_plain": {},
    "video_paper": {"prompt": "paper", "frames": 16},
    "video_fps": {"sampling": "fps", "fps": 1.0, "prompt": "describe-titled"},
}
SCENE_CHAT_OPTIONS: Tables = {
    "scenes": {"sampling": "scenes"},
    "scenes_whole": {
        "sampling": "scenes", "frames": 2, "max_scenes": 8, "prompt": "describe-scene",
        "summary_prompt": "{prompts}/whole.toml",
    },
}  # fmt: skip


def pictures(base: dict[str, Any]) -> Tables:
    """An encoder of pictures with every option, of covers and of clips."""
    covers = {f"cover_{name}": {"source": "cover", **base, **more} for name, more in PICTURE_OPTIONS.items()}
    clips = {f"video_{name}": {"source": "video", **base, **more} for name, more in SAMPLINGS.items()}
    return covers | clips


def chat(base: dict[str, Any], scenes: bool = True) -> Tables:
    """A chat model with every option."""
    covers = {f"cover_{name}": {"source": "cover", **base, **more} for name, more in CHAT_OPTIONS.items()}
    clips = CLIP_CHAT_OPTIONS | (SCENE_CHAT_OPTIONS if scenes else {})
    return covers | {name: {"source": "video", **base, **more} for name, more in clips.items()}


def texts(base: dict[str, Any], *, sentences: bool = True) -> Tables:
    """An encoder of texts: titles, descriptions, a captioner's text, tags."""
    more: Tables = {
        "long": {"normalize": False, "store_dtype": "float16"},
        "bfloat16": {"dtype": "bfloat16"},
        **({"prefixed": {"prefix": "passage: ", "max_tokens": 100}} if sentences else {}),
    }
    return {
        "caption": {"source": "cover", **VLM},
        "tags": {"source": "cover", **TAGS},
        **{s: {"source": s.removesuffix("_text"), **base} for s in ("caption_text", "tags_text")},
        **{f"of_{source}": {"source": source, **base} for source in ("title", "description")},
        **{f"title_{name}": {"source": "title", **base, **options} for name, options in more.items()},
    }


METHODS: dict[str, Tables] = {
    "open_clip": {
        **pictures(CLIP),
        "random": {"source": "cover", **CLIP, "weights": "random:7"},
        "architecture": {"source": "cover", **B32, "weights": "random:0"},
        "example": {"source": "cover", **B32},
        "pinned": {"source": "cover", **B32, "revision": commit_of("laion/CLIP-ViT-B-32-laion2B-s34B-b79K")},
        "title_b32": {"source": "title", **B32},
        "on_the_hub": {"source": "cover", **SIGLIP},
        "on_the_hub_title": {"source": "title", **SIGLIP},
    },
    "open_clip texts": texts(CLIP, sentences=False),
    "transformers": {
        **pictures(DINO),
        "cls": {"source": "cover", **DINO, "pooling": "cls"},
        "mean": {"source": "cover", **DINO, "pooling": "mean"},
        "layer_0": {"source": "cover", **DINO, "layer": 0},
        "layer_last": {"source": "cover", **DINO, "layer": -1, "pooling": "mean"},
        "layer_2": {"source": "video", **DINO, "layer": 2, "frames": 2},
        "random": {"source": "cover", **DINO, "weights": "random:3"},
        "states": {"source": "cover", **DINO, "hidden_states": True, "store_dtype": "float16"},
        "states_mean": {"source": "cover", **DINO, "hidden_states": True, "pooling": "mean"},
        "states_video": {"source": "video", **DINO, "hidden_states": True, "frames": 4},
        "example": {"source": "cover", "encoder": "transformers", "model": "facebook/dinov2-small"},
        "vit": {"source": "cover", "encoder": "transformers", "model": "google/vit-base-patch16-224"},
    },
    "timm": {
        **pictures(RESNET),
        "seed_1": {"source": "cover", **RESNET, "weights": "random:1"},
        "vit": {"source": "cover", "encoder": "timm", "model": "vit_tiny_patch16_224", "weights": "random:0"},
        "example": {"source": "cover", "encoder": "timm", "model": "resnet50.a1_in1k"},
    },
    "efficientnet_lite": pictures(LITE),
    "sentence_transformers": {
        **texts(MINILM),
        "states": {"source": "title", **MINILM, "hidden_states": True},
        "states_mean": {"source": "title", **MINILM, "hidden_states": True, "pooling": "mean"},
        "on_the_hub": {
            "source": "title",
            "encoder": "sentence_transformers",
            "model": "sentence-transformers/all-MiniLM-L6-v2",
        },
        "bge": {"source": "description", **SENTENCES, "model": "BAAI/bge-large-en-v1.5"},
        "prompted": {"source": "title", **SENTENCES, "model": "example/prompted-embedder"},
        "unprompted": {
            "source": "title",
            "encoder": "sentence_transformers",
            "model": "example/prompted-embedder",
            "prefix": "",
        },
    },
    "imagenet_tags": {
        "plain": {"source": "cover", **TAGS},
        "top_3": {"source": "cover", **TAGS, "top_k": 3, "jpeg": "scaled"},
        **{f"video_{name}": {"source": "video", **TAGS, **more} for name, more in SAMPLINGS.items()},
    },
    "transformers captioner": {
        **chat(VLM),
        "bfloat16": {"source": "cover", **VLM, "dtype": "bfloat16"},
        "random": {"source": "cover", **VLM, "weights": "random:5"},
        "example": {"source": "cover", **VLM, "model": "HuggingFaceTB/SmolVLM-256M-Instruct"},
    },
    "openai": {
        **chat(SERVED),
        "named": {"source": "cover", **SERVED, "revision": "awq-2025-03"},
        "jpeg": {"source": "video", **SERVED, "send_as": "jpeg"},
    },
    "vllm": {
        **chat(ENGINE, scenes=False),
        "float16": {"source": "cover", **ENGINE, "dtype": "float16"},
        "folder": {"source": "cover", **ENGINE, "model": "{models}/tiny-vlm"},
    },
}


def codes() -> list[FeatureSpec]:
    """Specs of codes, which no job wrote."""
    made = []
    for method, levels, size, last in (
        ("residual_kmeans", 3, 256, False), ("residual_kmeans", 3, 256, True), ("rqvae", 4, 64, True),
    ):  # fmt: skip
        settings = {"levels": levels, "codebook_size": size, "seed": 0, "collision_level": last}
        made.append(
            FeatureSpec(
                name=f"{method}_{'ids' if last else 'codes'}",
                source="title_text",
                output="codes",
                method=method,
                model=f"{levels}x{size}",
                weights=Weights(origin="fitted", ref="seed=0"),
                dims=levels + last,
                upstream="ab" * 32,
                quantization=Quantization(data_digest=f"sha256:{'cd' * 32}", **settings),
            )
        )
    return made


def others() -> list[FeatureSpec]:
    """Specs that a store may hold and no method of ours makes as yet, such as a plug-in's."""
    ours: dict[str, Any] = {
        "method": "ours",
        "model": "ours",
        "weights": Weights(
            origin="folder", ref="ours", digest=f"sha256:{'ef' * 32}", location="/models/ours"
        ),
    }
    vector: dict[str, Any] = {**ours, "output": "vector", "dims": 7, "store_dtype": "float16"}
    prompt = Prompt(name="mine", version=2, text="Was zeigt „{title}“?")
    return [
        FeatureSpec(name="plug_in", source="title", method_version=3, **vector),
        FeatureSpec(name="plug_in_audio", source="audio", **vector),
        FeatureSpec(
            name="bare_caption", source="cover", output="text", text_kind="caption", prompt=prompt, **ours
        ),
    ]


def documented() -> dict[str, Tables]:
    """The features of the examples in docs, and of the job files in deploy and tests."""
    jobs = {}
    for page in sorted((ROOT / "docs").glob("*.md")):
        for number, block in enumerate(BLOCK.findall(page.read_text())):
            if found := tomllib.loads(block).get("features"):
                jobs[f"docs/{page.name} {number}"] = found
    for path in ("deploy/job.toml", "tests/recipe.toml"):
        features = tomllib.loads((ROOT / path).read_text())["features"]
        jobs[path] = {
            name: {k: re.sub(r"^models/", "{models}/", v) if k == "model" else v for k, v in table.items()}
            for name, table in features.items()
        }
    return jobs


def frozen(specs: list[FeatureSpec]) -> dict[str, dict[str, str]]:
    """What must stay of specs; folders are named by where no machine has them."""
    return {
        spec.name: {
            "fingerprint": spec.fingerprint,
            "stored": spec.model_dump_json(exclude_none=True).replace(str(FOLDERS["{models}"]), "/models"),
        }
        for spec in specs
    }


def main() -> None:
    shipped = {
        f"preset {name}": {n: c.model_dump(exclude_none=True) for n, c in presets.load(name).items()}
        for name in presets.names()
    }
    groups: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as cache, golden_hub(Path(cache)):
        for name, tables in {**shipped, **documented(), **METHODS}.items():
            groups[name] = {"features": tables, "specs": frozen(resolve_all(placed(tables)))}
    groups["codes"] = {"features": {}, "specs": frozen(codes())}
    groups["others"] = {"features": {}, "specs": frozen(others())}
    (HERE / "fingerprints.json").write_text(json.dumps(groups, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

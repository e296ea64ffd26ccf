"""Specs of encoders: whatever changes a vector changes the fingerprint, and nothing else does."""

import shutil

import numpy as np
import pytest
from helpers.encoder_checks import MODELS, encoder, resolve

from mmfeat.extract.registry import load_method
from mmfeat.schemas.errors import ConfigError

CLIP = {"encoder": "open_clip", "model": str(MODELS / "tiny-clip")}
DINO = {"encoder": "transformers", "model": str(MODELS / "tiny-dino")}
RESNET = {"encoder": "timm", "model": "resnet18", "weights": "random:0"}
MINILM = {
    "encoder": "sentence_transformers",
    "model": "all-MiniLM-L6-v2",
    "weights": "package",
    "source": "title",
}
LITE = {"encoder": "efficientnet_lite"}
COMMON = ({"normalize": None}, {"dtype": "bfloat16"}, {"store_dtype": "float16"})
PICTURES = (
    *({"crop": crop} for crop in ("squash", "pad")),
    {"jpeg": "scaled"},
    {"source": "video"},
    {"source": "video", "frames": 3},
    {"source": "video", "sampling": "middle"},
    {"source": "video", "sampling": "fps", "fps": 1.0},
    *COMMON,
)
TOKENS = ({"pooling": "cls"}, {"pooling": "mean"}, {"layer": 1}, {"layer": 2})
TEXT = ({"prefix": "passage: "}, {"max_tokens": 100}, {"source": "description"})
CHANGES = [
    *((CLIP, change) for change in (*PICTURES, {"source": "title"}, {"weights": "random:0"})),
    *((DINO, change) for change in (*PICTURES, *TOKENS)),
    *((RESNET, change) for change in (*PICTURES, {"weights": "random:1"}, {"model": "resnet26"})),
    *((LITE, change) for change in PICTURES),
    *((MINILM, change) for change in (*TEXT, *COMMON)),
]


@pytest.mark.parametrize(("base", "change"), CHANGES, ids=lambda v: str(v.get("encoder", v)))
def test_whatever_changes_a_vector_changes_the_fingerprint(base, change):
    plain = resolve(**base)
    if "normalize" in change:
        change = {"normalize": not plain.options["normalize"]}
    assert resolve(**{**base, **change}).fingerprint != plain.fingerprint


@pytest.mark.parametrize("base", [CLIP, DINO, RESNET, MINILM, LITE], ids=lambda b: b["encoder"])
def test_defaults_written_out_are_the_same_feature(base):
    plain = resolve(**base)
    written = {"normalize": plain.options["normalize"], "dtype": "float32", "store_dtype": "float32"}
    if plain.pixels:
        written |= {"crop": "center", "jpeg": "exact"}
    assert resolve(**{**base, **written}).fingerprint == plain.fingerprint


@pytest.mark.parametrize("base", [CLIP, DINO], ids=lambda b: b["encoder"])
def test_where_a_folder_lies_decides_nothing(base, tmp_path):
    name = base["model"].rpartition("/")[2]
    there = shutil.copytree(base["model"], tmp_path / "elsewhere" / name)
    moved = resolve(**{**base, "model": str(there)})
    assert moved.weights.location != resolve(**base).weights.location
    assert moved.fingerprint == resolve(**base).fingerprint


@pytest.mark.parametrize(
    ("name", "encoder_name", "file"),
    [
        ("tiny-clip", "open_clip", "open_clip_model.safetensors"),
        ("tiny-dino", "transformers", "model.safetensors"),
    ],
)
def test_weights_are_read_when_a_model_is_made_and_not_before(copied, name, encoder_name, file):
    folder = copied(name)
    (folder / file).write_bytes(b"not safetensors at all")
    options = {"encoder": encoder_name, "model": str(folder)}
    assert resolve(**options).weights.digest.startswith("sha256:")
    with pytest.raises(ConfigError, match=f"'feature': {encoder_name} cannot load '{name}'"):
        encoder(**options)


@pytest.mark.parametrize("base", [CLIP, DINO], ids=lambda b: b["encoder"])
def test_files_that_changed_after_planning_are_refused(copied, base):
    name = base["model"].rpartition("/")[2]
    folder = copied(name)
    spec = resolve(**{**base, "model": str(folder)})
    weights = next(folder.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ConfigError, match="not those that were planned") as raised:
        load_method(spec)
    assert "Start the run again" in raised.value.hint


def test_a_changed_configuration_is_another_feature(copied, edit):
    folder = copied("tiny-dino")
    before = resolve(**{**DINO, "model": str(folder)})
    edit(folder / "config.json", layer_norm_eps=0.1)
    after = resolve(**{**DINO, "model": str(folder)})
    assert after.fingerprint != before.fingerprint


def test_a_folder_with_pickled_weights_alone_is_refused(copied):
    folder = copied("tiny-clip")
    (folder / "open_clip_model.safetensors").rename(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"no \.safetensors file") as raised:
        resolve(**{**CLIP, "model": str(folder)})
    assert "can run code" in raised.value.hint


def test_a_hub_model_that_is_not_in_the_cache_says_what_to_do(hub, tmp_path):
    (tmp_path / "empty").mkdir()
    hub("someone/else", "c" * 40, tmp_path / "empty")
    with pytest.raises(ConfigError, match="neither a folder nor a model that the hub gives") as raised:
        resolve(encoder="transformers", model="facebook/dinov2-small")
    assert "Check the name and the network" in raised.value.hint
    with pytest.raises(ConfigError, match=r"'someone/else' has no config.json"):
        resolve(encoder="transformers", model="someone/else")


@pytest.mark.parametrize("crop", ["center", "squash", "pad"])
def test_every_crop_gives_the_models_size(crop):
    from mmfeat.extract.modalities.decoders.views import render_view

    view = resolve(**CLIP, crop=crop).pixels.view
    tall = np.zeros((90, 30, 3), np.uint8)
    assert render_view(tall, view).shape == (48, 48, 3)

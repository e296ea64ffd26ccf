"""Weights that a file lacks are not made up, and weights that a model should have are not left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import timm
import torch
from helpers.encoder_checks import MODELS, encoder
from safetensors.torch import load_file, save_file

from mmfeat.schemas.errors import ConfigError

FILE = "model.safetensors"


def of_timm(place: Path, small: Path) -> dict[str, str]:
    torch.manual_seed(0)
    timm.models.save_for_hf(timm.create_model("test_resnet", num_classes=10), place, safe_serialization=True)
    return {"encoder": "timm", "model": str(place)}


def of_transformers(place: Path, small: Path) -> dict[str, str]:
    shutil.copytree(MODELS / "tiny-dino", place)
    return {"encoder": "transformers", "model": str(place)}


def of_sentence_transformers(place: Path, small: Path) -> dict[str, str]:
    shutil.copytree(small, place)
    return {"source": "title", "encoder": "sentence_transformers", "model": str(place)}


def of_captions(place: Path, small: Path) -> dict[str, str]:
    shutil.copytree(MODELS / "tiny-vlm", place)
    return {"captioner": "transformers", "model": str(place)}


# A model, a weight of one of its layers, and a name that this layer has no weight of.
CASES = {
    "timm": (of_timm, "layer1.0.bn1.bias", "layer1.0.bn1.q_bias"),
    "transformers": (
        of_transformers,
        "encoder.layer.1.norm1.bias",
        "encoder.layer.1.attention.attention.q_bias",
    ),
    "sentence_transformers": (
        of_sentence_transformers,
        "encoder.layer.1.attention.self.query.bias",
        "encoder.layer.1.attention.self.q_bias",
    ),
    "captions": (
        of_captions,
        "model.text_model.layers.1.mlp.up_proj.weight",
        "model.text_model.layers.1.mlp.up_proj.q_bias",
    ),
}


def changed(place: Path, gone: str | None = None, **added: torch.Tensor) -> None:
    weights = load_file(place / FILE)
    assert gone is None or gone in weights, sorted(weights)[:9]
    kept = {name: tensor for name, tensor in weights.items() if name != gone}
    save_file(kept | added, place / FILE, metadata={"format": "pt"})


def load(table: dict[str, str]) -> None:
    from mmfeat.extract.registry import load_method, resolve_all
    from mmfeat.schemas.spec import FeatureConfig

    load_method(resolve_all({"feature": FeatureConfig(**{"source": "cover", **table})})[0])


@pytest.mark.parametrize("library", CASES)
def test_a_weight_that_the_file_lacks_is_refused(library, tmp_path, small_sentences):
    """A bias would be zeros, and nothing would tell."""
    make, gone, _ = CASES[library]
    table = make(tmp_path / "model", small_sentences)
    changed(tmp_path / "model", gone)
    with pytest.raises(
        ConfigError, match=r"weights of 'model' lack .* and 0 more; they would be random or zero"
    ):
        load(table)


@pytest.mark.parametrize("library", CASES)
def test_a_weight_that_a_layer_has_no_place_for_is_refused(library, tmp_path, small_sentences):
    make, _, strange = CASES[library]
    table = make(tmp_path / "model", small_sentences)
    changed(tmp_path / "model", **{strange: torch.zeros(4)})
    with pytest.raises(
        ConfigError, match=r"layers of 'model' have no place for weights that it has: .*q_bias"
    ):
        load(table)


@pytest.mark.parametrize("library", CASES)
def test_heads_and_towers_that_nothing_reads_are_left_out_in_silence(library, tmp_path, small_sentences):
    table = CASES[library][0](tmp_path / "model", small_sentences)
    others = (
        "classifier.weight",
        "text_model.encoder.layers.0.mlp.fc1.bias",
        "decoder.0.weight",
        "logit_scale",
    )
    if library != "timm":
        changed(tmp_path / "model", **{name: torch.zeros(4) for name in others})
    load(table)


def test_a_layer_more_than_the_configuration_says_is_refused(tmp_path, small_sentences):
    table = of_sentence_transformers(tmp_path / "model", small_sentences)
    changed(tmp_path / "model", **{"encoder.layer.2.output.dense.bias": torch.zeros(32)})
    with pytest.raises(ConfigError, match=r"no place for .*encoder.layer.2"):
        load(table)


def test_a_pooler_that_is_not_read_may_be_lacking(tmp_path, small_sentences):
    table = of_sentence_transformers(tmp_path / "model", small_sentences)
    changed(tmp_path / "model", "pooler.dense.bias")
    assert encoder(**table).spec.dims == 32

"""timm's features through our pixels: the same as timm's own transforms and model give."""

import json

import numpy as np
import pytest
import timm
import torch
from helpers.encoder_checks import cosines, encoded, encoder, in_any_batch, opened, pictures, pixels, resolve
from safetensors.torch import load_file, save_file

from mmfeat.extract.encoders.timm import Timm
from mmfeat.schemas.errors import ConfigError

SMALL = ("resnet18", "vit_tiny_patch16_224")
COMMIT = "f" * 40


def theirs(model, files):
    """Plain timm: a batch of float tensors from Pillow images."""
    settings = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**settings, is_training=False)
    model.eval()
    with torch.inference_mode():
        return model(torch.stack([transform(image) for image in opened(files)])).numpy()


def random(name, **options):
    return encoder(encoder="timm", model=name, weights="random:7", **options)


@pytest.fixture(scope="module")
def resnet():
    return random("resnet18")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder as timm pushes it to the hub, with settings of its own."""
    place = tmp_path_factory.mktemp("timm") / "mine"
    place.mkdir()
    torch.manual_seed(7)
    model = timm.create_model("resnet18", pretrained=False)
    save_file(model.state_dict(), place / "model.safetensors")
    config = {
        "architecture": "resnet18",
        "num_classes": 1000,
        "num_features": 512,
        "pretrained_cfg": {
            "input_size": [3, 96, 96],
            "crop_pct": 0.8,
            "interpolation": "bilinear",
            "crop_mode": "center",
            "mean": [0.4, 0.5, 0.6],
            "std": [0.2, 0.3, 0.25],
            "first_conv": "conv1",
            "classifier": "fc",
            "num_classes": 1000,
        },
    }
    (place / "config.json").write_text(json.dumps(config))
    return place


@pytest.mark.parametrize("name", SMALL)
def test_features_are_those_of_timm(name):
    files = pictures(12)
    torch.manual_seed(7)
    model = timm.create_model(name, pretrained=False, num_classes=0)
    assert cosines(encoded(random(name), files), theirs(model, files)).min() >= 0.9999


@pytest.mark.parametrize(
    ("crop_mode", "view"), [("center", "shortest"), ("squash", "squash"), ("border", "pad")]
)
def test_every_crop_mode_is_timms(folder, tmp_path, crop_mode, view):
    config = json.loads((folder / "config.json").read_text())
    changes = {"crop_mode": crop_mode, "crop_pct": 0.8 if crop_mode == "center" else 1.0}
    config["pretrained_cfg"].update(changes)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    model = encoder(encoder="timm", model=str(tmp_path))
    files = pictures(12)
    assert model.spec.pixels.view.mode == view
    own = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=0)
    assert cosines(encoded(model, files), theirs(own, files)).min() >= 0.9999


def test_a_folders_weights_and_settings_are_taken(folder):
    spec = resolve(encoder="timm", model=str(folder))
    view = spec.pixels.view
    assert (spec.model, spec.dims, spec.weights.origin) == ("mine", 512, "folder")
    assert spec.options["normalize"] is False
    assert (view.height, view.resize, view.interpolation, spec.pixels.mean) == (
        96,
        120,
        "bilinear",
        (0.4, 0.5, 0.6),
    )


def test_an_image_is_the_same_vector_in_any_batch(resnet):
    assert in_any_batch(resnet.encode_images, pixels(resnet.spec, pictures(10)), size=4) >= 0.99999


def test_half_precision_is_near_full_precision(resnet, record_testsuite_property):
    files = pictures(12)
    half = random("resnet18", dtype="bfloat16")
    near = cosines(encoded(half, files), encoded(resnet, files))
    record_testsuite_property("bf16 timm", f"{near.min():.5f}")
    assert {p.dtype for p in half.network.module.parameters()} == {torch.bfloat16}
    assert near.min() >= 0.99


def test_pretrained_weights_are_loaded_from_the_pinned_commit(hub, folder):
    hub("timm/resnet18.a1_in1k", COMMIT, folder)
    model = encoder(encoder="timm", model="resnet18")
    assert (model.spec.model, model.spec.weights.ref) == ("resnet18.a1_in1k", "timm/resnet18.a1_in1k")
    assert (model.spec.weights.origin, model.spec.weights.revision) == ("hub", COMMIT)
    files = pictures(4)
    own = timm.create_model("resnet18.a1_in1k", pretrained=False, num_classes=0)
    own.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    assert cosines(encoded(model, files), theirs(own, files)).min() >= 0.9999


def test_weights_that_are_not_safetensors_are_never_opened(hub, tmp_path, folder):
    files = tmp_path / "pickled"
    files.mkdir()
    (files / "config.json").write_text((folder / "config.json").read_text())
    (files / "pytorch_model.bin").write_bytes(b"not to be unpickled")
    hub("timm/resnet18.a1_in1k", COMMIT, files)
    with pytest.raises(ConfigError, match="not safetensors"):
        encoder(encoder="timm", model="resnet18.a1_in1k")
    with pytest.raises(ConfigError, match=r"no \.safetensors file"):
        encoder(encoder="timm", model=str(files))


def test_a_card_names_the_licence_that_timm_knows(hub, folder):
    hub("timm/resnet18.a1_in1k", COMMIT, folder)
    card = Timm.card(resolve(encoder="timm", model="resnet18.a1_in1k"))
    assert (card.licence, card.dims, card.input_size) == ("apache-2.0", 512, (224, 224))
    unknown = Timm.card(resolve(encoder="timm", model=str(folder)))
    assert unknown.licence == "see the model's own card"


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"model": "resnet81"}, "no model 'resnet81'", "resnet18"),
        ({"model": "resnet18.a9_in1k"}, "no weights for 'resnet18.a9_in1k'", "resnet18.a1_in1k"),
        ({"model": "resnet18", "weights": "a1_in1k"}, "cannot read weights = 'a1_in1k'", "random:0"),
        ({"model": "resnet18", "weights": "random:0", "pooling": "mean"}, "no option 'pooling'", "crop"),
        ({"model": "resnet18", "weights": "random:0", "layer": 3}, "no option 'layer'", "crop"),
        (
            {"model": "resnet18", "weights": "random:0", "source": "title"},
            "cannot read 'title', which is text",
            "It reads: image, video.",
        ),
    ],
)
def test_a_setting_that_cannot_be_carried_out_is_refused(options, message, hint):
    with pytest.raises(ConfigError, match=message) as raised:
        resolve(encoder="timm", **options)
    assert hint in raised.value.hint


def test_preprocessing_that_one_view_cannot_express_is_refused(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"].update(crop_mode="squash", crop_pct=0.9)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="cannot be expressed: crop_mode 'squash'"):
        resolve(encoder="timm", model=str(tmp_path), weights="random:0")


def test_another_crop_keeps_the_models_size_and_interpolation():
    view = resolve(
        encoder="timm", model="resnet18", weights="random:0", crop="pad", jpeg="scaled"
    ).pixels.view
    assert (view.mode, view.height, view.resize, view.interpolation, view.jpeg) == (
        "pad",
        224,
        None,
        "bicubic",
        "scaled",
    )
    np.testing.assert_array_equal(view.fill, (124, 116, 104))

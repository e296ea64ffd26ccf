"""Vision models of transformers: the tokens that transformers gives, pooled as the spec says."""

import json

import numpy as np
import pytest
import torch
from helpers.encoder_checks import (
    MODELS,
    cosines,
    encoded,
    encoder,
    in_any_batch,
    opened,
    pictures,
    pixels,
    resolve,
    shown,
)
from helpers.tiny_pictures import FAMILIES, family, theirs
from helpers.tiny_weights import seeded
from transformers import AutoImageProcessor, AutoModel

from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.media import Frames

DINO = MODELS / "tiny-dino"
COMMIT = "a" * 40


def dino(**options):
    return encoder(**{"encoder": "transformers", "model": str(DINO), **options})


@pytest.fixture(scope="module")
def plain():
    return dino()


@pytest.mark.parametrize(
    ("options", "pool"),
    [
        ({}, lambda out: out.pooler_output),
        ({"pooling": "cls"}, lambda out: out.last_hidden_state[:, 0]),
        ({"pooling": "mean"}, lambda out: out.last_hidden_state[:, 1:].mean(1)),
        ({"layer": 2}, lambda out: out.hidden_states[2][:, 0]),
        ({"layer": 0, "pooling": "mean"}, lambda out: out.hidden_states[0][:, 1:].mean(1)),
        ({"layer": -1, "pooling": "mean"}, lambda out: out.hidden_states[4][:, 1:].mean(1)),
    ],
)
def test_vectors_are_those_of_transformers(options, pool):
    files = pictures(24)
    inputs = AutoImageProcessor.from_pretrained(DINO)(opened(files), return_tensors="pt")
    with torch.inference_mode():
        theirs = pool(AutoModel.from_pretrained(DINO).eval()(**inputs, output_hidden_states=True))
    assert cosines(encoded(dino(**options), files), theirs.numpy()).min() >= 0.9999


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_models_goes_through_its_own_processor(name, tmp_path):
    place = seeded(family(name, tmp_path / "model"))
    ours = encoder(encoder="transformers", model=str(place))
    assert ours.spec.options["pooling"] == FAMILIES[name].pooling
    assert (ours.spec.pixels.mean is None) == bool(ours.notes) == FAMILIES[name].own
    files = pictures(6)
    expected, found = theirs(name, place, opened(files)), ours.run(shown(ours.spec, files))
    assert cosines(found, expected).min() >= 0.99999
    # Vectors of random networks lie close together: what is left of them without their mean agrees as well.
    assert cosines(found - expected.mean(0), expected - expected.mean(0)).min() >= 0.9999
    alone = np.concatenate([ours.run([row]) for row in shown(ours.spec, files)])
    assert cosines(found, alone).min() >= 0.99999


def test_the_mean_of_the_patches_leaves_out_cls_and_register_tokens(tmp_path):
    place = family("DINOv3", tmp_path / "model")
    files = pictures(6, side=32)  # nothing to resize: this is about tokens
    inputs = AutoImageProcessor.from_pretrained(place)(opened(files), return_tensors="pt")
    with torch.inference_mode():
        tokens = AutoModel.from_pretrained(place).eval()(**inputs).last_hidden_state
    assert tokens.shape[1] == 1 + 4 + 16
    ours = encoded(encoder(encoder="transformers", model=str(place), pooling="mean"), files)
    assert cosines(ours, tokens[:, 5:].mean(1).numpy()).min() >= 0.9999
    assert cosines(ours, tokens[:, 1:].mean(1).numpy()).max() < 0.999


def test_an_image_is_the_same_vector_in_any_batch(plain):
    assert in_any_batch(plain.encode_images, pixels(plain.spec, pictures(20))) >= 0.99999


def test_half_precision_is_near_full_precision(plain, record_testsuite_property):
    files = pictures(40)
    half = dino(dtype="bfloat16")
    near = cosines(encoded(half, files), encoded(plain, files))
    record_testsuite_property("bf16 transformers", f"{near.min():.5f}")
    assert {p.dtype for p in half.network.module.parameters()} == {torch.bfloat16}
    assert near.min() >= 0.99


def test_a_clip_is_the_mean_of_its_frames(plain):
    model = dino(source="video", sampling="middle", frames=2)
    flat = pixels(model.spec, pictures(5))
    means = model.encode_clips([Frames(flat[:2], (0, 1)), Frames(flat[2:], (0, 1, 2))])
    vectors = plain.encode_images(flat)
    np.testing.assert_allclose(means, [vectors[:2].mean(0), vectors[2:].mean(0)], atol=1e-5)


def test_a_layer_counted_from_the_end_is_the_same_feature():
    assert dino(layer=-1).spec.fingerprint == dino(layer=4).spec.fingerprint


def test_a_hub_model_is_pinned_to_a_commit_and_gives_what_its_folder_gives(hub, plain):
    hub("someone/tiny-dino", COMMIT, DINO)
    model = dino(model="someone/tiny-dino")
    assert (model.spec.weights.ref, model.spec.weights.revision) == ("someone/tiny-dino", COMMIT)
    assert (model.spec.weights.digest, model.spec.weights.location) == (None, None)
    files = pictures(3)
    np.testing.assert_allclose(encoded(model, files), encoded(plain, files), atol=1e-5)


def test_random_weights_are_the_seeds(plain):
    files = pictures(2)
    first, again, other = (encoded(dino(weights=f"random:{n}"), files) for n in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert cosines(first, other).max() < 0.99
    assert dino(weights="random:1").spec.dims == plain.spec.dims == 96


def test_a_head_that_the_file_lacks_is_not_made_up(tmp_path):
    place = family("ViT", tmp_path / "model")
    from safetensors.torch import load_file, save_file

    kept = {k: v for k, v in load_file(place / "model.safetensors").items() if "pooler" not in k}
    save_file(kept, place / "model.safetensors", metadata={"format": "pt"})
    assert encoder(encoder="transformers", model=str(place)).spec.options["pooling"] == "cls"
    del kept["layernorm.weight"]
    save_file(kept, place / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"lack layernorm.weight and 0 more; they would be random"):
        encoder(encoder="transformers", model=str(place))


@pytest.mark.parametrize(
    "settings",
    [
        {"image_processor_type": "DeiTImageProcessor", "size": {"height": 56, "width": 56}},
        {"do_center_crop": False},
        {"size": {"shortest_edge": 48, "longest_edge": 96}, "do_center_crop": False},
        {"image_processor_type": "MobileViTImageProcessor"},
        {"rescale_factor": 0.5},
    ],
    ids=["squash and crop", "keep the ratio", "bound both sides", "flip channels", "rescale otherwise"],
)
def test_a_processor_that_is_more_than_a_view_is_run_itself(copied, edit, settings):
    folder = copied("tiny-dino")
    edit(folder / "preprocessor_config.json", **settings)
    ours, files = encoder(encoder="transformers", model=str(folder)), pictures(4)
    processor, model = AutoImageProcessor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        theirs = [model(**processor(one, return_tensors="pt")).pooler_output for one in opened(files)]
    assert cosines(ours.run(shown(ours.spec, files)), torch.cat(theirs).numpy()).min() >= 0.99999
    assert type(processor).__name__ in ours.notes[0]
    assert ours.card(ours.spec).input_size is None


def test_a_processor_that_leaves_pictures_as_large_as_they_are_is_refused(copied, edit):
    folder = copied("tiny-dino")
    edit(folder / "preprocessor_config.json", do_resize=False)
    with pytest.raises(ConfigError, match="does not resize"):
        resolve(encoder="transformers", model=str(folder))


@pytest.fixture(scope="module")
def naflex(tmp_path_factory):
    return seeded(family("SigLIP 2 NaFlex", tmp_path_factory.mktemp("naflex") / "model"))


def test_pictures_by_a_models_own_processor_are_searched_and_pooled_as_others_are(naflex):
    by_picture = encoder(encoder="transformers", model=str(naflex))
    rows = shown(by_picture.spec, pictures(2))
    vectors = by_picture.run(rows)
    query = by_picture.query("image")
    np.testing.assert_allclose(query.encode([row[0] for row in rows]), vectors, atol=1e-5)
    assert query.prepare.view == by_picture.spec.pixels.view
    of_clips = encoder(encoder="transformers", model=str(naflex), source="video", frames=2)
    frames = np.concatenate([rows[0][0].pixels] * 2)
    frames[1] = 255 - frames[1]
    each = by_picture.encode_frames(list(frames))
    np.testing.assert_allclose(of_clips.run([(Frames(frames, (0, 1)),)])[0], each.mean(0), atol=1e-5)


def test_the_mean_of_patches_leaves_out_those_that_only_fill_up(naflex):
    ours, files = encoder(encoder="transformers", model=str(naflex), pooling="mean"), pictures(4)
    processor, model = AutoImageProcessor.from_pretrained(naflex), AutoModel.from_pretrained(naflex).eval()
    found = []
    for one in opened(files):
        inputs = processor(one, return_tensors="pt")
        with torch.inference_mode():
            tokens = model.vision_model(**inputs).last_hidden_state[0]
        found.append(tokens[: inputs["spatial_shapes"].prod()].mean(0).numpy())
    assert inputs["pixel_attention_mask"].sum() < inputs["pixel_attention_mask"].numel()
    assert cosines(ours.run(shown(ours.spec, files)), np.stack(found)).min() >= 0.99999


def test_hidden_states_of_sam_are_maps_with_dims_at_the_end(tmp_path):
    place = seeded(family("SAM", tmp_path / "model"))
    ours, files = encoder(encoder="transformers", model=str(place), layer=1), pictures(2)
    processor, model = AutoImageProcessor.from_pretrained(place), AutoModel.from_pretrained(place).eval()
    with torch.inference_mode():
        pixels = processor(opened(files), return_tensors="pt")["pixel_values"]
        states = model.vision_encoder(pixels, output_hidden_states=True).hidden_states
    assert cosines(ours.run(shown(ours.spec, files)), states[1].mean((1, 2)).numpy()).min() >= 0.99999


def test_a_crop_of_ours_takes_the_place_of_the_resize_of_dinov3_and_of_no_other_processors(tmp_path):
    """It is what features of DINOv3 were before its own processor made them."""
    dinov3 = family("DINOv3", tmp_path / "dinov3")
    view = resolve(encoder="transformers", model=str(dinov3), crop="squash").pixels.view
    assert (view.mode, view.height, view.width) == ("squash", 32, 32)
    deit = family("DeiT", tmp_path / "deit")
    with pytest.raises(ConfigError, match="are prepared by the DeiTImageProcessor") as raised:
        resolve(encoder="transformers", model=str(deit), crop="pad")
    assert raised.value.hint == "Leave crop out."


def test_a_folder_without_a_processor_is_refused(copied):
    folder = copied("tiny-dino")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match="has no image processor") as raised:
        resolve(encoder="transformers", model=str(folder))
    assert "preprocessor_config.json" in raised.value.hint


def test_a_processor_that_does_not_normalise_is_followed(copied, edit):
    folder = copied("tiny-dino")
    edit(folder / "preprocessor_config.json", do_normalize=False)
    image = resolve(encoder="transformers", model=str(folder)).pixels
    assert (image.mean, image.std) == ((0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"layer": 5}, "no layer 5", "0 to 4"),
        ({"layer": -6}, "no layer -6", "0 to 4"),
        ({"pooling": "attention"}, "no pooling 'attention'", "default, mean, cls"),
        ({"source": "title"}, "cannot read 'title', which is text", "It reads: image, video."),
        ({"max_tokens": 8}, "no option 'max_tokens'", "pooling"),
        ({"frames": 8}, "'frames' goes with a clip, not with 'cover'", ""),
        ({"model": None}, "needs a model", "dinov2"),
        ({"model": str(MODELS / "tiny-clip")}, "no config.json", "layout"),
        ({"model": str(MODELS / "tiny-vlm")}, "Idefics3ImageProcessor", ""),
    ],
)
def test_a_setting_that_cannot_be_carried_out_is_refused(options, message, hint):
    with pytest.raises(ConfigError, match=message) as raised:
        resolve(**{"encoder": "transformers", "model": str(DINO), **options})
    assert hint in (raised.value.hint or "")


def test_a_text_model_is_not_a_vision_model(copied, edit):
    folder = copied("tiny-dino")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "num_hidden_layers": 1}))
    with pytest.raises(ConfigError, match="does not load as a vision model"):
        resolve(encoder="transformers", model=str(folder))


def test_no_cls_token_is_not_the_first_patch(tmp_path):
    place = family("SigLIP", tmp_path / "model")
    with pytest.raises(ConfigError, match="no pooling 'cls'") as raised:
        resolve(encoder="transformers", model=str(place), pooling="cls")
    assert "attention" in raised.value.hint

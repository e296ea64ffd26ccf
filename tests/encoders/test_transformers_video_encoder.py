"""Vectors of whole clips: those of transformers' own classes and processors, whatever the batch.

All models are tiny ones with random weights, in folders as the hub has them.
"""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from helpers.encoder_checks import MODELS, cosines, encoder, resolve
from helpers.tiny_videos import (
    FRAMES,
    KINDS,
    clips,
    pe_video,
    saved,
    shown,
    theirs,
    timesformer,
    videomae,
    videoprism_lvt,
    vivit,
    vjepa2,
    word_tokenizer,
    xclip,
)
from safetensors.torch import load_file, save_file

from mmfeat.schemas.errors import ConfigError, MmfeatError
from mmfeat.schemas.media import Frames


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Each tiny model's folder; made when it is asked for."""
    place, made = tmp_path_factory.mktemp("videos"), {}

    def folder(kind):
        if kind.__name__ not in made:
            made[kind.__name__] = saved(kind, place / kind.__name__)
        return made[kind.__name__]

    return folder


def loaded(folder, **options):
    return encoder(source="video", encoder="transformers_video", model=str(folder), **options)


def resolved(folder, **options):
    return resolve(source="video", encoder="transformers_video", model=str(folder), **options)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_vectors_are_those_of_transformers_alone_and_in_mixed_batches(folders, kind):
    folder = folders(kind)
    # As they come out of the model: lengths are compared too.
    model = loaded(folder, frames=FRAMES, normalize=False)
    prepared = [shown(model.spec, clip) for clip in clips()]
    expected = np.stack([theirs(kind.__name__, folder, clip) for clip in clips()])
    together = model.encode_clips(prepared)
    alone = np.concatenate([model.encode_clips([clip]) for clip in prepared])
    backwards = model.encode_clips(prepared[::-1])[::-1]
    for found in (together, alone, backwards):
        assert cosines(found, expected).min() >= 0.9999
    # Vectors of random networks lie close together: what is left of them without their mean agrees as well.
    assert cosines(together - expected.mean(0), expected - expected.mean(0)).min() >= 0.99


@pytest.mark.parametrize("kind", [videomae, vjepa2, vivit], ids=lambda kind: kind.__name__)
def test_a_clip_played_backwards_has_another_vector(folders, kind):
    model = loaded(folders(kind))
    clip = shown(model.spec, clips(1)[0])
    reversed_clip = Frames(clip.pixels[::-1].copy(), clip.times)
    forwards, backwards = model.encode_clips([clip, reversed_clip])
    assert np.abs(forwards - backwards).max() > 1e-3 * np.abs(forwards).max()


def test_the_mean_of_its_frames_is_the_same_for_a_clip_played_backwards():
    model = encoder(source="video", encoder="open_clip", model=str(MODELS / "tiny-clip"), frames=FRAMES)
    clip = shown(model.spec, clips(1)[0])
    reversed_clip = Frames(clip.pixels[::-1].copy(), clip.times)
    forwards, backwards = model.encode_clips([clip, reversed_clip])
    np.testing.assert_allclose(forwards, backwards, atol=1e-6)


def test_a_clip_has_the_models_own_number_of_frames_and_short_ones_repeat_some(folders):
    sampling = resolved(folders(videomae), sampling="middle", stride=4).inputs[0].prepare.sampling
    assert (sampling.mode, sampling.count, sampling.stride, sampling.short) == ("middle", 4, 4, "repeat")
    assert resolved(folders(xclip)).inputs[0].prepare.sampling.count == FRAMES
    assert resolved(folders(vjepa2), frames=6).inputs[0].prepare.sampling.count == 6


@pytest.mark.parametrize(
    ("kind", "options", "message", "hint"),
    [
        (videomae, {"frames": 8}, "takes exactly 4 frames, not 8", "Leave frames out."),
        (vjepa2, {"frames": 5}, "takes frames in groups of 2", None),
        (videomae, {"pooling": "cls"}, "has no pooling 'cls'", "It has: mean."),
        (xclip, {"pooling": "mean"}, "has no pooling 'mean'", "It has a head"),
        (videomae, {"sampling": "scenes"}, "another number of frames", "leave sampling out"),
        (videomae, {"sampling": "uniform", "stride": 2}, "stride is given for sampling 'middle'", None),
        (videomae, {"hidden_states": True}, "no option 'hidden_states'", "pooling"),
    ],
)
def test_a_setting_that_cannot_be_carried_out_is_refused(folders, kind, options, message, hint):
    with pytest.raises(ConfigError, match=message) as raised:
        resolved(folders(kind), **options)
    assert hint is None or hint in raised.value.hint


def test_a_model_of_pictures_is_refused_with_the_encoder_that_reads_it():
    with pytest.raises(ConfigError, match="not known to take clips") as raised:
        resolved(MODELS / "tiny-dino")
    assert 'encoder = "transformers"' in raised.value.hint


def test_a_clip_of_another_number_of_frames_is_never_encoded(folders):
    model = loaded(folders(videomae))
    with pytest.raises(MmfeatError, match="wants 4 frames of 32 x 32"):
        model.encode_clips([shown(model.spec, clips(1, frames=3)[0])])


def test_cls_and_mean_are_two_features_of_the_same_tokens(folders):
    folder = folders(timesformer)
    model = loaded(folder, pooling="mean")
    clip = clips(1)[0]
    inputs = transformers.AutoVideoProcessor.from_pretrained(folder)([clip], return_tensors="pt")
    with torch.inference_mode():
        states = transformers.AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state
    found = model.encode_clips([shown(model.spec, clip)])
    assert cosines(found, states.mean(1).numpy()).min() >= 0.9999
    assert resolved(folder).fingerprint != model.spec.fingerprint


def with_weights(folder, place, change):
    """A copy of a folder whose weights have other names."""
    shutil.copytree(folder, place)
    weights = {}
    for name, value in load_file(place / "model.safetensors").items():
        new = change(name)
        if new is not None:
            weights[new] = value
    save_file(weights, place / "model.safetensors", {"format": "pt"})
    return place


# The hub's names of the biases, and those of the layers of transformers 5.
BIASES = {"q_bias": "query.bias", "v_bias": "value.bias"}


def test_videomaes_biases_are_found_by_both_of_their_names(folders, tmp_path):
    folder = folders(videomae)
    hubs = load_file(folder / "model.safetensors")
    assert any(name.endswith("attention.q_bias") and value.abs().max() > 0 for name, value in hubs.items())

    def renamed(name):
        return next((name.replace(was, new) for was, new in BIASES.items() if name.endswith(was)), name)

    model, other = loaded(folder), loaded(with_weights(folder, tmp_path / "renamed", renamed))
    clip = shown(model.spec, clips(1)[0])
    np.testing.assert_array_equal(model.encode_clips([clip]), other.encode_clips([clip]))


def test_videomae_without_its_biases_is_refused_and_not_computed_with_zeros(folders, tmp_path):
    """What transformers 5.0 to 5.23 made of the hub's files: biases of zero, without an error."""

    def lost(name):
        return name.replace("q_bias", "q_lost").replace("v_bias", "v_lost")

    broken = with_weights(folders(videomae), tmp_path / "broken", lost)
    with pytest.raises(ConfigError, match=r"lack .*bias.*would be random or zero"):
        loaded(broken)


def test_the_text_tower_of_x_clip_gives_the_vectors_of_transformers(folders):
    folder = folders(xclip)
    model = loaded(folder)
    texts = ["a red ball rolls left", "a ball"]
    query = model.query("text")
    inputs = word_tokenizer()(texts, padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.inference_mode():
        own = transformers.AutoModel.from_pretrained(folder).eval().get_text_features(**inputs).pooler_output
    found = query.encode(texts)
    assert cosines(found, own.numpy()).min() >= 0.9999
    assert found.shape[1] == model.spec.dims
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", [videoprism_lvt, pe_video], ids=lambda kind: kind.__name__)
def test_other_towers_of_texts_give_vectors_beside_the_clips(folders, kind):
    model = loaded(folders(kind), frames=FRAMES)
    found = model.query("text").encode(["a red ball", "a blue ball rolls right"])
    assert found.shape == (2, model.spec.dims)
    assert cosines(found[:1], found[1:]).max() < 0.9999


def test_a_model_without_a_text_tower_cannot_be_searched_by_text(folders):
    assert loaded(folders(videomae)).query("text") is None


def test_frames_that_no_view_expresses_go_through_the_models_own_processor(folders, tmp_path):
    folder = tmp_path / "uneven"
    shutil.copytree(folders(videomae), folder)
    file = folder / "video_preprocessor_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "do_resize": False}))
    model = loaded(folder)
    assert model.spec.pixels.view.mode == "bound"
    expected = np.stack([theirs("videomae", folder, clip) for clip in clips()])
    found = model.encode_clips([shown(model.spec, clip) for clip in clips()])
    assert cosines(found, expected).min() >= 0.9999

"""Audio models of transformers: the hidden states that transformers gives of each window alone, pooled."""

import json

import numpy as np
import pytest
import torch
from helpers.encoder_checks import cosines, in_any_batch
from helpers.sound_checks import chord, heard, hearing, of_sound
from helpers.tiny_sounds import FAMILIES, RATE, SAMPLES, family, theirs
from transformers import AutoModel

from mmfeat.schemas.errors import ConfigError, ItemError
from mmfeat.schemas.sound import Sound


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("audio")
    return {name: family(name, place / name) for name in FAMILIES}


@pytest.mark.parametrize("name", FAMILIES)
def test_vectors_are_those_of_transformers_alone_and_in_mixed_batches(folders, name):
    # AST's window is 0.64 s: of longer sounds it would be a mean of windows.
    options = {"windows": "first"} if name == "AST" else {}
    model = hearing(encoder="transformers_audio", model=str(folders[name]), **options)
    ours = model.encode_sounds(heard(SAMPLES, model.spec))
    assert ours.shape == (4, model.spec.dims) == (4, 32)
    assert cosines(ours, theirs(folders[name])).min() >= 0.9999
    assert in_any_batch(model.encode_sounds, heard(SAMPLES, model.spec), size=3) >= 0.99999


@pytest.mark.parametrize(
    ("name", "layer"),
    [("AST", 1), ("AST", -1), ("Whisper", 0), ("Whisper", -1), ("HuBERT", 1), ("Wav2Vec2-BERT", 0)],
)
def test_a_layer_is_that_hidden_state_of_transformers(folders, name, layer):
    options = {"windows": "first"} if name == "AST" else {}
    model = hearing(encoder="transformers_audio", model=str(folders[name]), layer=layer, **options)
    ours = model.encode_sounds(heard(SAMPLES, model.spec))
    assert cosines(ours, theirs(folders[name], layer)).min() >= 0.9999


def test_whispers_mean_is_not_one_of_silence(folders):
    """The same sound with and without the silence that fills the window."""
    model = hearing(encoder="transformers_audio", model=str(folders["Whisper"]))
    short = chord(0.4, RATE, 1)
    filled = np.pad(short, (0, 2 * RATE - len(short)))
    own, silent = model.encode_sounds(heard([short, filled], model.spec))
    assert np.linalg.norm(own - silent) > 0.05 * np.linalg.norm(own)
    steps = model._encoded([short])
    np.testing.assert_allclose(own, steps[0], atol=1e-5)


def test_padding_would_change_a_model_that_was_trained_without_a_mask(folders):
    """Why its windows are grouped by length."""
    model = AutoModel.from_pretrained(folders["wav2vec2-base"]).eval()
    short = torch.from_numpy(SAMPLES[0])[None]
    padded = torch.nn.functional.pad(short, (0, RATE))
    with torch.inference_mode():
        alone, beside = (model(one).last_hidden_state for one in (short, padded))
    steps = alone.shape[1]
    assert cosines(alone.mean(1).numpy(), beside[:, :steps].mean(1).numpy()).min() < 0.999


def test_a_sound_of_several_windows_has_their_mean(folders):
    options = {"model": str(folders["HuBERT"]), "windows": "all", "window_seconds": 0.5}
    model = hearing(encoder="transformers_audio", max_windows=4, **options)
    samples = chord(1.2, RATE, 7)
    one = hearing(encoder="transformers_audio", model=str(folders["HuBERT"]))
    parts = one.encode_sounds(heard(np.split(samples, [RATE // 2, RATE]), one.spec))
    np.testing.assert_allclose(model.encode_sounds(heard([samples], model.spec))[0], parts.mean(0), atol=1e-5)


def test_vectors_have_length_1_where_that_is_asked_for(folders):
    model = hearing(encoder="transformers_audio", model=str(folders["HuBERT"]), normalize=True)
    lengths = np.linalg.norm(model.encode_sounds(heard(SAMPLES, model.spec)), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_windows_are_as_long_as_the_model_hears(folders):
    windows = {
        name: of_sound(encoder="transformers_audio", model=str(folders[name])).inputs[0].prepare
        for name in ("AST", "Whisper", "HuBERT")
    }
    assert {name: one.seconds for name, one in windows.items()} == {"AST": 0.64, "Whisper": 2, "HuBERT": 10}
    assert {(one.sample_rate, one.windows, one.count) for one in windows.values()} == {(RATE, "uniform", 8)}


def test_a_sound_that_is_too_short_for_one_step_says_so(folders):
    model = hearing(encoder="transformers_audio", model=str(folders["HuBERT"]))
    blip = Sound(np.zeros(160, np.float32), RATE, ((0.0, 0.01, 160),), 0.0)
    with pytest.raises(ItemError, match=r"too short to be heard: 10\.0 ms"):
        model.encode_sounds([blip])


def test_a_last_window_that_is_too_short_is_left_out(folders):
    """20.01 s in windows of 10 s are no failure."""
    options = {"encoder": "transformers_audio", "model": str(folders["HuBERT"]), "windows": "all"}
    model = hearing(**options, window_seconds=0.5)
    samples = chord(1.01, RATE, 7)
    found = model.encode_sounds(heard([samples, samples[:RATE]], model.spec))
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_half_precision_is_near_full_precision(folders):
    options = {"encoder": "transformers_audio", "model": str(folders["Whisper"])}
    full, half = hearing(**options), hearing(**options, dtype="bfloat16")
    sounds = heard(SAMPLES[:2], full.spec)
    assert cosines(half.encode_sounds(sounds), full.encode_sounds(sounds)).min() >= 0.99


@pytest.mark.parametrize(
    ("name", "options", "message", "hint"),
    [
        ("Whisper", {"window_seconds": 3}, "hears 2 s at a time, and window_seconds = 3", "max_windows"),
        ("HuBERT", {"windows": "first", "max_windows": 3}, "'max_windows' goes with", "Leave max_windows"),
        ("Whisper", {"layer": 3}, "no layer 3", "0 to 2"),
        ("Whisper", {"pooling": "cls"}, "no pooling 'cls'", "It has: mean."),
        ("AST", {"pooling": "mean"}, "no pooling 'mean'", "It has: cls."),
        ("HuBERT", {"model": None}, "needs a model", "openai/whisper-base"),
        ("HuBERT", {"source": "title"}, "cannot read 'title', which is text", "It reads: audio."),
    ],
)
def test_a_setting_that_cannot_be_carried_out_is_refused(folders, name, options, message, hint):
    with pytest.raises(ConfigError, match=message) as raised:
        of_sound(**{"encoder": "transformers_audio", "model": str(folders[name]), **options})
    assert hint in raised.value.hint


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        ("config.json", {"model_type": "bert"}, "is a 'bert' model, which is not known to hear"),
        ("config.json", {"model_type": "never-heard-of"}, "transformers does not know"),
        ("config.json", {"add_adapter": True}, "has an adapter"),
        ("preprocessor_config.json", None, "has no feature extractor"),
    ],
)
def test_a_model_that_cannot_hear_is_refused(tmp_path, file, fields, message):
    place = family("wav2vec2-base", tmp_path / "model")
    if fields is None:
        (place / file).unlink()
    else:
        (place / file).write_text(json.dumps(json.loads((place / file).read_text()) | fields))
    with pytest.raises(ConfigError, match=message):
        of_sound(encoder="transformers_audio", model=str(place))

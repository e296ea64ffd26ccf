"""CLAP: the vectors of transformers' ClapModel and its extractor, whatever the batch."""

import numpy as np
import pytest
import torch
from helpers.encoder_checks import cosines, in_any_batch
from helpers.sound_checks import chord, heard, hearing, of_sound
from helpers.sound_models import clap
from transformers import AutoFeatureExtractor, ClapFeatureExtractor, ClapModel

from mmfeat.schemas.errors import ConfigError

RATE = 48_000


@pytest.fixture(scope="module")
def unfused(tmp_path_factory):
    return clap(tmp_path_factory.mktemp("clap") / "unfused", fused=False)


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    return clap(tmp_path_factory.mktemp("clap") / "fused", fused=True)


@pytest.fixture(scope="module")
def fusing(fused):
    return hearing(encoder="clap", model=str(fused))


@pytest.fixture(scope="module")
def plain(unfused):
    return hearing(encoder="clap", model=str(unfused))


def theirs(place, windows, seed=0):
    """Plain transformers, all windows in one batch."""
    extractor = AutoFeatureExtractor.from_pretrained(place)
    model = ClapModel.from_pretrained(place).eval()
    np.random.seed(seed)
    inputs = extractor(windows, sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        return model.get_audio_features(**inputs).pooler_output.numpy()


def test_a_sound_of_one_window_has_the_vector_of_transformers(plain, unfused):
    samples = [chord(seconds, RATE, seed) for seed, seconds in enumerate((0.3, 2, 4.9, 10))]
    ours = plain.encode_sounds(heard(samples, plain.spec))
    assert cosines(ours, theirs(unfused, samples)).min() >= 0.9999
    assert plain.spec.dims == ours.shape[1] == 24


def test_a_long_sound_has_the_mean_of_its_windows_at_length_1(unfused):
    model = hearing(encoder="clap", model=str(unfused), windows="all", max_windows=3)
    samples = chord(23, RATE, 5)
    windows = [samples[: 10 * RATE], samples[10 * RATE : 20 * RATE], samples[20 * RATE :]]
    mean = theirs(unfused, windows).mean(0)
    ours = model.encode_sounds(heard([samples], model.spec))[0]
    np.testing.assert_allclose(ours, mean / np.linalg.norm(mean), atol=1e-5)


def test_a_sound_is_the_same_vector_in_any_batch(plain):
    samples = [chord(seconds, RATE, seed) for seed, seconds in enumerate((1, 12, 3, 10))]
    assert in_any_batch(plain.encode_sounds, heard(samples, plain.spec), size=3) >= 0.99999


def test_a_fused_model_hears_what_transformers_shows_it(fusing, fused):
    # A longer one among them, so that transformers calls none of the others longer at random.
    samples = [chord(seconds, RATE, seed) for seed, seconds in enumerate((2, 13, 10.001))]
    ours = fusing.encode_sounds(heard(samples, fusing.spec))
    assert cosines(ours, theirs(fused, samples)).min() >= 0.9999


def test_a_fused_models_crops_are_the_same_in_every_batch_and_chance_goes_on(fusing, fused):
    long = chord(14, RATE, 1)
    other_crops = cosines(theirs(fused, [long], seed=0), theirs(fused, [long], seed=3))
    assert other_crops.max() < 0.99999
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    sounds = heard([long, chord(3, RATE, 2)], fusing.spec)
    assert in_any_batch(fusing.encode_sounds, sounds) >= 0.99999
    assert np.random.random() == expected


def test_a_text_searches_sounds_by_the_text_tower(plain, unfused):
    query = plain.query("text")
    texts = ["a dog barks", "rain falls on the roof", "the " * 50]
    tokens = plain.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        expected = ClapModel.from_pretrained(unfused).eval().get_text_features(**tokens).pooler_output
    together = query.encode(texts)
    assert cosines(together, expected.numpy()).min() >= 0.9999
    alone = np.concatenate([query.encode([text]) for text in texts])
    assert cosines(together, alone).min() >= 0.99999
    assert plain.query("image") is None


def test_texts_are_encoded_in_the_space_of_sounds(plain, unfused):
    reader = hearing(encoder="clap", model=str(unfused), source="title")
    texts = ["rain", "a dog barks in the rain"]
    assert (reader.spec.modalities, reader.spec.dims) == (("text",), plain.spec.dims)
    np.testing.assert_allclose(reader.encode_texts(texts), plain.query("text").encode(texts), atol=1e-6)


def test_windows_are_part_of_the_spec(unfused, fused):
    spec = of_sound(encoder="clap", model=str(unfused))
    assert spec.inputs[0].prepare.model_dump(exclude={"kind"}) == {
        "sample_rate": RATE,
        "seconds": 10.0,
        "windows": "uniform",
        "count": 8,
    }
    minute = of_sound(encoder="clap", model=str(fused)).inputs[0].prepare
    assert (minute.seconds, minute.windows) == (60.0, "first")
    assert of_sound(encoder="clap", model=str(unfused), max_windows=2).fingerprint != spec.fingerprint


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"window_seconds": 20}, "hears 10 s at a time, and window_seconds = 20", "max_windows"),
        ({"source": "cover"}, "cannot read 'cover', which is a picture", "It reads: audio, text."),
        ({"model": None}, "needs a model", "laion/clap-htsat-unfused"),
        ({"layer": 1}, "no option 'layer'", "max_windows"),
    ],
)
def test_a_setting_that_cannot_be_carried_out_is_refused(unfused, options, message, hint):
    with pytest.raises(ConfigError, match=message) as raised:
        of_sound(**{"encoder": "clap", "model": str(unfused), **options})
    assert hint in raised.value.hint


def test_a_folder_that_says_two_things_about_fusion_is_refused(unfused, tmp_path):
    place = clap(tmp_path / "torn", fused=False)
    ClapFeatureExtractor(truncation="fusion").save_pretrained(place)
    with pytest.raises(ConfigError, match="says that it is not fused"):
        of_sound(encoder="clap", model=str(place))

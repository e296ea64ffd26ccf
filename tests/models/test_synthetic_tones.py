"""What a tone is called is what it sounds like."""

import numpy as np
import pytest
from helpers import synthetic_tones
from helpers.synthetic_tones import COMBOS, PITCHES, RHYTHMS, TIMBRES

RATE = 16_000
TONES = synthetic_tones.held_out(2 * len(COMBOS), seed=1)


def loudness(tone: synthetic_tones.Tone) -> np.ndarray:
    """Root mean square of each 10 ms, as a share of the loudest."""
    samples = synthetic_tones.samples(tone, RATE)
    parts = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    loud = np.sqrt(np.mean(np.square(parts), axis=1))
    return loud / loud.max()


def test_a_tone_is_the_same_samples_whenever_it_sounds_and_no_sample_is_cut():
    for tone in TONES:
        samples = synthetic_tones.samples(tone, RATE)
        np.testing.assert_array_equal(samples, synthetic_tones.samples(tone, RATE))
        assert (samples.dtype, len(samples)) == (np.float32, round(tone.seconds * RATE))
        assert np.abs(samples).max() < 1
    assert len({tone.caption for tone in TONES}) == len(COMBOS)


@pytest.mark.parametrize("tone", TONES, ids=lambda tone: tone.caption)
def test_a_tone_has_the_pitch_the_overtones_and_the_beats_of_its_name(tone):
    samples = synthetic_tones.samples(tone, RATE)
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    lowest, highest = PITCHES[tone.pitch]
    # A tone that comes and goes is some beats a second wide.
    assert lowest - 15 < hertz[power.argmax()] < highest + 15
    above = power[hertz > 1.5 * tone.hertz].sum() / power.sum()
    assert above > 0.2 if TIMBRES[tone.timbre] else above < 0.1
    there = loudness(tone) > 0.5
    starts = np.count_nonzero(there[1:] & ~there[:-1]) / tone.seconds
    slowest, fastest = RHYTHMS[tone.rhythm]
    assert slowest - 1 < starts < fastest + 1

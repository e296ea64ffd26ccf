"""Sounds in which somebody speaks, or nobody does, whose right transcript is known."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from helpers.media_samples import LIMITS
from helpers.sound_samples import Track, sound, talkie, tone

from mmfeat.extract.modalities.decoders.sound import render_sound
from mmfeat.schemas.inputs import AudioPrepare
from mmfeat.schemas.sound import Sound

RATE = 16_000
HERE = Path(__file__).parent
SAID = dict(line.split("\t") for line in (HERE / "spoken" / "texts.tsv").read_text().splitlines())
WHOLE = AudioPrepare(sample_rate=RATE)


def heard(data: bytes) -> Sound:
    """A file as a method gets it."""
    (found,) = render_sound(data, [WHOLE], LIMITS)
    return found


def as_sound(*parts: np.ndarray) -> Sound:
    """float32 ``[samples]`` one after the other."""
    samples = np.concatenate(parts)
    rms = float(np.sqrt(np.mean(samples**2)))
    return Sound(samples, RATE, ((0.0, len(samples) / RATE, len(samples)),), rms)


@cache
def spoken(name: str) -> np.ndarray:
    """float32 ``[samples]`` of one of the recordings."""
    return heard((HERE / "spoken" / f"{name}.opus").read_bytes()).samples


def in_container(samples: np.ndarray, container: str) -> bytes:
    """A WAV file, or a clip of 25 pictures with this sound."""
    if container == "wav":
        return sound(samples, RATE)
    return talkie(Track(samples[None], RATE, "aac"), container=container, frames=25)


def pause(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def words(text: str) -> list[str]:
    """In lower case; numbers as they are spoken."""
    numbers = {"100": "a hundred", "10": "ten", "9": "nine", "6": "six", "2": "two"}
    text = re.sub(r"\d+", lambda found: numbers.get(found[0], found[0]), text.lower())
    return re.findall(r"[a-z']+", text)


def errors(said: str, heard: str) -> int:
    """Words that were added, left out or taken for others: the numerator of the word error rate."""
    right, found = words(said), words(heard)
    row = list(range(len(found) + 1))
    for i, one in enumerate(right, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(found, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (one != other))
    return row[-1]


def without_speech(number: int) -> Iterator[tuple[str, Sound]]:
    """So many sounds of music, noise, tones and silence, each unlike the others, of 3 to 8 seconds."""
    kinds = (_music, _noise, _tones, _silence)
    for seed in range(number):
        made = kinds[seed % len(kinds)]
        rng = np.random.default_rng(seed)
        samples = made(rng, rng.uniform(3, 8)).astype(np.float32)
        yield f"{made.__name__[1:]} {seed}", as_sound(samples.clip(-1, 1))


def _music(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Chords of plucked strings over a beat."""
    count = round(seconds * RATE)
    samples, beat = np.zeros(count), round(RATE * rng.uniform(0.2, 0.5))
    root = rng.uniform(110, 330)
    for start in range(0, count, beat):
        time = np.arange(min(3 * beat, count - start)) / RATE
        scale = rng.choice([0, 2, 4, 5, 7, 9, 11], 3, replace=False)
        for step in scale:
            hertz = root * 2 ** (step / 12)
            voices = sum(np.sin(2 * np.pi * hertz * k * time) / k**1.5 for k in range(1, 6))
            samples[start : start + len(time)] += 0.12 * voices * np.exp(-4 * time)
        hit = rng.normal(0, 0.3, len(time)) * np.exp(-60 * time)
        samples[start : start + len(time)] += hit
    return samples


def _noise(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """White, pink or brown, steady or in waves."""
    count = round(seconds * RATE)
    spectrum = np.fft.rfft(rng.normal(0, 1, count))
    slope = rng.choice([0.0, 0.5, 1.0])
    spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** slope
    samples = np.fft.irfft(spectrum, count)
    waves = 1 + rng.choice([0.0, 0.8]) * np.sin(2 * np.pi * rng.uniform(0.2, 4) * np.arange(count) / RATE)
    return samples / np.abs(samples).max() * waves * rng.uniform(0.05, 0.5)


def _tones(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """One or several after each other."""
    each = seconds / rng.integers(1, 5)
    pitches = rng.uniform(80, 3000, round(seconds / each))
    return np.concatenate([tone(hertz, each, RATE, rng.uniform(0.05, 0.8)) for hertz in pitches])


def _silence(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Nothing, or what a microphone hears of it."""
    return rng.normal(0, rng.choice([0.0, 1e-4, 1e-3]), round(seconds * RATE))

"""Tones whose names are known: what can be heard in the small world of :mod:`synthetic`.

Everything is decided by a seed: the same seed gives the same samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helpers.synthetic import HELD_OUT_FROM

# Hz, from and to.
PITCHES = {"low": (140, 240), "middle": (430, 700), "high": (1300, 2200)}
# How many of a tone's overtones sound.
TIMBRES = {"pure": 0, "buzzing": 9}
# Times a second that a tone comes and goes, from and to.
RHYTHMS = {"steady": (0, 0), "pulsing": (2, 3), "fluttering": (8, 12)}
COMBOS = tuple((rhythm, pitch, timbre) for rhythm in RHYTHMS for pitch in PITCHES for timbre in TIMBRES)


@dataclass(frozen=True)
class Tone:
    """One sound, described.

    Attributes:
        hertz: of the fundamental.
        beats: times a second that it comes and goes; 0 for a tone that is always there.
        turn: where in a beat it begins, as a share of it.
        loud: root mean square of the tone while it is there.
        noise: standard deviation of the Gaussian noise on every sample.
        seed: decides the noise.
    """

    rhythm: str
    pitch: str
    timbre: str
    hertz: float
    beats: float
    turn: float
    seconds: float
    loud: float
    noise: float
    seed: int

    @property
    def caption(self) -> str:
        return f"a {self.rhythm} {self.pitch} {self.timbre} tone"


def tone(seed: int, rhythm: str | None = None, pitch: str | None = None, timbre: str | None = None) -> Tone:
    """The tone of ``seed``: 1.5 to 3 seconds."""
    rng = np.random.default_rng(seed)
    drawn = [str(rng.choice(list(names))) for names in (RHYTHMS, PITCHES, TIMBRES)]
    rhythm, pitch, timbre = (given or own for given, own in zip((rhythm, pitch, timbre), drawn, strict=True))
    return Tone(
        rhythm=rhythm,
        pitch=pitch,
        timbre=timbre,
        hertz=float(rng.uniform(*PITCHES[pitch])),
        beats=float(rng.uniform(*RHYTHMS[rhythm])),
        turn=float(rng.uniform()),
        seconds=float(rng.uniform(1.5, 3)),
        loud=float(rng.uniform(0.05, 0.3)),
        noise=float(rng.uniform(0, 0.003)),
        seed=seed,
    )


def held_out(number: int, seed: int = 0) -> list[Tone]:
    """``number`` tones that no model was trained on, cycling through all combinations."""
    first = HELD_OUT_FROM + seed * 1_000_000
    return [tone(first + i, *COMBOS[i % len(COMBOS)]) for i in range(number)]


def samples(item: Tone, rate: int) -> np.ndarray:
    """The tone as float32 ``[samples]`` within -1 and 1, ``rate`` of them a second."""
    time = np.arange(round(item.seconds * rate)) / rate
    overtones = [k for k in range(1, TIMBRES[item.timbre] + 2) if k * item.hertz < 0.45 * rate]
    wave = sum(np.sin(2 * np.pi * k * item.hertz * time) / k for k in overtones)
    wave = wave * item.loud / np.sqrt(np.mean(np.square(wave)))
    if item.beats:
        # Half of each beat is silent, with edges of a few milliseconds that make no click.
        wave = wave * (1 + np.tanh(8 * np.sin(2 * np.pi * (item.beats * time + item.turn)))) / 2
    noise = np.random.default_rng(item.seed).normal(0, item.noise, len(time))
    return np.clip(wave + noise, -1, 1).astype(np.float32)

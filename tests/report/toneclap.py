"""A plug-in encoder of sounds and texts into one space: it knows how high a tone is, and its name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmfeat.extract.base import Ask, Encoder, Placement, Query, Reads
from mmfeat.schemas.inputs import AudioPrepare
from mmfeat.schemas.outputs import VectorOut
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureSpec, ModelCard, Weights

#: Hz by name, far enough from each other.
_WORDS = ("deep", "low", "mellow", "plain", "bright", "sharp", "high", "shrill")
NAMES = {f"{word} tone": 200.0 * 1.35**n for n, word in enumerate(_WORDS)}
POINTS = {"mmfeat.encoders": {"toneclap": "toneclap:ToneClap"}}


class ToneClap(Encoder):
    reads = (Reads(("audio", "text")),)
    example = ModelCard(
        method="toneclap", model="ears", reads=("audio", "text"), dims=8, licence="MIT", weights_from="none"
    )

    @classmethod
    def resolve(cls, ask: Ask) -> FeatureSpec:
        return ask.spec(
            inputs=(ask.only.prepared(AudioPrepare(sample_rate=16_000, seconds=5)),),
            output=VectorOut(dims=len(NAMES)),
            model="ears",
            weights=Weights(origin="package", ref="toneclap"),
        )

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        self.spec = spec

    def encode_sounds(self, sounds: Sequence[Sound]) -> np.ndarray:
        return np.stack([_near(pitch(sound.samples, sound.sample_rate)) for sound in sounds])

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        heard = [[hertz for name, hertz in NAMES.items() if name in text] or [1.0] for text in texts]
        return np.stack([np.mean([_near(hertz) for hertz in of_text], axis=0) for of_text in heard])

    def query(self, modality: str) -> Query | None:
        return Query(None, self.encode_texts) if modality == "text" else super().query(modality)


def pitch(samples: np.ndarray, rate: int) -> float:
    """Hz of the loudest tone in float32 ``[samples]``."""
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * rate / len(samples))


def _near(hertz: float) -> np.ndarray:
    """float32 ``[8]``: how near each named tone is."""
    away = np.log(np.array(list(NAMES.values())) / hertz)
    return np.exp(-20 * away**2).astype(np.float32) + np.float32(0.01)

"""An encoder of sound: how much energy lies in each band of frequencies."""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from mmfeat.extract.base import Ask, Encoder, Placement, Reads
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.inputs import AudioPrepare
from mmfeat.schemas.outputs import VectorOut
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureSpec, ModelCard, Weights

SAMPLE_RATE = 16_000


class BandOptions(Frozen):
    bands: int = Field(default=8, gt=0, le=256)


class BandEnergies(Encoder):
    """The logarithm of the energy in ``bands`` bands of equal width, from 0 to 8 kHz."""

    Options = BandOptions
    reads = (Reads(("audio",)),)
    example = ModelCard(
        method="bands", model="log-energy", reads=("audio",), dims=8, licence="MIT", weights_from="none"
    )

    @classmethod
    def resolve(cls, ask: Ask[BandOptions]) -> FeatureSpec:
        return ask.spec(
            inputs=(ask.only.prepared(AudioPrepare(sample_rate=SAMPLE_RATE, seconds=10)),),
            output=VectorOut(dims=ask.options.bands),
            model="log-energy",
            weights=Weights(origin="package", ref="band_energies"),
            options=ask.options.model_dump(),
        )

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        self.spec = spec

    def encode_sounds(self, sounds: Sequence[Sound]) -> np.ndarray:
        return np.stack([self._energies(sound.samples) for sound in sounds])

    def _energies(self, samples: np.ndarray) -> np.ndarray:
        """float32 ``[samples]`` to float32 ``[bands]``."""
        power = np.abs(np.fft.rfft(samples) / len(samples)) ** 2
        bands = np.array_split(power, self.spec.options["bands"])
        return np.array([np.log10(band.sum() + 1e-9) for band in bands], np.float32)

"""What the tests of encoders of sound share: sounds of many lengths, as a run prepares them."""

from collections.abc import Sequence

import numpy as np

from helpers.encoder_checks import encoder, resolve
from helpers.sound_samples import sound
from mmfeat.extract.base import Encoder
from mmfeat.extract.modalities.decoders.sound import render_sound
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureSpec


def of_sound(**options: object) -> FeatureSpec:
    return resolve(**{"source": "audio", **options})


def hearing(**options: object) -> Encoder:
    return encoder(**{"source": "audio", **options})


def chord(seconds: float, rate: int, seed: int) -> np.ndarray:
    """float32 ``[samples]``: tones that come and go, and noise; each seed another one."""
    draw = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    tones = sum(
        np.sin(2 * np.pi * draw.uniform(100, 6000) * time) * np.sin(2 * np.pi * draw.uniform(0.1, 2) * time)
        for _ in range(3)
    )
    return (0.2 * tones + draw.normal(0, 0.02, len(time))).astype(np.float32)


def heard(samples: Sequence[np.ndarray], spec: FeatureSpec) -> list[Sound]:
    """Sounds as a run's decoder prepares them for a spec."""
    prepare = spec.inputs[0].prepare
    files = [sound(one, prepare.sample_rate, "pcm_f32le") for one in samples]
    return [render_sound(data, [prepare], MediaLimits())[0] for data in files]

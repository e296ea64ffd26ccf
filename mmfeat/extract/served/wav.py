"""A sound as a file that servers take."""

from __future__ import annotations

import io
import wave

import numpy as np

_LOUDEST = 32_767


def wav_of(samples: np.ndarray, sample_rate: int) -> bytes:
    """A WAV file of one channel and 16 bits a sample.

    Args:
        samples: float32 ``[samples]``; what lies outside of [-1, 1] is cut off.
        sample_rate: in Hz.
    """
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(2)
        output.setframerate(sample_rate)
        output.writeframes(np.round(samples.clip(-1, 1) * _LOUDEST).astype("<i2").tobytes())
    return file.getvalue()

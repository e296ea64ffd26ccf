"""Decoded sound, as methods get it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: The mark, and the reason, of a row whose sound is silence.
SILENCE = "silence"
# Root mean square: -60 dB of the loudest that there is.
_SILENT = 0.001


@dataclass(frozen=True)
class Sound:
    """The windows of one item's sound, prepared in one way.

    Attributes:
        samples: float32 ``[samples]`` in [-1, 1], one channel, the windows one after the other.
        sample_rate: samples a second (Hz).
        windows: of each window, in order, its start and end in seconds and its number of samples. Time
            0 is the first frame of a clip, as in :class:`~mmfeat.schemas.media.Frames`, and the first
            sample of a file without pictures; negative is what sounds before a clip's first frame.
        rms: root mean square of ``samples``.
    """

    samples: np.ndarray
    sample_rate: int
    windows: tuple[tuple[float, float, int], ...]
    rms: float

    @property
    def parts(self) -> list[np.ndarray]:
        """float32 ``[samples]`` of each window."""
        ends = np.cumsum([samples for _, _, samples in self.windows])
        return np.split(self.samples, ends[:-1])

    @property
    def silent(self) -> bool:
        """Whether nothing can be heard."""
        return self.rms < _SILENT

"""How sound is prepared for a model, and what the decoder hands over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

WindowChoice = Literal["first", "uniform", "all"]


class SoundPrepare(BaseModel):
    """Which windows of a sound are taken, and at which sample rate; all channels become one.

    With ``N`` samples in the resampled sound and ``n = round(seconds * sample_rate)`` in a window, at
    least 1:
        ``first``: one window from the start; the whole sound without ``seconds``.
        ``all``: consecutive windows from the start, at most ``count``.
        ``uniform``: ``k = min(count, ceil(N / n))`` windows centred in ``k`` equal spans, window ``i``
        from ``floor(((2 i + 1) * N - k * n) / (2 k))`` on, moved inwards where that is before 0 or
        after ``N - n``. They overlap, and leave nothing out, where the sound is no longer than
        ``count`` windows.
    A window that reaches beyond the end of the sound is as long as what there is: the whole of a sound
    shorter than ``n``, and the last one of ``all``. Nothing is padded.

    Attributes:
        sample_rate: samples a second (Hz).
        seconds: length of a window; None, for ``first`` alone, takes all.
        windows: how windows are chosen.
        count: windows of ``uniform``, most windows of ``all``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_rate: int = Field(gt=0, le=192_000)
    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    windows: WindowChoice = "first"
    count: int = Field(default=1, gt=0, le=4096)

    @model_validator(mode="after")
    def _extras_go_with_windows(self) -> SoundPrepare:
        if self.windows == "first" and self.count != 1:
            raise ValueError("count is given for windows 'uniform' and 'all' and only there")
        if self.windows != "first" and self.seconds is None:
            raise ValueError(f"seconds are needed for windows '{self.windows}'")
        return self

    @property
    def window(self) -> int | None:
        """Samples of a window; None where one window takes all."""
        return None if self.seconds is None else max(1, round(self.seconds * self.sample_rate))


@dataclass(frozen=True)
class Sound:
    """The windows of one item's sound, prepared in one way.

    Attributes:
        samples: float32 ``[samples]`` in [-1, 1], one channel, the windows one after the other.
        sample_rate: samples a second (Hz).
        windows: of each window, in order, its start and end in seconds and its number of samples. Time
            0 is the first frame of a clip, as in :class:`~mmfeat.schemas.media.Frames`, and the first
            sample of a file without pictures; negative is what sounds before a clip's first frame.
        rms: root mean square of ``samples``; 0.0 is silence.
    """

    samples: np.ndarray
    sample_rate: int
    windows: tuple[tuple[float, float, int], ...]
    rms: float

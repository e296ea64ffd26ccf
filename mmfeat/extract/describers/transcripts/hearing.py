"""What is heard of a sound before any word of it: where somebody speaks, and the pieces that a model gets.

A model of speech makes words up if nobody speaks. Silero's detector of voices, in the copy that
faster-whisper brings, is therefore asked first, and only what it calls speech reaches the model: in pieces of
30 s at most, which is what Whisper hears at once, each of them cut if nobody speaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from mmfeat.extract.base import Ask
from mmfeat.extract.options import SoundOptions, sound_input
from mmfeat.extract.weights import file_digest
from mmfeat.schemas.errors import ConfigError, MissingExtra
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.inputs import AudioPrepare, Input
from mmfeat.schemas.sound import Sound

#: Hz, of everything that is heard.
SAMPLE_RATE = 16_000
#: The most that a model hears at once.
PIECE_SECONDS = 30.0

# Of a sound, unless the feature says otherwise: the memory of 58 MB.
_MOST_SECONDS = 900.0
_DEFAULT_THRESHOLD, _DEFAULT_PAD = 0.5, 0.4
# Part of what `method_version` 1 means.
_LEAST_SPEECH, _LEAST_SILENCE = 0.25, 0.5
_PACKAGE, _DETECTORS = "faster-whisper", "faster_whisper/assets/silero_vad*.onnx"

# Seconds by which a model errs when it says where one sentence ends and the next begins.
_ROUGHLY = 0.3

# Of a window, in samples: from, to.
_Span = tuple[int, int]


class HearingOptions(SoundOptions):
    """What is heard, and what is taken for speech.

    Attributes:
        vad: whether the model hears only what the detector calls speech; true when None. Where somebody
            speaks is measured in either case.
        vad_threshold: from which probability a moment is speech; 0.5 when None.
        vad_pad: seconds before and after speech that are heard with it; 0.4 when None.
    """

    vad: bool | None = None
    vad_threshold: float | None = Field(default=None, gt=0, lt=1)
    vad_pad: float | None = Field(default=None, ge=0, le=5)


class VoiceActivity(Frozen):
    """Where somebody speaks, by Silero's detector.

    Attributes:
        detector: the file of its weights.
        digest: ``sha256:...`` of that file.
        threshold: probability from which a moment is speech.
        pad_seconds: that are heard before and after what is spoken.
        filters: whether the model hears only what is spoken; else all, and speech is merely measured.
    """

    detector: str
    digest: str
    threshold: float
    pad_seconds: float
    filters: bool


@dataclass(frozen=True)
class Piece:
    """What a model hears at once.

    Attributes:
        samples: float32 ``[samples]``, of :data:`PIECE_SECONDS` at most.
        spans: of each stretch of the sound in it, in order, its start and end in the item's seconds.
    """

    samples: np.ndarray
    spans: tuple[tuple[float, float], ...]

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / SAMPLE_RATE

    def start(self, seconds: float) -> float:
        """When in the item's time begins what begins at a moment of the piece.

        Models say a moment roughly: what seems to begin at the very end of a stretch begins in the next one.
        """
        for start, end in self.spans[:-1]:
            if seconds < end - start - _ROUGHLY:
                return start + max(0.0, seconds)
            seconds -= end - start
        return min(self.spans[-1][0] + max(0.0, seconds), self.spans[-1][1])

    def end(self, seconds: float) -> float:
        """When in the item's time ends what ends at a moment of the piece: see :meth:`start`."""
        for start, end in self.spans[:-1]:
            if seconds <= end - start + _ROUGHLY:
                return min(start + seconds, end)
            seconds -= end - start
        return min(self.spans[-1][0] + seconds, self.spans[-1][1])


@dataclass(frozen=True)
class Heard:
    """One item's sound.

    Attributes:
        pieces: for the model, in order of time; none if nobody speaks.
        seconds: that were listened to.
        speech_seconds: in which somebody speaks.
    """

    pieces: tuple[Piece, ...]
    seconds: float
    speech_seconds: float


def heard_input(ask: Ask[Any]) -> Input:
    """The whole sound up to a quarter of an hour, or the windows that the options ask for."""
    return sound_input(ask, ask.only, AudioPrepare(sample_rate=SAMPLE_RATE, seconds=_MOST_SECONDS))


def voice_activity(ask: Ask[Any]) -> VoiceActivity:
    """What a feature takes for speech.

    Raises:
        MissingExtra: there is no detector.
        ConfigError: options that do not go together.
    """
    options: HearingOptions = ask.options
    if options.vad is False and options.vad_pad is not None:
        raise ask.error("'vad_pad' goes with vad = true", "Where everything is heard, nothing is cut.")
    detector = _detector()
    pad = _DEFAULT_PAD if options.vad_pad is None else options.vad_pad
    return VoiceActivity(
        detector=detector.name,
        digest=f"sha256:{file_digest(detector)}",
        threshold=options.vad_threshold or _DEFAULT_THRESHOLD,
        pad_seconds=pad,
        filters=options.vad is not False,
    )


def _detector() -> Path:
    """The detector's weights, found without importing anything."""
    try:
        root = Path(str(distribution(_PACKAGE).locate_file("")))
        return max(root.glob(_DETECTORS))
    except (PackageNotFoundError, ValueError):
        raise MissingExtra("Knowing where somebody speaks", "speech", _PACKAGE) from None


class Ear:
    """Silero's detector, loaded.

    Raises:
        MissingExtra: it is not installed.
        ConfigError: it is not the one that the feature was resolved with.
    """

    def __init__(self, name: str, voice: VoiceActivity) -> None:
        try:
            import onnxruntime  # noqa: F401 - the detector's own error would name no extra
            from faster_whisper.vad import get_speech_timestamps
        except ModuleNotFoundError as error:
            raise MissingExtra("Knowing where somebody speaks", "speech", error.name or _PACKAGE) from None
        found = _detector()
        if f"sha256:{file_digest(found)}" != voice.digest:
            raise ConfigError(
                f"feature {name!r}: {found.name} is not the detector of voices that was planned",
                hint=f"Another {_PACKAGE} is installed here. Start the run again to use this one.",
            )
        self._voice = voice
        self._spoken = get_speech_timestamps

    def hear(self, sound: Sound) -> Heard:
        """Where somebody speaks in each window of a sound, and what the model gets of it."""
        pieces: list[Piece] = []
        spoken, at = 0, 0
        for start, _, count in sound.windows:
            window = sound.samples[at : at + count]
            spans = self._spans(window)
            spoken += sum(end - begin for begin, end in spans)
            heard = self._padded(spans, count) if self._voice.filters else _stretches(count)
            pieces += (_piece(window, part, start) for part in _packed(heard))
            at += count
        return Heard(tuple(pieces), len(sound.samples) / SAMPLE_RATE, spoken / SAMPLE_RATE)

    def _spans(self, window: np.ndarray) -> list[_Span]:
        """What is spoken in a window, without pauses."""
        from faster_whisper.vad import VadOptions

        pads = 2 * self._voice.pad_seconds
        options = VadOptions(
            threshold=self._voice.threshold,
            min_speech_duration_ms=round(1000 * _LEAST_SPEECH),
            min_silence_duration_ms=round(1000 * _LEAST_SILENCE),
            max_speech_duration_s=PIECE_SECONDS - pads,
            speech_pad_ms=0,
        )
        spans = self._spoken(window, options, sampling_rate=SAMPLE_RATE)
        return [(span["start"], min(span["end"], len(window))) for span in spans]

    def _padded(self, spans: list[_Span], count: int) -> list[_Span]:
        """Spans with what stands before and after them, as far as the middle of a pause."""
        pad = round(self._voice.pad_seconds * SAMPLE_RATE)
        middles = [(one[1] + other[0]) // 2 for one, other in pairwise(spans)]
        borders = [0, *middles, count]
        return [
            (max(begin - pad, borders[at]), min(end + pad, borders[at + 1]))
            for at, (begin, end) in enumerate(spans)
        ]


def _stretches(count: int) -> list[_Span]:
    """All of a window."""
    most = round(PIECE_SECONDS * SAMPLE_RATE)
    return [(begin, min(begin + most, count)) for begin in range(0, count, most)]


def _packed(spans: list[_Span]) -> Iterator[list[_Span]]:
    """Spans that follow each other, as many together as a model hears at once."""
    part: list[_Span] = []
    for span in spans:
        if part and sum(end - begin for begin, end in [*part, span]) > PIECE_SECONDS * SAMPLE_RATE:
            yield part
            part = []
        part.append(span)
    if part:
        yield part


def _piece(window: np.ndarray, spans: list[_Span], start: float) -> Piece:
    times = tuple((start + begin / SAMPLE_RATE, start + end / SAMPLE_RATE) for begin, end in spans)
    return Piece(np.concatenate([window[begin:end] for begin, end in spans]), times)

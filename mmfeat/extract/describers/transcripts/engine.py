"""What Whisper is for whatever library runs it: a piece of sound in, tokens with times out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

import numpy as np

from mmfeat.extract.describers.transcripts.hearing import PIECE_SECONDS
from mmfeat.extract.describers.transcripts.transcript import Segment, compression_ratio
from mmfeat.schemas.frozen import Frozen

EngineName = Literal["ctranslate2", "transformers"]
Task = Literal["transcribe", "translate"]

_Value = TypeVar("_Value")

# Seconds from one of Whisper's times to the next.
_TICK = 0.02


class WhisperSettings(Frozen):
    """How Whisper picks tokens, always at temperature 0: options of a resolved spec.

    Attributes:
        engine: the library that runs it, which has its own arithmetic and beam search.
        most_tokens: of one piece, its times included. Whisper's decoder holds no more than 448 with what is
            asked of it.
    """

    engine: EngineName
    task: Task = "transcribe"
    beam_size: int = 5
    most_tokens: int = 440


@dataclass(frozen=True)
class Decoded:
    """What the model said of one piece.

    Attributes:
        tokens: text and times, perhaps with other special tokens.
        avg_logprob: mean logarithm of their probabilities.
        no_speech_prob: that nobody speaks.
    """

    tokens: tuple[int, ...]
    avg_logprob: float
    no_speech_prob: float


class Engine(ABC):
    """A library with the weights.

    Attributes:
        at_once: pieces that it is given together.
        settings: how it picks tokens.
        known: the languages that the model knows; ``en`` alone of one that can neither say which it hears nor
            translate.
        runtime: the library with its version.
        first_time: the token of 0 s; every later one stands for 0.02 s more.
    """

    at_once: ClassVar[int] = 8
    settings: WhisperSettings
    known: frozenset[str]
    runtime: str
    first_time: int

    @abstractmethod
    def languages(self, pieces: Sequence[np.ndarray]) -> list[tuple[str, float]]:
        """The language in which each piece is spoken and its probability; ``en`` and 1 of a model that knows
        no other."""

    @abstractmethod
    def decode(self, pieces: Sequence[np.ndarray], languages: Sequence[str]) -> list[Decoded]:
        """What is said in float32 ``[samples]`` of 30 s at most, each in the language given."""

    @abstractmethod
    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as text, without special ones."""

    def brief(self, most_tokens: int) -> Engine:
        """The same that says no more than so many tokens of a piece."""
        shorter = copy(self)
        shorter.settings = self.settings.model_copy(update={"most_tokens": most_tokens})
        return shorter

    def parts(self, values: Sequence[_Value]) -> Iterator[Sequence[_Value]]:
        """Values in lists of :attr:`at_once`."""
        return (values[start : start + self.at_once] for start in range(0, len(values), self.at_once))

    def segments(self, decoded: Decoded, seconds: float) -> tuple[Segment, ...]:
        """The parts of what was said in a piece of so many seconds."""
        spans = timed(decoded.tokens, self.first_time, min(seconds, PIECE_SECONDS))
        texts = [(start, end, self.text(tokens)) for start, end, tokens in spans]
        ratio = compression_ratio("".join(text for _, _, text in texts))
        return tuple(
            Segment(start, end, text, decoded.no_speech_prob, decoded.avg_logprob, ratio)
            for start, end, text in texts
            if text.strip()
        )


def timed(tokens: Sequence[int], first_time: int, seconds: float) -> list[tuple[float, float, list[int]]]:
    """Tokens between two times, with these; the last ones may lack their end, which is then the piece's.

    Whisper writes a time before and after each part. No time lies behind the end of the piece.
    """
    found: list[tuple[float, float, list[int]]] = []
    start, part = 0.0, list[int]()
    for token in tokens:
        if token < first_time:
            part.append(token)
            continue
        time = min((token - first_time) * _TICK, seconds)
        if part:
            found.append((start, max(start, time), part))
            part = []
        start = time
    if part:
        found.append((start, seconds, part))
    return found

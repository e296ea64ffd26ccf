"""A transcript, and what is left out of it: words that a model makes up if nobody speaks."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

from mmfeat.extract.base import Reads, Row, Text, Transcriber, Usage
from mmfeat.extract.describers.transcripts.hearing import Ear, Heard, HearingOptions, Piece, VoiceActivity
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.frozen import Frozen

# Whisper's own (openai/whisper, transcribe.py): a piece is silence where both hold.
_SILENT_ABOVE, _UNLIKELY_BELOW = 0.6, -1.0
_DIGITS = 4


@dataclass(frozen=True)
class Segment:
    """Words that were said one after the other.

    Attributes:
        start, end: in seconds.
        text: as the model gives it, with the blank before it where the language writes one.
        no_speech_prob: probability, by the model, that nobody speaks in its piece.
        avg_logprob: mean logarithm of the probabilities of the tokens of its piece.
        compression_ratio: bytes of the piece's text to what zlib makes of them; high for a loop.
    """

    start: float
    end: float
    text: str
    no_speech_prob: float | None = None
    avg_logprob: float | None = None
    compression_ratio: float | None = None

    @property
    def is_made_up(self) -> bool:
        """Whether the model itself finds it unlikely and thinks that nobody speaks."""
        if self.no_speech_prob is None or self.avg_logprob is None:
            return False
        return self.no_speech_prob > _SILENT_ABOVE and self.avg_logprob < _UNLIKELY_BELOW

    def facts(self) -> dict[str, Any]:
        """What is stored of it."""
        rounded = {k: round(v, _DIGITS) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return {k: v for k, v in {**rounded, "text": self.text.strip()}.items() if v is not None}


@dataclass(frozen=True)
class Said:
    """What a model heard in one piece.

    Attributes:
        segments: their times from the piece's start.
        language: in which it was said, as the model writes it; None if it does not say so.
        usage: what it cost of a server.
    """

    segments: tuple[Segment, ...]
    language: str | None = None
    language_probability: float | None = None
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Transcript(Text):
    """What was said in an item's sound; empty if nobody speaks.

    Attributes:
        segments: the text's parts, in order of time.
        left_out: what the model heard and did not believe itself.
        language: of the first piece.
        seconds, speech_seconds: that were heard, and in which somebody speaks.
    """

    can_be_empty: ClassVar[bool] = True
    segments: tuple[Segment, ...] = ()
    left_out: tuple[Segment, ...] = ()
    language: str | None = None
    language_probability: float | None = None
    seconds: float = 0.0
    speech_seconds: float = 0.0
    asked: Usage = field(default_factory=Usage)

    @property
    def usage(self) -> Usage:
        """See :attr:`Text.usage`."""
        return self.asked

    @property
    def parts(self) -> tuple[Any, ...]:
        """See :attr:`Text.parts`."""
        return tuple((one.start, one.end, one.text) for one in (*self.segments, *self.left_out))

    def facts(self) -> dict[str, Any]:
        """See :meth:`Text.facts`."""
        facts: dict[str, Any] = {
            "segments": [one.facts() for one in self.segments],
            "heard_seconds": round(self.seconds, _DIGITS),
            "speech_seconds": round(self.speech_seconds, _DIGITS),
            "speech_share": round(self.speech_seconds / self.seconds, _DIGITS) if self.seconds else 0.0,
        }
        if self.left_out:
            facts["left_out"] = [one.facts() for one in self.left_out]
        if self.language is not None:
            facts["language"] = self.language
        if self.language_probability is not None:
            facts["language_probability"] = round(self.language_probability, _DIGITS)
        return facts


class HearingSettings(Frozen):
    """What every transcriber's spec says beside its model: see :class:`VoiceActivity`."""

    vad: VoiceActivity
    language: str | None = None


class PieceTranscriber(Transcriber):
    """Finds what is spoken, and has it written down piece by piece: :meth:`write_down`."""

    Options: ClassVar[type[HearingOptions]] = HearingOptions
    reads: ClassVar[tuple[Reads, ...]] = (Reads(("audio",)),)
    # A quarter of an hour of each may be in memory.
    batch_size: ClassVar[int] = 8

    _ear: Ear

    @abstractmethod
    def write_down(self, heard: Sequence[Heard]) -> list[list[Said | ItemError]]:
        """What is said in each piece of each sound, in order."""

    def run(self, rows: Sequence[Row]) -> list[Transcript | ItemError]:
        """See :meth:`Method.run`."""
        heard = [self._ear.hear(sound) for (sound,) in rows]
        said = self.write_down(heard)
        return [transcript(one, of_one) for one, of_one in zip(heard, said, strict=True)]


def transcript(heard: Heard, said: Sequence[Said | ItemError]) -> Transcript | ItemError:
    """What was said in all pieces of a sound; the first failure of one where one failed."""
    pieces: list[Said] = []
    for one in said:
        if isinstance(one, ItemError):
            return one
        pieces.append(one)
    segments = [
        _in_time(segment, piece)
        for piece, of_piece in zip(heard.pieces, pieces, strict=True)
        for segment in of_piece.segments
        if segment.text.strip()
    ]
    kept = tuple(segment for segment in segments if not segment.is_made_up)
    first = pieces[0] if pieces else Said(())
    return Transcript(
        "".join(segment.text for segment in kept).strip(),
        segments=kept,
        left_out=tuple(segment for segment in segments if segment.is_made_up),
        language=first.language,
        language_probability=first.language_probability,
        seconds=heard.seconds,
        speech_seconds=heard.speech_seconds,
        asked=sum((one.usage for one in pieces), Usage()),
    )


def compression_ratio(text: str) -> float:
    """Bytes of a text to what zlib makes of them, as Whisper measures loops; 0 of no text."""
    data = text.strip().encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def _in_time(segment: Segment, piece: Piece) -> Segment:
    return replace(segment, start=piece.start(segment.start), end=piece.end(segment.end))

"""Lines of text as they are read off frames, and the same line on several frames as one."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import reduce

from mmfeat.extract.describers.ocr.order import Box, pieces_of_lines, reading_order

# Part of what `method_version` 1 means.
_LEAST_ALIKE = 0.8
_LEAST_OVERLAP = 0.3


@dataclass(frozen=True)
class Line:
    """One line of text on one frame, or a piece of one.

    Attributes:
        box: in pixels, or in shares of the frame's width and height.
        score: the recogniser's, 0 to 1; of several pieces the lowest.
    """

    text: str
    box: Box
    score: float

    @classmethod
    def of(cls, pieces: Sequence[Line]) -> Line:
        """The line that pieces make, which stand from left to right."""
        lefts, tops, rights, bottoms = zip(*(piece.box for piece in pieces), strict=True)
        return cls(
            reduce(_joined, (piece.text for piece in pieces)),
            (min(lefts), min(tops), max(rights), max(bottoms)),
            min(piece.score for piece in pieces),
        )


@dataclass(frozen=True)
class Shown:
    """One line of text for as long as it is shown.

    Attributes:
        line: its best reading, of the highest score.
        first, last: numbers of the frames between which it is seen, from 0.
        frames: on how many it is.
    """

    line: Line
    first: int
    last: int
    frames: int = 1

    def again(self, line: Line, frame: int) -> Shown:
        """The same, seen on a further frame."""
        best = max(self.line, line, key=lambda one: one.score)
        return replace(self, line=best, last=frame, frames=self.frames + 1)


def in_reading_order(pieces: Sequence[Line]) -> list[Line]:
    """The lines of one frame as a person reads them, of pieces with boxes in pixels."""
    groups = pieces_of_lines([piece.box for piece in pieces])
    lines = [Line.of([pieces[at] for at in group]) for group in groups]
    return [lines[at] for at in reading_order([line.box for line in lines])]


def shown(frames: Sequence[Sequence[Line]]) -> list[Shown]:
    """The lines of a clip's frames, each once, in the order in which they appear.

    A line is the same one where its letters and digits are those of an earlier frame, wherever they stand:
    a caption stays, a watermark moves about. Where a reading is off by a few letters, it is the same if it
    overlaps a line of the frame before and no digit differs: ``Top 1`` and ``Top 2`` are two lines. A line
    goes on at most once per frame, so that what stands twice on one frame is two lines.

    Args:
        frames: the lines of each frame in reading order.
    """
    found: list[Shown] = []
    known: dict[str, list[int]] = {}
    before: list[int] = []
    for number, lines in enumerate(frames):
        now: list[int] = []
        for line in lines:
            read = _letters(line.text)
            candidates = [one for one in known.get(read, []) if one not in now]
            if not candidates:
                candidates = [one for one in before if one not in now and _is_misread(found[one].line, line)]
            if candidates:
                at = max(candidates, key=lambda one: _overlap(found[one].line.box, line.box))
                found[at] = found[at].again(line, number)
            else:
                at = len(found)
                found.append(Shown(line, number, number))
            if at not in known.setdefault(read, []):
                known[read].append(at)
            now.append(at)
        before = now
    return found


def _is_misread(one: Line, other: Line) -> bool:
    """Whether two lines of neighbouring frames are readings of one, that differ by a few letters."""
    if _overlap(one.box, other.box) < _LEAST_OVERLAP:
        return False
    texts = _letters(one.text), _letters(other.text)
    digits = [[letter for letter in text if letter.isdigit()] for text in texts]
    return digits[0] == digits[1] and SequenceMatcher(None, *texts, autojunk=False).ratio() >= _LEAST_ALIKE


def _joined(text: str, more: str) -> str:
    """Two pieces of a line, with a blank between them unless their script has none."""
    return text + more if _has_no_blanks(text[-1:]) and _has_no_blanks(more[:1]) else f"{text} {more}"


def _has_no_blanks(letter: str) -> bool:
    """Whether a letter is of Chinese or Japanese; Korean, as wide, has blanks."""
    wide = bool(letter) and unicodedata.east_asian_width(letter) in "WF"
    return wide and not unicodedata.name(letter, "").startswith("HANGUL")


def _letters(text: str) -> str:
    """Letters and digits alone, in one case and one width; of a text without any, all of it."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(letter for letter in plain if letter.isalnum()) or plain


def _overlap(one: Box, other: Box) -> float:
    """What two boxes share of the area that they cover together, 0 to 1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0.0) * max(height, 0.0)
    total = sum(_areas((one, other))) - both
    return both / total if total > 0 else 0.0


def _areas(boxes: Iterable[Box]) -> list[float]:
    return [(right - left) * (bottom - top) for left, top, right, bottom in boxes]

"""The order in which a person reads the lines of a picture, from their boxes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median

#: ``left, top, right, bottom``, x to the right and y down.
Box = tuple[float, float, float, float]

# Between two pieces of one line, in heights of the lower one: a blank is wider between letters, but detectors
# draw boxes larger than the text. The gutter between columns is wider.
_WIDEST_BLANK = 0.3
_MOST_TALLER = 2
# A column of text has lines of some length. Short pieces above one another, such as the prices of a table,
# are read row by row. In heights of a line.
_LEAST_WIDTH_OF_COLUMNS = 5


def reading_order(boxes: Sequence[Box]) -> list[int]:
    """The indices of boxes in reading order: rows from top to bottom, each from left to right; columns of
    text one after the other.

    Boxes are in one row where their inner halves overlap vertically: detectors draw boxes larger than the
    text, so that those of neighbouring rows overlap a little. Columns are what a vertical gap parts all the
    way down, if each of them has at least two rows, of lines that are at least five times as wide as high.

    Args:
        boxes: in one unit in both directions, such as pixels.
    """
    return _ordered(boxes, range(len(boxes)))


def pieces_of_lines(boxes: Sequence[Box]) -> list[list[int]]:
    """Boxes by the line that they are pieces of, each from left to right: detectors part some words of large
    or widely set text from one another. Lines are in the order of their first pieces."""
    lines: list[list[int]] = []
    for one in sorted(range(len(boxes)), key=lambda one: boxes[one]):
        before = [line for line in lines if _goes_on(boxes[line[-1]], boxes[one])]
        if before:
            max(before, key=lambda line: boxes[line[-1]][2]).append(one)
        else:
            lines.append([one])
    return lines


def _goes_on(one: Box, other: Box) -> bool:
    """Whether a box, further to the right, is the next piece of another one's line."""
    heights = one[3] - one[1], other[3] - other[1]
    lower, taller = min(heights), max(heights)
    level = min(one[3], other[3]) - max(one[1], other[1]) > lower / 2
    gap = other[0] - one[2]
    return level and taller <= _MOST_TALLER * lower and -lower / 2 < gap < _WIDEST_BLANK * lower


def _ordered(boxes: Sequence[Box], some: Iterable[int]) -> list[int]:
    rows, found = _rows(boxes, some), []
    while rows:
        together, columns = _side_by_side(boxes, rows)
        if len(columns) > 1 and all(_is_column(boxes, column) for column in columns):
            found += [one for column in columns for one in _ordered(boxes, column)]
        else:
            found += [one for row in rows[:together] for one in _row(boxes, row)]
        rows = rows[together:]
    return found


def _side_by_side(boxes: Sequence[Box], rows: Sequence[Sequence[int]]) -> tuple[int, list[list[int]]]:
    """How many rows from the first on have a vertical gap in common, at least one, and what it parts."""
    together, columns = 1, _across(boxes, rows[0])
    while len(columns) > 1 and together < len(rows):
        wider = _across(boxes, [*(one for column in columns for one in column), *rows[together]])
        if len(wider) < 2:
            break
        together, columns = together + 1, wider
    return together, columns


def _is_column(boxes: Sequence[Box], some: Sequence[int]) -> bool:
    width = median(boxes[one][2] - boxes[one][0] for one in some)
    height = median(boxes[one][3] - boxes[one][1] for one in some)
    return len(_rows(boxes, some)) > 1 and width >= _LEAST_WIDTH_OF_COLUMNS * height


def _row(boxes: Sequence[Box], row: Sequence[int]) -> list[int]:
    """A row from left to right; of what a gap parts, each piece may have rows of its own."""
    pieces = _across(boxes, row)
    if len(pieces) == 1:
        return sorted(row, key=lambda one: boxes[one])
    return [one for piece in pieces for one in _ordered(boxes, piece)]


def _rows(boxes: Sequence[Box], some: Iterable[int]) -> list[list[int]]:
    """Groups of boxes from top to bottom, by the inner halves of their heights."""

    def inner_half(box: Box) -> tuple[float, float]:
        quarter = (box[3] - box[1]) / 4
        return box[1] + quarter, box[3] - quarter

    return _apart(boxes, some, inner_half)


def _across(boxes: Sequence[Box], some: Iterable[int]) -> list[list[int]]:
    """Groups of boxes from left to right, with a gap between any two."""
    return _apart(boxes, some, lambda box: (box[0], box[2]))


def _apart(
    boxes: Sequence[Box], some: Iterable[int], span: Callable[[Box], tuple[float, float]]
) -> list[list[int]]:
    """Groups of boxes in order of their spans, which overlap within a group and nowhere else."""
    groups: list[list[int]] = []
    end = 0.0
    for one in sorted(some, key=lambda one: (span(boxes[one]), boxes[one])):
        start, stop = span(boxes[one])
        if groups and start < end:
            groups[-1].append(one)
            end = max(end, stop)
        else:
            groups.append([one])
            end = stop
    return groups

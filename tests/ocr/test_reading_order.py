"""The order of lines, from boxes that are made up."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmfeat.extract.describers.ocr.order import Box, pieces_of_lines, reading_order

#: A machine on which much else is at work.
BUSY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
BOXES = st.lists(
    st.builds(
        lambda x, y, w, h: (x, y, x + w, y + h), *[st.integers(0, 400)] * 2, *[st.integers(1, 200)] * 2
    ),
    max_size=12,
)


def line(left: float, top: float, width: float = 200, height: float = 20) -> Box:
    return (left, top, left + width, top + height)


def column(left: float, rows: int, top: float = 50, pitch: float = 30) -> list[Box]:
    return [line(left, top + pitch * row) for row in range(rows)]


def in_order(boxes: list[Box]) -> list[Box]:
    return [boxes[at] for at in reading_order(boxes)]


@BUSY
@given(BOXES)
def test_every_line_is_read_once(boxes):
    assert sorted(reading_order(boxes)) == list(range(len(boxes)))


@BUSY
@given(BOXES, st.randoms(use_true_random=False))
def test_the_order_in_which_lines_are_found_does_not_matter(boxes, chance):
    mixed = list(boxes)
    chance.shuffle(mixed)
    assert in_order(mixed) == in_order(boxes)


@BUSY
@given(BOXES, st.integers(-300, 300), st.integers(-300, 300), st.sampled_from([0.5, 2, 8]))
def test_where_a_picture_stands_and_how_large_it_is_does_not_matter(boxes, right, down, scale):
    moved = [tuple(scale * (side + (right, down)[n % 2]) for n, side in enumerate(box)) for box in boxes]
    assert reading_order(moved) == reading_order(boxes)


@BUSY
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(20, 200)), min_size=1, max_size=8))
def test_rows_are_read_from_top_to_bottom_however_they_are_indented(rows):
    # Detectors draw boxes larger than the text: neighbours overlap by a third.
    boxes = [line(left, 20 * at, width, 30) for at, (left, width) in enumerate(rows)]
    assert in_order(boxes[::-1]) == boxes


@BUSY
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(10, 90)), min_size=1, max_size=8))
def test_a_row_is_read_from_left_to_right_though_it_is_not_quite_straight(words):
    boxes = [line(100 * at, 50 + down, width) for at, (down, width) in enumerate(words)]
    assert in_order(boxes[::-1]) == boxes


@BUSY
@given(st.integers(2, 6), st.integers(2, 6), st.integers(-9, 9))
def test_columns_under_a_title_are_read_one_after_the_other(left, right, higher):
    boxes = [line(0, 0, 500), *column(0, left), *column(260, right, 50 + higher), line(0, 300, 500)]
    assert in_order(boxes[::-1]) == boxes


def test_a_table_is_read_row_by_row():
    boxes = [line(x, y, 60) for y in (0, 40, 80) for x in (0, 200, 400)]
    assert in_order(boxes[::-1]) == boxes


def test_small_lines_beside_a_large_one_are_read_after_it():
    boxes = [line(0, 0, 100, 60), line(120, 2, 80, 20), line(118, 32, 80, 20)]
    assert in_order(boxes[::-1]) == boxes


@pytest.mark.parametrize("rows", [400])
def test_hundreds_of_lines_are_put_in_order(rows):
    boxes = [line(260 * n, 30 * row) for row in range(rows) for n in range(2)]
    assert in_order(boxes) == boxes[::2] + boxes[1::2]


# Pieces of lines -----------------------------------------------------------------------------------------


@BUSY
@given(st.lists(st.integers(2, 9), min_size=1, max_size=6), st.integers(-4, 4))
def test_words_that_a_detector_parted_are_one_line(widths, gap):
    lefts = [sum(10 * width + gap for width in widths[:at]) for at in range(len(widths))]
    words = [
        line(left, at % 3, 10 * width) for at, (left, width) in enumerate(zip(lefts, widths, strict=True))
    ]
    below = line(0, 28, 300)
    assert pieces_of_lines([below, *words[::-1]])[::-1] in (
        [[len(words) - at for at in range(len(words))], [0]],
        [[0], [len(words) - at for at in range(len(words))]],
    )


@pytest.mark.parametrize(
    "other",
    [line(210, 0), line(202, 12), line(202, 0, 100, 50)],
    ids=["a wide gap", "another row", "another size"],
)
def test_what_stands_apart_is_no_piece_of_a_line(other):
    assert len(pieces_of_lines([line(0, 0), other])) == 2


@BUSY
@given(BOXES)
def test_every_box_is_a_piece_of_one_line(boxes):
    assert sorted(one for pieces in pieces_of_lines(boxes) for one in pieces) == list(range(len(boxes)))

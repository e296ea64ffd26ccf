"""The same line on several frames is one line."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmfeat.extract.describers.ocr.lines import Line, Shown, in_reading_order, shown

#: A machine on which much else is at work.
BUSY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
HERE, NEAR, THERE = (0.1, 0.1, 0.6, 0.2), (0.11, 0.09, 0.62, 0.2), (0.5, 0.8, 0.9, 0.9)


def line(text: str, box=HERE, score: float = 0.9) -> Line:
    return Line(text, box, score)


def spans(frames: list[list[Line]]) -> list[tuple[str, int, int, int]]:
    return [(one.line.text, one.first, one.last, one.frames) for one in shown(frames)]


def test_a_line_that_stays_is_one_from_its_first_to_its_last_frame():
    frames = [[], [line("Big sale")], [line("Big sale", NEAR)], [line("BIG  SALE!", NEAR)], []]
    assert spans(frames) == [("Big sale", 1, 3, 3)]


def test_the_best_reading_stands_for_a_line():
    frames = [[line("Summer saie", score=0.6)], [line("Summer sale", NEAR, 0.95)], [line("Summcr sale")]]
    assert shown(frames) == [Shown(line("Summer sale", NEAR, 0.95), 0, 2, 3)]


def test_lines_that_differ_by_a_digit_are_two():
    frames = [[line("Only 100 left today")], [line("Only 200 left today")]]
    assert [text for text, *_ in spans(frames)] == ["Only 100 left today", "Only 200 left today"]


def test_a_reading_that_is_off_by_a_letter_is_the_same_line_only_where_it_stands():
    assert len(spans([[line("Summer sale")], [line("Summcr sale", THERE)]])) == 2


def test_what_is_read_alike_is_one_line_though_it_moves():
    assert spans([[line("@the_bakery")], [], [line("@the_bakery", THERE)]]) == [("@the_bakery", 0, 2, 2)]


def test_what_stands_twice_on_a_frame_is_two_lines():
    twice = [line("SALE"), line("SALE", THERE)]
    assert [(one.line.box, one.first, one.last) for one in shown([twice, twice[::-1]])] == [
        (HERE, 0, 1),
        (THERE, 0, 1),
    ]


def test_lines_are_told_in_the_order_in_which_they_appear():
    frames = [[line("one"), line("two", THERE)], [line("zero"), line("two", THERE)], [line("one")]]
    assert [text for text, *_ in spans(frames)] == ["one", "two", "zero"]


def test_pieces_of_a_line_have_blanks_where_their_script_has():
    def pieces(*texts: str) -> list[Line]:
        return [Line(text, (100.0 * at, 0.0, 98.0 + 100 * at, 20.0), 0.9) for at, text in enumerate(texts)]

    assert in_reading_order(pieces("Yellow", "house")) == [Line("Yellow house", (0, 0, 198, 20), 0.9)]
    assert [line.text for line in in_reading_order(pieces("面包", "食谱", "2026"))] == ["面包食谱 2026"]
    assert [line.text for line in in_reading_order(pieces("빵", "만들기"))] == ["빵 만들기"]


WORDS = st.sampled_from(["sale", "sate", "Sale!", "kettle", "top 1", "top 2", "…"])
LINES = st.builds(Line, WORDS, st.sampled_from([HERE, NEAR, THERE]), st.sampled_from([0.6, 0.9]))


@BUSY
@given(st.lists(st.lists(LINES, max_size=4), max_size=6))
def test_no_line_is_lost_and_none_is_told_of_a_frame_that_lacks_it(frames):
    found = shown(frames)
    assert sum(one.frames for one in found) == sum(map(len, frames))
    assert all(
        one.line in [line for frame in frames[one.first : one.last + 1] for line in frame] for one in found
    )
    assert all(1 <= one.frames <= one.last - one.first + 1 for one in found)

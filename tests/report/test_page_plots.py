"""Pictures that follow the page's theme, and numbers as they are read."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from mmfeat.report.page.plots import Series, histogram
from mmfeat.report.page.wording import counted, number, percent, signed

MINUS = "\N{MINUS SIGN}"
EDGES = (0.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def chart():
    return histogram(
        "Fit <b>",
        "cosine",
        [Series("own", "accent", EDGES, (1, 3)), Series("other", "second", EDGES, (4, 0))],
    )


def test_a_picture_takes_its_colours_from_the_page(chart):
    svg = str(chart.svg)
    assert {"fill-accent", "stroke-accent", "fill-second", "stroke-second", "fill-muted"} <= set(
        re.findall(r"(?:fill|stroke)-\w+", svg)
    )
    assert not re.search(r"style=|<style|#[0-9a-f]{6}|\bid=|url\(|font-family", svg)


def test_a_picture_keeps_its_texts_as_texts(chart):
    texts = {element.text for element in ET.fromstring(str(chart.svg)).iter("text")}
    assert {"own", "other", "cosine"} <= texts


def test_bars_stand_as_high_as_their_counts(chart):
    filled = next(p for p in ET.fromstring(str(chart.svg)).iter("path") if p.get("class") == "fill-accent")
    heights = [float(y) for y in re.findall(r"[\d.]+ ([\d.]+)", filled.attrib["d"])]
    ground, low, high = max(heights), *sorted(set(heights), reverse=True)[1:]
    assert (ground - high) / (ground - low) == pytest.approx(3, rel=0.01)


def test_the_same_facts_stand_in_words_and_as_a_table(chart):
    assert chart.columns == ("cosine", "own", "other")
    assert chart.rows == (("0 to 0.5", "1", "4"), ("0.5 to 1", "3", "0"))
    label = ET.fromstring(str(chart.svg)).attrib["aria-label"]
    assert label == (
        "Fit <b>. own: 4 values, the middle one between 0.5 and 1. "
        "other: 4 values, the middle one between 0 and 0.5."
    )


def test_the_same_numbers_give_the_same_picture():
    again = [histogram("T", "u", [Series("s", "accent", EDGES, (1, 2))]).svg for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0, "0"),
        (1234.0, "1,234"),
        (12.345, "12.3"),
        (0.03125, "0.0312"),
        (-1.5, MINUS + "1.5"),
        (-0.002, MINUS + "0.002"),
    ],
)
def test_numbers_at_the_precision_of_a_reader(value, told):
    assert number(value) == told


@pytest.mark.parametrize(
    ("share", "told"), [(0, "0%"), (1, "100%"), (0.1234, "12.3%"), (0.00001, "<0.1%"), (0.99999, ">99.9%")]
)
def test_almost_nothing_and_almost_all_do_not_read_as_nothing_and_all(share, told):
    assert percent(share) == told


def test_differences_carry_their_sign():
    assert [signed(v) for v in (0.5, -0.5, 0.0)] == ["+0.5", MINUS + "0.5", "0"]
    assert [counted(n, "item") for n in (0, 1, 1200)] == ["0 items", "1 item", "1,200 items"]

"""How a long run shows itself: an estimate once there is something to go by."""

from __future__ import annotations

import itertools

import pytest

from mmfeat.pipelines import progress
from mmfeat.pipelines.progress import Bar, Lines


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by a second each time it is read."""
    ticks = itertools.count(100)
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(ticks)))


def test_no_time_is_estimated_from_the_first_batches(clock, capsys):
    lines = Lines(every=0)
    lines.start(1_000)
    for _ in range(6):
        lines.advance(32)
    said = capsys.readouterr().err.splitlines()
    # The first batch waits for the models; a tenth of the rows, or a hundred, is something to go by.
    assert ["left" in line for line in said] == [False, False, False, False, True, True]
    assert said[0] == "32 of 1,000 rows"
    assert said[4] == "160 of 1,000 rows, 32.0 rows/s, 26 s left"


def test_the_time_left_is_never_below_nothing(clock, capsys):
    lines = Lines(every=0)
    lines.start(10)
    for _ in range(8):
        lines.advance(5)
    assert capsys.readouterr().err.splitlines()[-1].endswith(" 0 s left")


def test_the_bar_counts_the_seconds_until_the_models_have_started():
    bar = Bar()
    bar.start(100)
    try:
        task = bar.progress.tasks[0]
        assert task.description == "starting models"
        shown = [column.render(task) for column in bar.progress.columns if hasattr(column, "render")]
        assert any("0:00" in str(part) for part in shown)
        bar.advance(10)
        assert task.description == "encoding" and task.fields["pace"] == ""
    finally:
        bar.stop()

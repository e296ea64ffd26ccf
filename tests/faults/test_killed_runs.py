"""Killed with -9 at any moment: no committed row is lost, none is there twice, and the next run completes.

Whole runs without Ray; ``test_killed_ray.py`` kills whole runs with it.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pyarrow as pa
import pytest
from helpers import killing, unrayed
from helpers.killing import Moment, Story

EDITIONS = 3

# Where it hurts: in the first run's appends, in the second run's replacements, while small files are
# merged, and between that and the index.
IN_THE_FIRST_RUN = [
    Moment(call, number, when)
    for call, number, whens in (
        ("put_catalog", 1, ("data", "_versions", "after")),
        ("add_version", 1, ("_versions", "after")),
        ("add_version", 2, ("_versions",)),
        ("commit", 1, ("before", "data", "_versions", "after")),
        ("commit", 2, ("before", "data", "_versions", "after")),
        ("finish", 1, ("before", "data", "_versions", "_indices", "after")),
        ("finish", 2, ("data", "_indices")),
        ("promote", 1, ("before", "_versions")),
    )
    for when in whens
]
IN_A_LATER_RUN = [
    Moment(call, number, when)
    for call, number, whens in (
        ("put_catalog", 1, ("data", "_versions")),
        ("commit", 1, ("before", "data", "_deletions", "_versions", "after")),
        ("finish", 1, ("before", "data", "_versions", "_indices", "after")),
        ("finish", 2, ("data", "_indices")),
    )
    for when in whens
]
WITHIN_KILLS = 15
RANDOM_KILLS = 150
# The long form, in `make test-all`; any number will do: MMFEAT_KILLS=20000.
MANY_KILLS = int(os.environ.get("MMFEAT_KILLS", "1000"))


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> list[dict[str, pa.Table]]:
    return killing.never_killed(tmp_path_factory.mktemp("never-killed") / "store", EDITIONS)


def test_the_data_under_test_is_ok_missing_failed_and_shared(expected):
    first, last = expected[0], expected[-1]
    assert set(first["title_vector"]["status"].to_pylist()) == {"ok", "missing"}
    assert set(first["caption"]["status"].to_pylist()) == {"ok", "failed"}
    assert len(last["caption"]) > len(first["caption"])
    shared = [tuple(v) for v in first["title_vector"]["vector"].to_pylist() if v is not None]
    assert len(set(shared)) < len(shared)


def test_the_suite_kills_two_hundred_times():
    # Each test below fails unless it killed as often as it says.
    assert len(IN_THE_FIRST_RUN) + len(IN_A_LATER_RUN) + WITHIN_KILLS + RANDOM_KILLS >= 200


@pytest.mark.parametrize("moment", IN_THE_FIRST_RUN, ids=str)
def test_a_first_run_killed_at_a_chosen_point(tmp_path, expected, moment):
    story = Story(tmp_path, expected)
    story.kill_at(moment)
    story.complete()
    assert story.kills == 1


@pytest.mark.parametrize("moment", IN_A_LATER_RUN, ids=str)
def test_a_later_run_killed_at_a_chosen_point(tmp_path, expected, moment):
    story = Story(tmp_path, expected)
    story.complete()
    story.next_edition()
    story.kill_at(moment)
    story.complete()
    assert story.kills == 1


@pytest.mark.parametrize("edition", [0, 1], ids=["a first run", "a later run"])
def test_killed_before_each_thing_that_it_writes(tmp_path, expected, edition):
    moments = []
    for changed in range(edition + 1):
        table = unrayed.write_dataset(tmp_path / "items.csv", changed)
        moments = killing.calls_of_a_run(str(tmp_path / "store"), table)
    assert len(moments) > 12
    for number, moment in enumerate(moments):
        story = Story(tmp_path / f"store{number}", expected)
        if edition:
            story.complete()
            story.next_edition()
        story.kill_at(moment)
        story.complete()


def test_killed_between_a_groups_data_and_its_commit(tmp_path, expected):
    story = Story(tmp_path, expected)
    between = 0
    for number in range(WITHIN_KILLS):
        before = story.uncommitted_files() if number else 0
        story.kill_at(Moment("commit", 1, "data"))
        between += story.uncommitted_files() > before
    story.complete()
    assert story.kills == WITHIN_KILLS
    # A kill now and then comes a moment too late.
    assert between > WITHIN_KILLS / 2


def test_killed_at_random_moments(tmp_path, expected):
    assert kill_at_random(tmp_path, expected, RANDOM_KILLS, seed=5) >= RANDOM_KILLS


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_killed_at_very_many_random_moments(tmp_path, expected):
    assert kill_at_random(tmp_path, expected, MANY_KILLS, seed=7) >= MANY_KILLS


def kill_at_random(folder: Path, expected: list[dict[str, pa.Table]], wanted: int, seed: int) -> int:
    """Kill runs on one store after another, each in all its editions; how often."""
    chance = random.Random(seed)
    began = time.monotonic()
    Story(folder / "unharmed", expected).complete()
    whole_run = time.monotonic() - began
    kills = stories = 0
    while kills < wanted:
        story = Story(folder / f"story{stories}", expected)
        for edition in range(EDITIONS):
            if edition:
                story.next_edition()
            while story.kill_after(chance.uniform(0, whole_run)):
                pass  # until one came to its end first
            story.complete()
        kills, stories = kills + story.kills, stories + 1
    return kills

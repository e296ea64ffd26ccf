"""Where one modality alone shows what users like, its vectors are found; if none does, nothing is."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.taste import MODALITIES, World, world

from mmfeat.evaluate.base import Task
from mmfeat.evaluate.features import Feature, unit
from mmfeat.evaluate.log import log_of
from mmfeat.evaluate.run import Judging, judge
from mmfeat.evaluate.splits import split
from mmfeat.evaluate.verdict import comparisons_of
from mmfeat.schemas.evaluation import CHEAP

SEEDS = range(20)


def asked(made: World, names: tuple[str, ...], seed: int, rule: str = "last") -> Judging:
    log = log_of(made.table(), made.ids)
    features = [Feature(f"{name}@0", unit(made.vectors[name].copy())) for name in names]
    return judge(Task(log, split(log, rule, seed), {}, seed), features, CHEAP)


def check_found(liked: str, seed: int) -> None:
    found = asked(world(liked, seed), MODALITIES, seed)
    for verdict in found.verdicts():
        if verdict.version == f"{liked}@0":
            for finding in verdict.findings.values():
                assert finding.holds and finding.lift.p < 0.001 and finding.lift.effect > 5
    comparisons = comparisons_of(found.measured, found.protocols, seed)
    about = [one for one in comparisons if f"{liked}@0" in (one.first, one.second)]
    assert len(about) == 9 and all(one.better == f"{liked}@0" for one in about)


@pytest.mark.parametrize("seed", SEEDS[:8])
def test_the_modality_that_shows_the_taste_is_found_and_its_shuffled_rows_are_rejected(seed):
    check_found(MODALITIES[seed % len(MODALITIES)], seed)


@pytest.mark.slow
@pytest.mark.parametrize("liked", MODALITIES)
def test_every_modality_is_found_over_twenty_seeds(liked):
    for seed in SEEDS:
        check_found(liked, seed)


#: 60 users took 3 of 600 items each: hits are rare.
SPARSE = {"items": 600, "users": 60, "length": 3}


def alarms(trials: range, **sizes: int) -> int:
    """In how many worlds without taste a feature is said to know it."""
    found = (asked(world(None, seed, **sizes), ("sound",), seed).verdicts()[0] for seed in trials)
    return sum(any(one.holds for one in verdict.findings.values()) for verdict in found)


def test_interactions_that_do_not_hang_on_content_raise_no_more_alarms_than_the_test_allows():
    # Of 30 trials at 5 % more than 5 are alarms once in 300 times.
    assert alarms(range(30)) <= 5


def test_where_hits_are_rare_there_are_no_more_alarms_than_the_test_allows():
    assert alarms(range(30), **SPARSE) <= 5


@pytest.mark.slow
def test_of_two_hundred_sparse_worlds_without_taste_at_most_sixteen_raise_an_alarm():
    assert alarms(range(200), **SPARSE) <= 16


@pytest.mark.slow
def test_of_two_hundred_worlds_without_taste_at_most_sixteen_raise_an_alarm():
    assert alarms(range(200)) <= 16


@pytest.mark.parametrize("rule", ["time", "cold"])
def test_taste_is_found_by_other_splits_too(rule):
    for verdict in asked(world("motion", 3), ("motion", "title"), 3, rule).verdicts():
        right = verdict.version == "motion@0"
        assert [finding.holds for finding in verdict.findings.values()] == [right] * 3


def test_a_verdict_is_the_same_for_the_same_seed():
    first, second = (asked(world("title", 1), ("title",), 1) for _ in range(2))
    for name, one in first.measured["title@0"].items():
        for metric, values in one.own.items():
            np.testing.assert_array_equal(values, second.measured["title@0"][name].own[metric])
    assert first.verdicts() == second.verdicts()

"""How often chance gives as much: counted, never 0, and not told of too few."""

from __future__ import annotations

import warnings
from itertools import repeat

import numpy as np
import pytest
from helpers.taste import world

from mmfeat.evaluate.base import Task
from mmfeat.evaluate.features import Feature, unit
from mmfeat.evaluate.log import log_of
from mmfeat.evaluate.protocols.item_item import ItemItem
from mmfeat.evaluate.protocols.profile import Profile
from mmfeat.evaluate.run import judge
from mmfeat.evaluate.shuffles import SHUFFLES, chance
from mmfeat.evaluate.spaces import places
from mmfeat.evaluate.splits import split
from mmfeat.evaluate.statistics import difference
from mmfeat.evaluate.verdict import comparisons_of


def test_p_is_the_rank_of_the_value_among_shuffles_and_is_never_zero():
    own = np.full(20, 0.5)
    assert chance(own, repeat(0.1), "users").p == 1 / (SHUFFLES + 1)
    # Three of a thousand give as much, the equal one among them.
    three = [0.5, 0.6, 0.7, *[0.1] * (SHUFFLES - 3)]
    assert chance(own, three, "users").p == 4 / (SHUFFLES + 1)
    # The twentieth comes after 40: that is known well enough.
    found = chance(own, [0.1, 0.9] * 500, "users")
    assert (found.p, found.shuffles) == (20 / 40, 40)
    assert chance(own, repeat(0.5), "users").p == 1


def test_of_too_few_users_or_hits_nothing_is_tested_and_the_reason_is_told():
    few = chance(np.array([1.0] * 19 + [np.nan]), repeat(0.0), "users")
    assert few.p is None and few.why == "a test takes 20 users, and there are 19"
    rare = chance(np.array([1.0] * 4 + [0.0] * 96), repeat(0.0), "query items")
    assert rare.p is None
    assert rare.why == "a test takes 5 query items for whom something is found, and there are 4"
    assert chance(np.array([1.0] * 5 + [0.0] * 95), repeat(0.0), "users").p == 1 / (SHUFFLES + 1)


def test_a_verdict_on_too_few_users_says_that_nothing_was_tested():
    made = world("sound", 0, users=8)
    log = log_of(made.table(), made.ids)
    task = Task(log, split(log, "last", 0), {})
    (verdict,) = judge(task, [Feature("sound@0", unit(made.vectors["sound"].copy()))], ["profile"]).verdicts()
    finding = verdict.findings["profile"]
    assert finding.holds is None and finding.lift.p is None
    assert verdict.verdict.startswith("Whether it knows taste was not tested.")
    assert "not tested: a test takes 20 users, and there are 8" in verdict.verdict


@pytest.mark.parametrize("protocol", [ItemItem, Profile])
def test_a_trial_of_no_more_items_than_it_draws_is_the_full_ranking(protocol):
    made = world("sound", 0)
    log = log_of(made.table(), made.ids)
    asked = protocol(Task(log, split(log, "last", 0), {}))
    space = Feature("sound@0", unit(made.vectors["sound"].copy())).space()
    whole = asked.measure(places(space, asked.asked), asked.asked.sought)[asked.main]
    np.testing.assert_allclose(asked.trial.values(space), whole, atol=1e-12)


def test_a_difference_of_few_users_is_no_surer_than_turning_each_round_allows():
    # Three users differ, all to one side: of 8 ways to turn them round 2 give as much.
    apart = np.array([0.0] * 97 + [0.4, 0.4, 0.5])
    assert difference(np.zeros(100), apart, 0).p == 2 / 8
    assert difference(np.zeros(2), np.ones(2), 0).p == 2 / 4


def test_a_probe_that_has_no_case_is_said_to_measure_nothing_and_numpy_warns_of_nothing():
    made = world(None, 509, items=12, users=3, length=6)
    log = log_of(made.table(), made.ids)
    features = [Feature(f"{k}@0", unit(made.vectors[k].copy())) for k in ("sound", "title")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asked = judge(Task(log, split(log, "last", 0), {}), features, ("probe",))
        verdicts = asked.verdicts()
        comparisons_of(asked.measured, asked.protocols, 0)
    assert all("probe could not be measured" in one.verdict for one in verdicts)

"""Small models on frozen features: they find the taste, tell it from shuffled rows, and are the same each
time.
"""

from __future__ import annotations

import numpy as np
import pytest
from helpers.taste import world

from mmfeat.evaluate.base import Task
from mmfeat.evaluate.features import Feature, unit
from mmfeat.evaluate.log import log_of
from mmfeat.evaluate.protocols import trained
from mmfeat.evaluate.run import Judging, judge
from mmfeat.evaluate.splits import split


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A recipe of seconds: what is learned in it is enough for a world this clear."""
    monkeypatch.setattr(trained, "_LEAST_STEPS", 40)
    monkeypatch.setattr(trained, "_MOST_STEPS", 40)
    monkeypatch.setattr(trained, "_BATCH", 128)


def asked(protocol: str, ids: bool = False) -> Judging:
    made = world("motion", 4)
    log = log_of(made.table(), made.ids)
    task = Task(log, split(log, "last", 4), {}, 4, ids=ids)
    return judge(task, [Feature("motion@0", unit(made.vectors["motion"].copy()))], [protocol])


@pytest.mark.parametrize("protocol", ["two_tower", "sasrec"])
def test_a_trained_model_makes_more_of_the_taste_than_of_shuffled_rows_and_of_item_ids(protocol):
    found = asked(protocol)
    (verdict,) = found.verdicts()
    finding = verdict.findings[protocol]
    own, shuffled = finding.metrics["ndcg@50"], finding.shuffled["ndcg@50"]
    assert own.low > shuffled.high and finding.lift.low > 1.3
    # One shuffle shows no spread: no test is made up from it.
    assert finding.holds is None and finding.lift.p is None
    assert own.low > found.baselines[protocol]["item ids"]["ndcg@50"].mean


def test_a_training_is_the_same_for_the_same_seed_and_leaves_the_random_numbers_of_others_alone():
    import torch

    torch.manual_seed(3)
    first = asked("two_tower").measured["motion@0"]["two_tower"].own
    drawn = torch.rand(1)
    second = asked("two_tower").measured["motion@0"]["two_tower"].own
    np.testing.assert_array_equal(first["ndcg@50"], second["ndcg@50"])
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), drawn)


def test_items_can_have_a_vector_of_their_own_beside_the_features():
    plain, beside = (asked("two_tower", ids).measured["motion@0"]["two_tower"].own for ids in (False, True))
    assert not np.array_equal(plain["ndcg@50"], beside["ndcg@50"])

"""A store of two datasets: their users are told apart, and a job's are judged by its own."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest
from helpers.interaction_rows import interactions_of
from helpers.storing import make_rows
from helpers.taste import stored, world
from test_evidence_gates import context_of

from mmfeat.evaluate import evaluate
from mmfeat.evaluate.log import told_apart
from mmfeat.pipelines.steps.evidence_gates import judge_evidence
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.evaluation import EvaluateConfig
from mmfeat.schemas.operations import EvidenceGates
from mmfeat.store import Place, Store

CONFIG = EvaluateConfig(features=("item",), protocols=("profile",))


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Store, Place]:
    """A store of two datasets whose users have the same ids, and where the second one is."""
    first, second = world("sound", 1, items=100, users=80), world("sound", 2, items=120, users=60)
    uri = str(tmp_path_factory.mktemp("two") / "features")
    store = stored(first, uri, {"item": first.vectors["sound"]})
    ids = [f"j{k}" for k in range(120)]
    items = pa.Table.from_pylist([{"item_id": i, "title": f"other {i}"} for i in ids], schema=CATALOG_SCHEMA)
    taken = (
        (f"u{user}", f"j{item}", 1_000 * at + user)
        for user, own in enumerate(second.taken.tolist())
        for at, item in enumerate(own)
    )
    said = {"name": "second", "root": "/elsewhere"}
    with store.lease("test"):
        place = store.place_of(items, said, add=True)
        store.put_catalog(items, said, place=place)
        # Of the first dataset's items, which are none of this one's.
        strange = [("u1", "i3", 5)]
        store.put_interactions(interactions_of([*taken, *strange]), place)
        version = store.resolve("item")
        store.commit(version, make_rows(version.spec, ids, list(second.vectors["sound"])), replace=False)
    return store, place


def test_users_of_the_same_id_in_two_datasets_are_two_users(both):
    store, _ = both
    found = evaluate(store, CONFIG)
    assert (found.items, found.users, found.judged) == (220, 140, 140)
    assert any("the items of 2 datasets are ranked together" in note for note in found.notes)
    assert any(note.startswith("1 of 1,121 interactions") and "such as 'i3'" in note for note in found.notes)


def test_users_whose_ids_only_look_alike_when_joined_stay_apart():
    tables = {1: interactions_of([("1 u", "a")]), 11: interactions_of([("u", "b")]), 2: interactions_of([])}
    assert len(set(told_apart(tables)["user_id"].to_pylist())) == 2


def test_one_dataset_is_judged_as_if_it_were_alone(both, tmp_path):
    store, place = both
    second = world("sound", 2, items=120, users=60)
    alone = evaluate(stored(second, str(tmp_path / "alone"), {"item": second.vectors["sound"]}), CONFIG)
    found = evaluate(store, CONFIG, place=place)
    assert (found.items, found.users, found.left_out) == (120, 60, 0)
    mine, other = (one.features[0].findings["profile"] for one in (found, alone))
    assert mine.metrics == other.metrics and mine.lift == other.lift


def test_evidence_gates_of_a_job_judge_its_own_dataset(both):
    store, place = both
    with store.lease("test"):
        version = store.resolve("item")
        context = replace(context_of(store, [version]), place=place)
        (found,) = judge_evidence(context, version, EvidenceGates(min_lift_over_shuffled=1))
    assert "60 users, 120 items" in found.detail

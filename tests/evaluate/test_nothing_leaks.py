"""What is held out is seen by nothing that is fitted, and a feature that was made from it is caught."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from helpers.interaction_rows import interactions_of
from helpers.storing import make_rows, vector_spec
from helpers.taste import World, stored, world
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from mmfeat.evaluate.base import Task
from mmfeat.evaluate.features import Feature, unit
from mmfeat.evaluate.fitted import fitted_note, held_out
from mmfeat.evaluate.leak import LeakCheck
from mmfeat.evaluate.log import Log, log_of
from mmfeat.evaluate.protocols.probe import Probe
from mmfeat.evaluate.protocols.profile import Profile
from mmfeat.evaluate.run import evaluate
from mmfeat.evaluate.splits import SPLITS, Split, split
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.evaluation import EvaluateConfig
from mmfeat.schemas.inputs import VECTOR, Input
from mmfeat.schemas.outputs import CodesOut
from mmfeat.schemas.spec import FeatureSpec


@pytest.fixture(scope="module")
def liked() -> World:
    return world("title", 5)


def pairs(log: Log) -> set[tuple[int, int]]:
    return set(zip(log.users.tolist(), log.items.tolist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 20)), min_size=12, max_size=60),
    st.sampled_from(SPLITS),
    st.integers(0, 99),
)
def test_splits_share_no_pair_and_lose_none(rows, rule, seed):
    ids = [f"i{k}" for k in range(10)]
    log = log_of(interactions_of((f"u{u}", f"i{i}", t) for u, i, t in rows), ids)
    assert pairs(log) and len(pairs(log)) == len(log)
    try:
        made = split(log, rule, seed)
    except UsageError:
        return
    train, test = pairs(made.train), pairs(made.test)
    assert not train & test and train | test == pairs(log)
    if rule == "cold":
        assert not set(made.train.items) & set(made.test.items)
    if rule == "time":
        assert made.train.times.max(initial=-1) < made.test.times.min()
    if rule == "last":
        assert np.bincount(made.test.users).max() == 1


def test_the_first_of_repeated_interactions_counts_and_items_that_are_not_judged_do_not():
    rows = [("u", "b", 5), ("u", "a", 3), ("u", "b", 1), ("u", "gone", 2), ("v", "a", 9)]
    log = log_of(interactions_of(rows), ["a", "b"])
    assert log.users.tolist() == [0, 0, 1] and log.items.tolist() == [1, 0, 0]
    assert log.times.tolist() == [1, 3, 9] and log.popularity.tolist() == [2, 1]


def test_ratings_and_events_of_an_interaction_change_nothing():
    rows = [("u", "a", 1, 5.0, "like"), ("u", "b", 2, 1.0, "view")]
    plain, told = (log_of(interactions_of(r), ["a", "b"]) for r in ([row[:3] for row in rows], rows))
    assert all(np.array_equal(a, b) for a, b in zip(vars(plain).values(), vars(told).values(), strict=True))


def with_other_tests(made: Split, seed: int) -> Split:
    """The same split with other items held out: what is fitted must be the same."""
    rng = np.random.default_rng(seed)
    test = made.test
    other = Log(test.n_users, test.n_items, test.users, rng.permutation(test.items), test.times)
    return Split(made.rule, made.said, made.train, other)


@pytest.mark.parametrize("rule", SPLITS)
def test_what_is_fitted_is_the_same_whatever_was_held_out(liked, rule):
    log = log_of(liked.table(), liked.ids)
    made = split(log, rule, 0)
    first, other = (Probe(Task(log, one, {})) for one in (made, with_other_tests(made, 1)))
    np.testing.assert_array_equal(first.targets, other.targets)
    np.testing.assert_array_equal(first.learned, other.learned)
    profiles = [Profile(Task(log, one, {})).asked.known.values for one in (made, with_other_tests(made, 1))]
    np.testing.assert_array_equal(*profiles)


def test_the_probe_learns_nothing_of_the_items_that_it_is_judged_by(liked):
    log = log_of(liked.table(), liked.ids)
    task = Task(log, split(log, "last", 0), {})
    probe = Probe(task)
    assert not set(probe.held) & set(probe.learned)
    train = task.split.train
    kept = ~np.isin(train.items, probe.held)
    without = Probe(Task(log, Split("last", "", train.where(kept), task.split.test), {}))
    np.testing.assert_allclose(without.targets, probe.targets, atol=1e-5)


def made_from(log: Log, made: Split) -> np.ndarray:
    """A planted leak: items lie near what their held-out interactions are taken together with."""
    together = np.zeros((log.n_items, log.n_items))
    for user in made.judged:
        mine = made.train.items[made.train.starts[user] : made.train.starts[user + 1]]
        held = made.test.items[made.test.starts[user] : made.test.starts[user + 1]]
        together[np.ix_(mine[-5:], held)] += 1
        together[np.ix_(held, mine[-5:])] += 1
    values, vectors = np.linalg.eigh(together)
    return unit((vectors[:, -60:] * np.sqrt(np.maximum(values[-60:], 0))).astype(np.float32))


@pytest.mark.parametrize(("rule", "items"), [("last", 150), ("cold", 400)])
@pytest.mark.parametrize("seed", range(3))
def test_a_feature_that_was_made_from_what_was_held_out_is_caught_and_content_is_not(seed, rule, items):
    made = world("title", seed, items=items)
    log = log_of(made.table(), made.ids)
    task = Task(log, split(log, rule, seed), {}, seed)
    check = LeakCheck(task)
    assert check.unmade == ""
    planted = check(Feature("leak@0", made_from(log, task.split)))
    assert "seems to be made from the held-out interactions" in planted
    for vectors in made.vectors.values():
        assert check(Feature("content@0", unit(vectors.copy()))) == ""


def welcomed(made: World, firsts: int, length: int) -> Log:
    """Every user begins with some of the first five items, whoever they are, and follows their taste then."""
    rng = np.random.default_rng(0)
    taken = made.taken[~(made.taken < 5).any(axis=1), : length - firsts]
    begun = np.array([rng.permutation(5)[:firsts] for _ in taken])
    taken = np.hstack([begun, taken])
    users = np.repeat(np.arange(len(taken)), length)
    return Log(len(taken), len(made.ids), users, taken.ravel(), np.tile(np.arange(length), len(taken)))


@pytest.mark.parametrize(("firsts", "length"), [(1, 3), (1, 4), (1, 6), (2, 3), (2, 4)])
def test_content_is_not_accused_where_all_users_begin_with_what_they_are_offered(firsts, length):
    for seed in range(2):
        made = world("sound", seed, items=400, users=1_500, length=5)
        log = welcomed(made, firsts, length)
        check = LeakCheck(Task(log, split(log, "last", 0), {}))
        assert check(Feature("content@0", unit(made.vectors["sound"].copy()))) == ""
        # A history of two may be nothing but what is offered.
        users = log.n_users if length > 3 else 0
        why = f"it takes 10 users with 3 items before, and there are {users}"
        assert check.unmade == ("" if users else why)


def test_of_too_few_held_out_items_no_check_is_made_and_the_output_says_so(tmp_path):
    made = world("title", 0, items=80)
    store = stored(made, str(tmp_path / "features"), {"title": made.vectors["title"]})
    found = evaluate(store, EvaluateConfig(protocols=("profile",), split="cold"))
    why = "it takes 10 held-out items of users with 3 items before, and there are 8"
    assert f"no check for leaks was made: {why}" in found.notes


def test_a_verdict_tells_how_many_held_out_items_the_feature_was_fitted_to(tmp_path):
    made = world("title", 0)
    store = stored(made, str(tmp_path / "features"), {"title": made.vectors["title"]})
    log = log_of(made.table(), made.ids)
    held = set(np.flatnonzero(held_out(split(log, "cold", 0))).tolist())
    assert len(held) == 15
    codes = vector_spec("codes")
    codes = codes.model_copy(
        update={
            "output": CodesOut(levels=2, codebook_size=4),
            "weights": codes.weights.model_copy(update={"origin": "fitted"}),
        }
    )
    # The codebooks never learnt from the first 40 items.
    told = [json.dumps({"fitted": k >= 40}) for k in range(150)]
    seen = len([k for k in held if k >= 40])
    rows = make_rows(codes, made.ids, list(np.zeros((150, 2), np.int32)))
    rows = rows.set_column(rows.schema.get_field_index("facts"), rows.schema.field("facts"), pa.array(told))
    with store.lease("test"):
        store.commit(store.add_version(codes), rows, replace=False)
    found = evaluate(store, EvaluateConfig(protocols=("profile",), split="cold"))
    verdicts = {one.version.partition("@")[0]: one for one in found.features}
    words = f"It was fitted to 110 items, {seen} of which are held out here."
    assert verdicts["codes"].fitted == words and words in verdicts["codes"].verdict
    assert verdicts["title"].fitted == ""


LEARNT, NOTHING = save({"mean": np.zeros(4, np.float32)}), save({})


def test_a_verdict_tells_what_all_that_a_feature_is_made_of_was_fitted_to(tmp_path):
    made = world("title", 0)
    store = stored(made, str(tmp_path / "features"), {"title": made.vectors["title"]})
    held = held_out(split(log_of(made.table(), made.ids), "cold", 0))
    title = store.resolve("title").spec

    def fitted(name: str, read: FeatureSpec, state: bytes) -> FeatureSpec:
        """A transform of ``read`` in the store."""
        spec = vector_spec(name)
        origin = spec.weights.model_copy(update={"origin": "fitted"})
        source = Input(source=read.name, modality=VECTOR, upstream=read.fingerprint)
        spec = spec.model_copy(update={"weights": origin, "inputs": (source,)})
        store.put_codebooks(store.add_version(spec).fingerprint, state, {"fitted_on": 150})
        return spec

    with store.lease("test"):
        small = fitted("small", title, NOTHING)
        pca = fitted("pca", small, LEARNT)
        last = fitted("last", pca, NOTHING)
        lost = fitted("lost", title.model_copy(update={"method_version": 9}), NOTHING)
    notes = {
        spec.name: fitted_note(store, store.resolve(spec.name), made.ids, held)
        for spec in (title, small, pca, last, lost)
    }
    words = "was fitted to all items that had vectors then (150 items); 15 are held out here."
    assert notes["title"] == notes["small"] == ""
    assert notes["pca"] == f"It {words}"
    assert notes["last"] == f"It comes from {pca.version}, which {words}"
    assert notes["lost"].endswith("which is not in the store: what that was fitted to is not known.")


def test_a_verdict_tells_what_a_transform_was_fitted_to(tmp_path):
    made = world("title", 0)
    store = stored(made, str(tmp_path / "features"), {"title": made.vectors["title"]})
    log = log_of(made.table(), made.ids)
    parts = split(log, "cold", 0)
    spec = vector_spec("pca")
    fitted = spec.weights.model_copy(update={"origin": "fitted"})
    plain = spec.model_copy(update={"weights": fitted})
    trained = plain.model_copy(update={"options": {"fit_on": "train", "split": "leave-one-out"}})
    with store.lease("test"):
        versions = [store.add_version(one) for one in (plain, trained)]
        for version, count in zip(versions, (150, 135), strict=True):
            store.put_codebooks(version.fingerprint, LEARNT, {"fitted_on": count})
    notes = [fitted_note(store, version, made.ids, held_out(parts)) for version in versions]
    assert notes == [
        "It was fitted to all items that had vectors then (150 items); 15 are held out here.",
        "It was fitted to 135 items, those for training by its own split, leave-one-out; 15 are held out "
        "here, and it may have seen some of these.",
    ]
    # Nothing to tell where every item is learned from.
    assert fitted_note(store, versions[0], made.ids, np.zeros(150, bool)) == ""

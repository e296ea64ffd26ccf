"""A job promotes by evidence: gates on the interactions, judged once for the same vectors and
interactions.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from helpers.interaction_rows import interactions_of
from helpers.storing import make_rows, vector_spec
from helpers.taste import World, stored, world

from mmfeat.evaluate import run as evaluation
from mmfeat.pipelines import evidence as kept
from mmfeat.pipelines.steps.base import RunContext
from mmfeat.pipelines.steps.evaluate import Evaluate
from mmfeat.pipelines.steps.evidence_gates import judge_evidence
from mmfeat.pipelines.steps.gates import Gates
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.evaluation import EvaluateConfig
from mmfeat.schemas.job import parse_job
from mmfeat.schemas.operations import EvidenceGates, GateResult, GatesConfig
from mmfeat.schemas.outputs import CodesOut
from mmfeat.store import FeatureVersion, Store

GATES = {
    "min_probe_auc": 0.7,
    "min_lift_over_shuffled": 2,
    "min_recall_at_50": 0.5,
    "max_drop_against_current": 0.1,
}


class Reporter:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture(scope="module")
def liked() -> World:
    return world("sound", 1)


@pytest.fixture
def judged(liked, tmp_path) -> Store:
    """A store whose feature `item` is a current version that shows the taste."""
    store = stored(liked, str(tmp_path / "features"), {"item": liked.vectors["sound"]})
    with store.lease("test"):
        store.promotion.promote([store.resolve("item")])
    return store


def put(store: Store, made: World, vectors: np.ndarray) -> FeatureVersion:
    spec = vector_spec("item", dims=vectors.shape[1], dtype="float32", method_version=2)
    version = store.add_version(spec)
    store.commit(version, make_rows(spec, made.ids, list(vectors)), replace=False)
    return version


def context_of(store: Store, versions: list[FeatureVersion]) -> RunContext:
    job = parse_job(
        {
            "store": {"uri": store.uri},
            "dataset": {"name": "sample"},
            "features": {"item": {"source": "title", "encoder": "sentence_transformers"}},
            "gates": {"min_coverage": 0.5, "item": GATES},
        },
        "a test",
    )
    return RunContext(job, "r", store, None, [v.spec for v in versions], Reporter(), versions=versions)


def judge(store: Store, versions: list[FeatureVersion]) -> dict[str, tuple[bool, float | None]]:
    context = context_of(store, versions)
    gates = Gates(context.job.steps["gates"])
    found = [one for version in versions for one in gates.judge_evidence(context, version)]
    return {one.gate: (one.passed, one.value) for one in found}


def test_a_version_that_shows_the_taste_passes_and_one_that_does_not_falls_short_everywhere(judged, liked):
    with judged.lease("test"):
        first = judge(judged, [judged.resolve("item")])
        assert {gate: passed for gate, (passed, _) in first.items()} == {
            "min_probe_auc": True,
            "min_lift_over_shuffled": True,
            "min_recall_at_50": True,
        }
        worse = put(judged, liked, liked.vectors["title"])
        found = judge(judged, [worse])
    assert set(found) == set(GATES)
    assert not any(passed for passed, _ in found.values())


def test_a_version_that_is_as_good_is_promoted_and_one_that_lost_something_is_not(judged, liked):
    with judged.lease("test"):
        turned = np.linalg.qr(np.random.default_rng(0).standard_normal((16, 16)))[0].astype(np.float32)
        same = put(judged, liked, liked.vectors["sound"] @ turned)
        passed, lost = judge(judged, [same])["max_drop_against_current"]
    assert passed and lost == pytest.approx(0, abs=1e-3)


def test_nothing_new_is_judged_twice_and_new_interactions_are(judged, liked, monkeypatch):
    asked = []
    monkeypatch.setattr(kept, "evaluate", lambda *a: asked.append(1) or evaluation.evaluate(*a))
    with judged.lease("test"):
        version = judged.resolve("item")
        first = judge(judged, [version])
        assert judge(judged, [version]) == first and len(asked) == 1
        judged.put_interactions(liked.table().slice(5))
        judge(judged, [version])
        assert len(asked) == 2
        # Another vector of one item, made of another content.
        rows = make_rows(version.spec, ["i0"], [np.ones(16, np.float32)])
        rows = rows.set_column(rows.schema.get_field_index("content_hash"), "content_hash", pa.array(["new"]))
        judged.commit(version, rows.cast(make_rows(version.spec, [], []).schema), replace=True)
        judge(judged, [version])
        assert len(asked) == 3


def test_forgetting_an_item_forgets_what_was_found_with_it(judged):
    with judged.lease("test"):
        version = judged.resolve("item")
        judge(judged, [version])
        assert judged._database.table("_evaluations").count_rows() == 1
        judged.forgetting.begin(["i3"], "a test")
        judged.forgetting.finish(resumed=False)
        assert judged._database.table("_evaluations").count_rows() == 0


def test_a_gate_that_cannot_be_measured_falls_short_and_says_why(judged):
    with judged.lease("test"):
        judged.put_interactions(None)
        context = context_of(judged, versions := [judged.resolve("item")])
        found = Gates(context.job.steps["gates"]).judge_evidence(context, versions[0])
    assert [one.passed for one in found] == [False] * 4
    assert "holds no interactions" in found[0].detail


@pytest.mark.parametrize(
    ("items", "threshold", "measured"),
    [(51, 0.9, False), (52, 0.99, True), (150, 0.3, False), (150, 0.34, True)],
)
def test_a_recall_that_a_random_order_of_so_few_items_has_is_not_measurable(
    judged, liked, items, threshold, measured
):
    with judged.lease("test"):
        # The others have no vector: they leave the evaluation, and are told of.
        lacking = [None] * (len(liked.ids) - items)
        spec = vector_spec("item", dims=16, dtype="float32", method_version=3)
        version = judged.add_version(spec)
        values = [*liked.vectors["sound"][:items], *lacking]
        judged.commit(version, make_rows(spec, liked.ids, values), replace=False)
        context = context_of(judged, [version])
        (found,) = judge_evidence(context, version, EvidenceGates(min_recall_at_50=threshold))
    if measured:
        assert found.value is not None and found.passed == (found.value >= threshold)
    else:
        assert found.value is None and not found.passed
        chance = min(1, 50 / (items - 1))
        assert (
            f"not measurable: a random order of {items} items has a recall@50 of {chance:.3f}" in found.detail
        )
    left_out = len(liked.ids) - items
    assert (f"{items} items, {left_out} left out for want of a value" in found.detail) == bool(left_out)


def asked(store: Store, version: FeatureVersion, **gates: float) -> GateResult:
    with store.lease("test"):
        (found,) = judge_evidence(context_of(store, [version]), version, EvidenceGates(**gates))
    return found


def test_a_gate_holds_the_lower_end_of_the_interval(judged):
    version = judged.resolve("item")
    with judged.lease("test"):
        context = context_of(judged, [version])
        found = kept.evidence(judged, [version], EvaluateConfig(), context.reporter.say)
    findings = found.features[0].findings
    for gate, metric in (
        ("min_probe_auc", findings["probe"].metrics["auc"]),
        ("min_recall_at_50", findings["item_item"].metrics["recall@50"]),
    ):
        assert metric.low < metric.mean
        at_the_mean, at_the_end = (asked(judged, version, **{gate: x}) for x in (metric.mean, metric.low))
        assert (at_the_mean.passed, at_the_mean.value) == (False, metric.low)
        assert at_the_end.passed


def test_what_too_few_users_say_is_no_evidence(tmp_path):
    few = world(None, 500, items=12, users=3, length=6)
    store = stored(few, str(tmp_path / "features"), {"item": few.vectors["sound"]})
    version = store.resolve("item")
    for name in ("min_probe_auc", "min_lift_over_shuffled"):
        found = asked(store, version, **{name: 0.0})
        assert (found.passed, found.value) == (False, None)
        assert "not measurable: a test takes 20 users, and there are" in found.detail
    with store.lease("test"):
        store.promotion.promote([version])
        turned = put(store, few, -few.vectors["sound"])
    found = asked(store, turned, max_drop_against_current=1.0)
    assert (found.passed, found.value) == (False, None)
    assert "not measurable by probe: a test takes 20 users" in found.detail


def test_a_lift_that_chance_gives_as_well_is_no_evidence(tmp_path):
    made = world("sound", 1, items=60, users=30, length=6)
    store = stored(made, str(tmp_path / "features"), {"item": made.vectors["sound"]})
    with store.lease("test"):
        # All take the same two items: one draw, which may well be a good one.
        store.put_interactions(interactions_of((f"u{u}", f"i{k}", k) for u in range(30) for k in (1, 2)))
    version = store.resolve("item")
    found = asked(store, version, min_lift_over_shuffled=1.5)
    assert (found.passed, found.value) == (False, None)
    assert "ndcg@50 tells no more than the same rows at other items do by chance (p = " in found.detail
    assert asked(store, version, min_lift_over_shuffled=9).value < 9


def test_a_gate_on_codes_by_a_protocol_that_takes_none_is_refused_before_any_work(judged):
    context = context_of(judged, [judged.resolve("item")])
    codes = vector_spec("item").model_copy(update={"output": CodesOut(levels=2, codebook_size=4)})
    for gate in ("min_probe_auc", "min_lift_over_shuffled"):
        gates = Gates(GatesConfig.model_validate({"item": {gate: 0.6}}))
        gates.check(context.job, context.specs)
        if gate == "min_lift_over_shuffled":
            gates.check(context.job, [codes])
            continue
        with pytest.raises(ConfigError, match="item holds codes, and probe takes vectors alone"):
            gates.check(context.job, [codes])


def test_the_step_puts_the_verdict_into_the_report(judged):
    from mmfeat.pipelines.run_report import RunReport

    with judged.lease("test"):
        context = context_of(judged, [judged.resolve("item")])
        context.report = RunReport("r", judged.uri, "d", 1, 0, 0, 0, 0, 0, None, None, 0.0, [])
        (report,) = Evaluate(EvaluateConfig(protocols=("probe",))).run(context)
    assert report.further["evaluate"]["features"][0]["findings"]["probe"]["holds"]
    assert any("tells something of taste" in line for line in context.reporter.said)


def test_a_gate_on_a_feature_that_the_job_does_not_make_is_refused_before_any_work(judged):
    context = context_of(judged, [judged.resolve("item")])
    gates = Gates(GatesConfig.model_validate({"items": {"min_probe_auc": 0.6}}))
    with pytest.raises(ConfigError, match="'items' is no feature of this job") as error:
        gates.check(context.job, context.specs)
    assert "item" in (error.value.hint or "")


def test_a_table_in_gates_is_of_the_feature_that_it_is_named_for():
    read = GatesConfig.model_validate({"min_coverage": 0.9, "item": {"min_probe_auc": 0.6}})
    assert read.evidence == {"item": EvidenceGates(min_probe_auc=0.6)}
    assert GatesConfig.model_validate(read.model_dump()) == read

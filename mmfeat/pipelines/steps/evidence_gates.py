"""``[gates.FEATURE]`` of a job: what the interactions must say of a version before it becomes current."""

from __future__ import annotations

from collections.abc import Iterator

from mmfeat.evaluate import Evaluation
from mmfeat.pipelines.evidence import evidence
from mmfeat.pipelines.steps.base import RunContext
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.evaluation import EvaluateConfig
from mmfeat.schemas.operations import EvidenceGates, GateResult
from mmfeat.store import FeatureVersion


def judge_evidence(context: RunContext, version: FeatureVersion, gates: EvidenceGates) -> list[GateResult]:
    """The evidence gates of one version, beside the current one where that is another.

    A gate on a drop is about versions that differ from the current one; the first version has nothing to
    lose. A gate that cannot be measured falls short and says why.
    """
    store = context.store
    current = store.promotion.histories().get(version.name)
    other = current is not None and current.fingerprint != version.fingerprint
    beside = [store.resolve(f"{version.name}@{current.fingerprint}")] if current is not None and other else []
    asked = context.job.steps.get("evaluate")
    config = asked if isinstance(asked, EvaluateConfig) else EvaluateConfig()
    config = EvaluateConfig(split=config.split, users=config.users, seed=config.seed)
    # Without such a gate the current version, and the items that it lacks, do not matter.
    versions = [*beside, version] if gates.max_drop_against_current is not None else [version]
    try:
        found = evidence(store, versions, config, context.reporter.say)
    except UsageError as error:
        return [_unmeasured(name, version, least, error.message) for name, least in _thresholds(gates)]
    return list(_judged(found, version, gates))


def _thresholds(gates: EvidenceGates) -> list[tuple[str, float]]:
    return [(name, value) for name, value in gates.model_dump().items() if value is not None]


def _judged(found: Evaluation, version: FeatureVersion, gates: EvidenceGates) -> Iterator[GateResult]:
    verdict = found.of(version.version)
    findings = verdict.findings
    if verdict.leak:
        yield from (_unmeasured(name, version, least, verdict.leak) for name, least in _thresholds(gates))
        return
    for name, threshold in _thresholds(gates):
        if name == "max_drop_against_current":
            yield from _drop(found, version, threshold)
            continue
        protocol, metric = _OF[name]
        if protocol not in findings or metric not in findings[protocol].metrics:
            yield _unmeasured(name, version, threshold, f"{protocol} could not be measured")
            continue
        finding = findings[protocol]
        value: float | None = finding.metrics[metric].mean
        if name == "min_lift_over_shuffled":
            value = finding.lift.low
        if value is None:
            yield _unmeasured(name, version, threshold, "shuffled rows find nothing to compare with")
        else:
            yield GateResult(name, version.version, threshold, value, value >= threshold, _told(found))


def _drop(found: Evaluation, version: FeatureVersion, most: float) -> Iterator[GateResult]:
    """The largest loss that any protocol allows for."""
    lost = [one for one in found.comparisons if one.second == version.version]
    if lost:
        worst = max(lost, key=lambda one: one.drop)
        detail = f"by {worst.protocol}, of {worst.first}; {_told(found)}"
        yield GateResult(
            "max_drop_against_current", version.version, most, worst.drop, worst.drop <= most, detail
        )


def _told(found: Evaluation) -> str:
    return f"{found.judged:,} users, {found.items:,} items"


def _unmeasured(name: str, version: FeatureVersion, threshold: float, why: str) -> GateResult:
    return GateResult(name, version.version, threshold, None, False, why.rstrip("."))


_OF = {
    "min_probe_auc": ("probe", "auc"),
    "min_lift_over_shuffled": ("profile", "ndcg@50"),
    "min_recall_at_50": ("item_item", "recall@50"),
}

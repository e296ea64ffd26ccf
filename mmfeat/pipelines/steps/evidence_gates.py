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
        found = evidence(store, versions, config, context.reporter.say, context.place)
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
        if name == "min_recall_at_50" and (trivial := _anything_passes(found, threshold)):
            yield _unmeasured(name, version, threshold, f"{trivial}; {_told(found)}")
        elif value is None:
            why = f"shuffled rows find nothing to compare with; {_told(found)}"
            yield _unmeasured(name, version, threshold, why)
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


def _anything_passes(found: Evaluation, threshold: float) -> str:
    """Why a recall at 50 of these items cannot fall short of the threshold, or not of a chance one; empty
    if it can. A random order has 50 of the others among the first 50."""
    others = found.items - 1
    chance = min(1.0, _DEPTH / others)
    if others > _DEPTH and not chance >= threshold > 0:
        return ""
    return (
        f"not measurable: a random order of {found.items:,} items has a recall@{_DEPTH} of {chance:.3f}, and "
        f"{threshold} takes more than {max(_DEPTH, int(_DEPTH / threshold) if threshold else 0) + 1:,} items"
    )


def _told(found: Evaluation) -> str:
    """How many users and items were judged, and how many items were not."""
    judged = f"{found.judged:,} users, {found.items:,} items"
    return f"{judged}, {found.left_out:,} left out for want of a value" if found.left_out else judged


def _unmeasured(name: str, version: FeatureVersion, threshold: float, why: str) -> GateResult:
    return GateResult(name, version.version, threshold, None, False, why.rstrip("."))


# Of `min_recall_at_50`.
_DEPTH = 50
_OF = {
    "min_probe_auc": ("probe", "auc"),
    "min_lift_over_shuffled": ("profile", "ndcg@50"),
    "min_recall_at_50": ("item_item", "recall@50"),
}

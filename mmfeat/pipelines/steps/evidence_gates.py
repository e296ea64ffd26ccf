"""``[gates.FEATURE]`` of a job: what the interactions must say of a version before it becomes current."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mmfeat.evaluate import Evaluation, Finding
from mmfeat.evaluate.registry import PROTOCOLS
from mmfeat.pipelines.evidence import evidence
from mmfeat.pipelines.steps.base import RunContext
from mmfeat.schemas.errors import ConfigError, UsageError
from mmfeat.schemas.evaluation import EvaluateConfig
from mmfeat.schemas.operations import EvidenceGates, GateResult
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import FeatureVersion


def judge_evidence(context: RunContext, version: FeatureVersion, gates: EvidenceGates) -> list[GateResult]:
    """The evidence gates of one version, beside the current one where that is another.

    Each takes the end of its interval that speaks against the version. What was not tested, or is no more
    than chance gives, is no evidence. A gate on a drop is about versions that differ from the current one;
    the first version has nothing to lose. A gate that cannot be measured falls short and says why.
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
    if verdict.leak:
        yield from (_unmeasured(name, version, least, verdict.leak) for name, least in _thresholds(gates))
        return
    for name, threshold in _thresholds(gates):
        if name == "max_drop_against_current":
            yield from _drop(found, version, threshold)
        else:
            yield _least(name, found, version, threshold)


def _least(name: str, found: Evaluation, version: FeatureVersion, threshold: float) -> GateResult:
    """A gate on what a protocol measured: it holds the lower end of the interval, of what is more than chance
    gives."""
    protocol, metric = _OF[name]
    finding = found.of(version.version).findings.get(protocol)
    why = f"{protocol} could not be measured"
    if finding is not None and metric in finding.metrics:
        value = finding.lift.low if name == "min_lift_over_shuffled" else finding.metrics[metric].low
        why = _not_measurable(name, finding, found, threshold)
        if value is None:
            why = why or "shuffled rows find nothing to compare with"
        elif not why and value >= threshold and finding.holds is False:
            why = (
                f"{metric} tells no more than the same rows at other items do by chance "
                f"(p = {finding.lift.p:.2g} by {protocol})"
            )
        if not why and value is not None:
            told = f"the lower end of {metric}'s interval over {finding.cases}; {_told(found)}"
            return GateResult(name, version.version, threshold, value, value >= threshold, told)
        why = f"{why}; {_told(found)}"
    return _unmeasured(name, version, threshold, why)


def _not_measurable(name: str, finding: Finding, found: Evaluation, threshold: float) -> str:
    """Why nothing is to be thought of a figure, however high it is; empty if that is not so."""
    if name == "min_recall_at_50" and (trivial := _anything_passes(found, threshold)):
        return trivial
    return f"not measurable: {finding.lift.untested}" if finding.lift.untested else ""


def _drop(found: Evaluation, version: FeatureVersion, most: float) -> Iterator[GateResult]:
    """The largest loss that any protocol allows for; none of the first version."""
    gate = "max_drop_against_current"
    if len(found.features) < 2:
        return
    lost = [one for one in found.comparisons if one.second == version.version]
    if not lost:
        yield _unmeasured(gate, version, most, f"no protocol could judge both; {_told(found)}")
        return
    for one in lost:
        # Where one of the two finds enough to be tested, the other finds less for being worse.
        untested = [found.of(side).findings[one.protocol].lift.untested for side in (one.first, one.second)]
        if all(untested):
            why = f"not measurable by {one.protocol}: {untested[1]}; {_told(found)}"
            yield _unmeasured(gate, version, most, why)
            return
    worst = max(lost, key=lambda one: one.drop)
    detail = f"by {worst.protocol}, of {worst.first}; {_told(found)}"
    yield GateResult(gate, version.version, most, worst.drop, worst.drop <= most, detail)


def refuse_unable(gates: Mapping[str, EvidenceGates], specs: Sequence[FeatureSpec]) -> None:
    """ConfigError for a gate on codes by a protocol that takes none."""
    codes = {spec.name for spec in specs if spec.form == "codes"}
    for name, asked in gates.items():
        for gate, _ in _thresholds(asked):
            if name in codes and gate in _OF and not PROTOCOLS.get(_OF[gate][0]).takes_codes:
                raise ConfigError(
                    f"[gates.{name}] {gate}: {name} holds codes, and {_OF[gate][0]} takes vectors alone.",
                    hint="Take it out, or put the gate on the vectors that the codes are made of.",
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

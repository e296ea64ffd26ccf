"""``[gates]`` of a job: whether its new versions are fit to become current."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from mmfeat.evaluate import need_packages as need_evaluate
from mmfeat.pipelines.run_report import RunReport
from mmfeat.pipelines.steps.base import RunContext, Step
from mmfeat.pipelines.steps.evaluate import refuse_others
from mmfeat.pipelines.steps.evidence_gates import judge_evidence, refuse_unable
from mmfeat.report.drift import drift_of
from mmfeat.schemas.errors import ConfigError, GateFailed
from mmfeat.schemas.evaluation import CHEAP
from mmfeat.schemas.featureset import MISSING, OK, FeatureColumn
from mmfeat.schemas.job import JobConfig
from mmfeat.schemas.operations import GateResult, GatesConfig
from mmfeat.schemas.sound import SILENCE
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import ROLLED_BACK, FeatureVersion, Place, Store
from mmfeat.store.diff import cosines

# Drift is a mean: more items than these change its third digit and take minutes of a large store.
SAMPLE = 10_000
# What is said of a version that a gate keeps in its state.
_STAYS = {
    "current": "current, as before",
    "candidate": "a candidate",
    "previous": "what a rollback goes to",
    "old": "an old version",
    ROLLED_BACK: "rolled back",
}
_NEIGHBOURS_OF = 1_000
_NEIGHBOURS = 10
_SEED = 0


class Gates(Step[GatesConfig]):
    """Judges the job's versions; where one falls short, none of them becomes current."""

    Config: ClassVar[type[BaseModel]] = GatesConfig

    def check(self, job: JobConfig, specs: Sequence[FeatureSpec]) -> None:
        """See :meth:`Step.check`: no such file, or a wrong one, or no feature that a gate is about, or
        one that a gate cannot be about.

        Raises:
            MissingExtra: the packages of the caption report or of an evaluation are not installed.
        """
        if self.config.evidence:
            need_evaluate(CHEAP)
            refuse_others("[gates]", list(self.config.evidence), specs)
            refuse_unable(self.config.evidence, specs)
        if self.config.max_drift is not None and not any(spec.form == "codes" for spec in specs):
            raise ConfigError(
                "[gates] max_drift: this job makes no codes, and no other feature has a drift from its fit.",
                hint="Take max_drift out of the job. min_neighbour_overlap compares vectors with the current "
                "version's.",
            )
        if self.config.captions is None:
            return
        from mmfeat.report.build import need_packages
        from mmfeat.report.rules import read_gates

        if not any(spec.role == "caption" for spec in specs):
            raise ConfigError(
                "[gates] captions: this job makes no captions.", hint="Take the gate out of the job."
            )
        need_packages()
        read_gates(Path(self.config.captions), None)

    def run(self, context: RunContext) -> Iterator[RunReport]:
        """See :meth:`Step.run`."""
        gates = self.judge(context.store, context.versions, context.place)
        for version in context.versions:
            gates += self.judge_evidence(context, version)
        report = replace(context.so_far, gates=gates)
        yield report
        if short := [gate for gate in report.gates if not gate.passed]:
            raise fell_short(short, context.store, context.versions, report)

    def judge(
        self, store: Store, versions: Sequence[FeatureVersion], place: Place | None = None
    ) -> list[GateResult]:
        """Every gate of every version, in their order.

        A gate on the drift is about versions that differ from the current one; the first version of a
        feature has nothing to drift from.

        Args:
            place: of the dataset whose items are judged; those of all datasets when None. Items that
                left their dataset are judged by no gate.
        """
        return [result for version in versions for result in self._judge(store, version, place)]

    def judge_evidence(self, context: RunContext, version: FeatureVersion) -> list[GateResult]:
        """What the interactions must say of a version, where that is asked."""
        asked = self.config.evidence.get(version.name)
        return [] if asked is None else judge_evidence(context, version, asked)

    def _judge(self, store: Store, version: FeatureVersion, place: Place | None) -> Iterator[GateResult]:
        if self.config.min_coverage is not None:
            yield _coverage(store, version, place, self.config.min_coverage)
        if self.config.max_marked is not None and _is_marked(version.spec):
            yield _marked(store, version, place, self.config.max_marked)
        if self.config.max_drift is not None and version.spec.form == "codes":
            yield _drifted(store, version, place, self.config.max_drift)
        if self.config.captions is not None and version.spec.role == "caption":
            yield from self._captions(store, version, Path(self.config.captions))
        current = store.promotion.histories().get(version.name)
        if current is not None and current.fingerprint != version.fingerprint:
            before = store.resolve(f"{version.name}@{current.fingerprint}")
            yield from self._drift(store, before, version, place)

    def _captions(self, store: Store, version: FeatureVersion, path: Path) -> Iterator[GateResult]:
        from mmfeat.report.build import ReportOptions, report_captions

        report = report_captions(store, ReportOptions(feature=version.version, gates=path))
        for gate in report.gates:
            name = f"captions.{gate.name}"
            yield GateResult(name, version.version, gate.threshold, gate.value, gate.passed, gate.detail)

    def _drift(
        self, store: Store, old: FeatureVersion, new: FeatureVersion, place: Place | None
    ) -> Iterator[GateResult]:
        gates = self.config
        is_vector = new.spec.form == "vector"
        if is_vector and (gates.min_mean_cosine, gates.min_neighbour_overlap) != (None, None):
            before, after = _both(store, old, new, place)
            a, b = (_vectors(column) for column in (before, after))
            if (least := gates.min_mean_cosine) is not None:
                yield _mean_cosine(a, b, new, least)
            if (least := gates.min_neighbour_overlap) is not None:
                yield _neighbour_overlap(a, b, new, least)
        elif not is_vector and (most := gates.max_changed) is not None:
            yield _changed(*_both(store, old, new, place), new, most)


def fell_short(
    short: Sequence[GateResult], store: Store, versions: Sequence[FeatureVersion], report: Any
) -> GateFailed:
    """The end of a run whose gates fell short: all of its versions stay what they are.

    Args:
        report: what the run did.
    """
    named: dict[str, list[str]] = {}
    for version in versions:
        named.setdefault(store.promotion.state_of(version), []).append(version.version)
    stay = "; ".join(f"{', '.join(names)}: stays {_STAYS[state]}" for state, names in named.items())
    way = "`mmfeat promote NAME@FINGERPRINT` makes a version current all the same"
    if named.keys() == {"current"}:
        way = "`mmfeat rollback NAME` makes the version current that was so before it, if there was one"
    return GateFailed(
        f"{'; '.join(map(str, short))}. No version became current; {stay}.",
        hint=f"All rows are committed, and what was current still is. {way}.",
        report=report,
    )


def _coverage(store: Store, version: FeatureVersion, place: Place | None, least: float) -> GateResult:
    ids = store.present_ids(place)
    counts = store.counts(version, ids)
    # Of imported vectors it is the file that may lack items.
    able = len(ids) - (0 if version.spec.is_imported else counts.get(MISSING, 0))
    if not able:
        return GateResult("min_coverage", version.version, least, None, True, "no item has the source")
    share = counts.get(OK, 0) / able
    return GateResult("min_coverage", version.version, least, share, share >= least)


def _is_marked(spec: FeatureSpec) -> bool:
    """Whether texts are looked at for marks when they are stored."""
    return spec.decoding is not None or spec.role == "transcript"


def _marked(store: Store, version: FeatureVersion, place: Place | None, most: float) -> GateResult:
    ids = store.present_ids(place)
    ok = store.counts(version, ids).get(OK, 0)
    if not ok:
        return GateResult("max_marked", version.version, most, None, True, "there is no text")
    marked = store.marked(version)
    # What is said of silence may well be right.
    texts = marked.filter(pc.not_equal(marked["reason"], SILENCE))
    share = len(_of(texts, ids)) / ok
    return GateResult("max_marked", version.version, most, share, share <= most)


def _drifted(store: Store, version: FeatureVersion, place: Place | None, most: float) -> GateResult:
    gate, drift = "max_drift", drift_of(store, version, place)
    if drift.unknown:
        what = "A smaller codebook_size can be measured" if drift.exact else "A refit measures it"
        detail = f"the drift is {drift.unknown}. {what}, or take the gate out of the job"
        return GateResult(gate, version.version, most, None, False, detail)
    if drift.error is None:
        return GateResult(gate, version.version, most, None, True, str(drift))
    detail = f"of {drift.items:,} vectors that came since the fit"
    return GateResult(gate, version.version, most, drift.error, drift.error <= most, detail)


def _both(
    store: Store, old: FeatureVersion, new: FeatureVersion, place: Place | None
) -> tuple[FeatureColumn, FeatureColumn]:
    """A sample of the items that are there and have a value in both versions."""
    ids = store.present_ids(place)
    shared = _ok_ids(store, old, ids) & _ok_ids(store, new, ids)
    drawn = np.random.default_rng(_SEED).permutation(sorted(shared))[:SAMPLE].tolist()
    before, after = (store.lookup(drawn, [v.version], unknown="mask")[v.name] for v in (old, new))
    return before, after


def _of(rows: pa.Table, ids: pa.Array) -> pa.Table:
    """The rows of some items: those of items that left the dataset are kept, and judged no more."""
    return rows.filter(pc.is_in(rows["item_id"], value_set=ids))


def _ok_ids(store: Store, version: FeatureVersion, ids: pa.Array) -> set[str]:
    rows = _of(store.ledger(version), ids)
    return set(rows["item_id"].filter(pc.equal(rows["status"], OK)).to_pylist())


def _vectors(column: FeatureColumn) -> np.ndarray:
    """``[n, dims]`` float32; several vectors of an item one after the other."""
    matrix = column.matrix
    return matrix.reshape(len(matrix), int(np.prod(matrix.shape[1:]))).astype(np.float32)


def _mean_cosine(a: np.ndarray, b: np.ndarray, new: FeatureVersion, least: float) -> GateResult:
    gate = "min_mean_cosine"
    if a.shape[1] != b.shape[1]:
        detail = f"vectors of {a.shape[1]} and {b.shape[1]} dims have no cosine; see min_neighbour_overlap"
        return GateResult(gate, new.version, least, None, False, detail)
    found = cosines(a, b)
    known = found[~np.isnan(found)]
    if not len(known):
        return GateResult(gate, new.version, least, None, False, _NOTHING_SHARED)
    mean = float(known.mean())
    return GateResult(gate, new.version, least, mean, mean >= least, f"of {len(known):,} items")


def _neighbour_overlap(a: np.ndarray, b: np.ndarray, new: FeatureVersion, least: float) -> GateResult:
    from mmfeat.report.pictures import unit
    from mmfeat.report.usefulness import neighbour_overlap

    gate, n = "min_neighbour_overlap", len(a)
    if n < 2 * _NEIGHBOURS:
        detail = f"fewer than {2 * _NEIGHBOURS} items have vectors in both versions"
        return GateResult(gate, new.version, least, None, False, detail)
    asked = np.arange(min(n, _NEIGHBOURS_OF))
    share = neighbour_overlap(unit(a), unit(b), asked, _NEIGHBOURS)
    return GateResult(gate, new.version, least, share, share >= least, f"of {len(asked):,} among {n:,} items")


def _changed(before: FeatureColumn, after: FeatureColumn, new: FeatureVersion, most: float) -> GateResult:
    if not len(before.mask):
        return GateResult("max_changed", new.version, most, None, False, _NOTHING_SHARED)
    differ = [not np.array_equal(x, y) for x, y in zip(before.values, after.values, strict=True)]
    share = float(np.mean(differ))
    return GateResult("max_changed", new.version, most, share, share <= most, f"of {len(differ):,} items")


_NOTHING_SHARED = "no item has a value in both this and the current version"

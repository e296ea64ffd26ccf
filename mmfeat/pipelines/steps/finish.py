"""How a run whose rows are committed ends: its versions are judged, become current, and replace old ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from mmfeat.pipelines.progress import Reporter
from mmfeat.pipelines.run_report import RunReport
from mmfeat.schemas.errors import GateFailed
from mmfeat.schemas.operations import GateResult, KeepConfig
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import ROLLED_BACK, FeatureVersion, Retention, Store


class Judge(Protocol):
    """Says whether versions are fit to become current."""

    def check(self, specs: Sequence[FeatureSpec]) -> None:
        """ConfigError where it could not be said; called before any work."""

    def judge(self, store: Store, versions: Sequence[FeatureVersion]) -> list[GateResult]:
        """Every gate of every version."""


@dataclass(frozen=True)
class Conclusion:
    """The last steps of a run.

    Args:
        keep: the job's ``[keep]``.
        judge: of the job's ``[gates]``; no version is held back without one.
        reporter: told what was done.
    """

    keep: KeepConfig | None
    judge: Judge | None
    reporter: Reporter

    def steps(
        self, store: Store, versions: Sequence[FeatureVersion], report: RunReport
    ) -> Iterator[RunReport]:
        """Judge the job's versions, make them current all at once, and remove what need not be kept.

        Yields:
            The report after each step.

        Raises:
            GateFailed: a version fell short; nothing became current.
        """
        if self.judge is not None:
            report = replace(report, gates=self.judge.judge(store, versions))
            yield report
            if short := [gate for gate in report.gates if not gate.passed]:
                raise _fell_short(short, report)
        if undone := [v for v in versions if store.promotion.standing_of(v) == ROLLED_BACK]:
            # None of the job's versions then: those made of each other become current together.
            yield replace(report, notices=[self._said(_stays(version)) for version in undone])
            return
        report = replace(report, promoted=[v.version for v in store.promotion.promote(versions)])
        yield report
        if self.keep is not None:
            yield replace(report, removed=self._remove_old(store, self.keep))

    def _remove_old(self, store: Store, keep: KeepConfig) -> list[str]:
        retention = Retention(keep.versions, keep.snapshots, timedelta(days=keep.older_than_days))
        survey = store.retaining.survey(retention)
        freed = store.retaining.collect(survey)
        names = [one.name for one in survey.garbage]
        if names:
            self.reporter.say(f"removed by [keep]: {', '.join(names)}; {freed:,} bytes freed")
        return names

    def _said(self, notice: str) -> str:
        self.reporter.say(notice)
        return notice


def _stays(version: FeatureVersion) -> str:
    return (
        f"{version.version} was rolled back and stays so, and no version of this job becomes current; "
        f"`mmfeat promote {version.version}` undoes that"
    )


def _fell_short(short: Sequence[GateResult], report: RunReport) -> GateFailed:
    return GateFailed(
        f"{'; '.join(map(str, short))}. The versions of this job stay candidates.",
        hint="All rows are committed, and what was current still is. `mmfeat promote NAME@FINGERPRINT` "
        "makes a version current all the same.",
        report=report,
    )

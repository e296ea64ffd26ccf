"""``promote``: the versions of a job become current, all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from mmfeat.pipelines.run_report import RunReport
from mmfeat.pipelines.steps.base import RunContext, Step
from mmfeat.schemas.frozen import Frozen
from mmfeat.store import ROLLED_BACK, FeatureVersion, Store, why_stale


class Promote(Step[Frozen]):
    """Makes the job's versions current, unless one of them was rolled back."""

    always: ClassVar[bool] = True

    def run(self, context: RunContext) -> Iterator[RunReport]:
        """See :meth:`Step.run`."""
        promoted, notices = make_current(context.store, context.versions)
        context.promoted = not notices
        if promoted:
            notices = made_stale(context.store)
        for notice in notices:
            context.reporter.say(notice)
        report = context.so_far
        yield replace(report, promoted=promoted, notices=[*report.notices, *notices])


def make_current(store: Store, versions: Sequence[FeatureVersion]) -> tuple[list[str], list[str]]:
    """Make versions that were made together current together.

    What was rolled back stays so, and then none of them becomes current: they are made of each other.

    Returns:
        The versions that became current, and why none did.
    """
    if undone := [v for v in versions if store.promotion.state_of(v) == ROLLED_BACK]:
        return [], [_stays(version) for version in undone]
    return [version.version for version in store.promotion.promote(versions)], []


def made_stale(store: Store) -> list[str]:
    """The current versions that read something else than what has become current."""
    current, versions = store.current(), store.versions()
    return [
        f"{version.version} is stale now: {why}; {_remedy(version)} brings it up to date"
        for version in map(store.resolve, sorted(current))
        if (why := why_stale(version, versions, current))
    ]


def _remedy(version: FeatureVersion) -> str:
    """What makes a stale version anew: codes may come of no job."""
    return "its own job or `mmfeat quantize`" if version.spec.form == "codes" else "its own job"


def _stays(version: FeatureVersion) -> str:
    return (
        f"{version.version} was rolled back and stays so, and no version of this job becomes current; "
        f"`mmfeat promote {version.version}` undoes that"
    )

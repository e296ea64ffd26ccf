"""``[keep]``: what a run that made its versions current removes of the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar

from pydantic import BaseModel

from mmfeat.pipelines.run_report import RunReport
from mmfeat.pipelines.steps.base import RunContext, Step
from mmfeat.schemas.operations import KeepConfig
from mmfeat.store import Retention


class Keep(Step[KeepConfig]):
    """Removes old versions and snapshots; nothing if the job's versions did not become current."""

    Config: ClassVar[type[BaseModel]] = KeepConfig

    def run(self, context: RunContext) -> Iterator[RunReport]:
        """See :meth:`Step.run`."""
        if not context.promoted:
            return
        keep, retaining = self.config, context.store.retaining
        retention = Retention(keep.versions, keep.snapshots, timedelta(days=keep.older_than_days))
        survey = retaining.survey(retention)
        freed = retaining.collect(survey)
        names = [one.name for one in survey.garbage]
        if names:
            context.reporter.say(f"removed by [keep]: {', '.join(names)}; {freed:,} bytes freed")
        yield replace(context.so_far, removed=names)

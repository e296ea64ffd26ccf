"""A job's step as another package adds one: ``[count]`` tells how many items have a value of a feature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import BaseModel

from mmfeat.pipelines.run_report import RunReport
from mmfeat.pipelines.steps.base import RunContext, Step
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.job import JobConfig
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.schemas.validation import near


class CountConfig(Frozen):
    """``[count]``: which feature."""

    feature: str


class Count(Step[CountConfig]):
    """Counts the items that have a value."""

    Config: ClassVar[type[BaseModel]] = CountConfig

    def check(self, job: JobConfig, specs: Sequence[FeatureSpec]) -> None:
        names = [spec.name for spec in specs]
        if self.config.feature not in names:
            raise ConfigError(
                f"[count] feature: this job has no feature {self.config.feature!r}.",
                hint=f"{near(self.config.feature, names)}There are: {', '.join(names)}.",
            )

    def run(self, context: RunContext) -> Iterator[RunReport]:
        (version,) = [v for v in context.versions if v.name == self.config.feature]
        report = context.so_far
        found = {
            "version": version.version,
            "state": context.store.promotion.state_of(version),
            "items": context.store.counts(version).get("ok", 0),
            "removed_before": report.removed,
        }
        yield replace(report, further={**report.further, "count": found})

"""``[evaluate]`` of a job: what the interactions say of its versions, for the run's report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import BaseModel

from mmfeat.evaluate import need_packages
from mmfeat.pipelines.evidence import evidence
from mmfeat.pipelines.run_report import RunReport
from mmfeat.pipelines.steps.base import RunContext, Step
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.evaluation import EvaluateConfig
from mmfeat.schemas.job import JobConfig
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.schemas.validation import near


class Evaluate(Step[EvaluateConfig]):
    """Judges the job's versions of vectors and codes side by side. Nothing new, nothing computed."""

    Config: ClassVar[type[BaseModel]] = EvaluateConfig

    def check(self, job: JobConfig, specs: Sequence[FeatureSpec]) -> None:
        """See :meth:`Step.check`: a protocol that there is not, or a feature that the job does not make.

        Raises:
            MissingExtra: the packages of an evaluation are not installed.
        """
        need_packages(self.config.protocols)
        refuse_others("[evaluate] features", self.config.features, specs)
        if not any(spec.form != "text" for spec in specs):
            raise ConfigError("[evaluate]: this job makes no vectors or codes.", hint="Take the table out.")

    def run(self, context: RunContext) -> Iterator[RunReport]:
        """See :meth:`Step.run`."""
        versions = [
            version
            for version in context.versions
            if version.spec.form != "text" and version.name in (self.config.features or (version.name,))
        ]
        found = evidence(context.store, versions, self.config, context.reporter.say, context.place)
        for one in found.features:
            context.reporter.say(f"{one.version}: {one.verdict}")
        report = context.so_far
        yield replace(report, further={**report.further, "evaluate": found.to_dict()})


def refuse_others(where: str, names: Sequence[str], specs: Sequence[FeatureSpec]) -> None:
    """ConfigError for a feature that the job does not make, or that is a text."""
    able = sorted(spec.name for spec in specs if spec.form != "text")
    for name in names:
        if name not in able:
            raise ConfigError(
                f"{where}: {name!r} is no feature of this job that holds vectors or codes.",
                hint=f"{near(name, able)}There are: {', '.join(able) or 'none'}.",
            )

"""One run of a job: read the dataset, and then the job's steps one after the other."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from mmfeat import datasets
from mmfeat.extract.registry import resolve_all
from mmfeat.pipelines.execution.base import Executor
from mmfeat.pipelines.forget import finish as finish_forgetting
from mmfeat.pipelines.imports import imported
from mmfeat.pipelines.intake import take_in
from mmfeat.pipelines.progress import Logged, Reporter, Silent
from mmfeat.pipelines.record import Recording, recorded, was_killed
from mmfeat.pipelines.run_report import RunReport
from mmfeat.pipelines.steps.base import RunContext, Step, steps_of
from mmfeat.schemas.catalog import USUAL_COLUMNS, Column, columns_of
from mmfeat.schemas.errors import Interrupted, SpendingCap
from mmfeat.schemas.job import JobConfig
from mmfeat.store import Store


def run_job(job: JobConfig, reporter: Reporter | None = None, executor: Executor | None = None) -> RunReport:
    """Bring a store up to date with a job. Safe to start again at any moment.

    Args:
        executor: what computes; None to choose by the job and the work.

    Raises:
        ConfigError, DatasetError, StoreError: the job can't be carried out as written, or the store belongs
            to another dataset.
        GateFailed: the run would take away more than ``run.max_lost`` of what the store has, and wrote
            nothing. Or more than ``run.max_failed`` of a feature's rows failed, or a version fell short of
            ``[gates]``: all rows are committed then, and no version of the job became current.
        ValuesChanged: a model gives other values for the same input than when its feature's version was
            begun, and ``run.accept_changed`` does not say to go on. No row of it is written.
        SpendingCap: a server may be asked no more. What it answered is committed; run again to go on.
        ServerRefused, ServerUnavailable: a server answers nobody; as above.
        ConservationError: rows planned and rows committed do not add up.
        Interrupted: by Ctrl-C or SIGTERM; as above.
    """
    run = _Run(job, reporter or Silent(), executor)
    try:
        report = run.execute()
    except KeyboardInterrupt:
        stopped = Interrupted(run.report)
        run.end(stopped)
        raise stopped from None
    except BaseException as error:
        if isinstance(error, SpendingCap):
            # What was paid for is committed, and counts.
            error.report = run.report
        run.end(error)
        raise
    return replace(report, notices=[*report.notices, *run.end(None)])


class _Run:
    def __init__(self, job: JobConfig, reporter: Reporter, executor: Executor | None) -> None:
        # A dataset's own bucket is read by the operator's word.
        limits = job.limits.with_buckets([job.dataset.root or ""])
        self.job = job.model_copy(update={"limits": limits})
        self.reporter = Logged(reporter)
        self.executor = executor
        self.run_id = uuid.uuid4().hex[:12]
        self.began = datetime.now(UTC)
        self.steps = steps_of(job)
        self.context: RunContext | None = None

    @property
    def report(self) -> RunReport | None:
        return None if self.context is None else self.context.report

    def execute(self) -> RunReport:
        dataset = datasets.load(
            self.job.dataset.name,
            self.job.dataset.root,
            columns=self.job.dataset.columns,
            **self.job.dataset.said,
        )
        specs = resolve_all(self.job.features, _columns(self.job, dataset), imported(self.job.store.uri))
        for step in self.steps:
            step.check(self.job, specs)
        store = Store.open(self.job.store.uri, create=True)
        context = RunContext(
            self.job, self.run_id, store, dataset, specs, self.reporter, executor=self.executor
        )
        self.context = context
        wait = self.job.run.wait_seconds
        with (
            store.lease(f"run {self.run_id}", wait, waiting=self.reporter.say),
            recorded(store, "extract", self.run_id, self.began, self._facts(context)) as recording,
        ):
            context.after_kill = was_killed(store, before=self.run_id)
            self.reporter.log = context.log = recording.say
            listed = self._without_forgotten(context)
            take_in(context, listed)
            for step in self._wanted_steps():
                self._take(step, context, recording)
        return context.so_far

    def end(self, error: BaseException | None) -> list[str]:
        """Tell the steps that the run has ended; what did not work, which is also said and logged."""
        problems = [said for step in self.steps for said in step.ended(self.context, error)]
        for problem in problems:
            self.reporter.say(problem)
        return problems

    def _wanted_steps(self) -> Sequence[Step[Any]]:
        """An estimate ends with the first step, which makes it."""
        return self.steps[:1] if self.job.run.estimate else self.steps

    def _take(self, step: Step[Any], context: RunContext, recording: Recording) -> None:
        try:
            for report in step.run(context):
                context.report = report
        finally:
            # For the run's record and for whoever interrupts it.
            if context.report is not None:
                recording.report = context.report.to_dict()

    def _facts(self, context: RunContext) -> dict[str, Any]:
        """What was to be done, for the record."""
        dataset = context.dataset
        return {
            "dataset": {"name": dataset.name, "root": dataset.root, "items": len(dataset.items)},
            # What is to be fitted has no version before that.
            "versions": [spec.name if spec.is_fitted else spec.version for spec in context.specs],
            "specs": [spec.model_dump(mode="json", exclude_none=True) for spec in context.specs],
            "job": self.job.model_dump(mode="json", exclude_none=True, exclude={"features"}),
        }

    def _without_forgotten(self, context: RunContext) -> pa.Table:
        """Forgotten items do not come back; a removal that was cut short is finished first.

        Returns:
            All items of the dataset that were not forgotten; ``context.dataset`` has those that the run
            covers.
        """
        store, dataset = context.store, context.dataset
        if done := finish_forgetting(store, self.job.limits.fetch.cache):
            self.reporter.say(f"finished what was cut short: {len(done.forgotten):,} items are forgotten")
        covered = dataset.items.slice(0, self.job.run.limit)
        listed = store.forgetting.without(dataset.items)
        dataset.items = store.forgetting.without(covered)
        if dataset.interactions is not None:
            dataset.interactions = store.forgetting.without(dataset.interactions)
        context.forgotten = len(covered) - len(dataset.items)
        if context.forgotten:
            self.reporter.say(f"{context.forgotten:,} items were forgotten and are left out")
        return listed


def _columns(job: JobConfig, dataset: datasets.Dataset) -> dict[str, Column]:
    """What features can read. A column that nobody asked for gives its name up to a feature: adapters learn
    to read more of what datasets hold, and jobs were written before that."""
    asked = {*(column.name for column in USUAL_COLUMNS), *job.dataset.columns}
    columns = columns_of(dataset.items.schema)
    return {name: column for name, column in columns.items() if name in asked or name not in job.features}

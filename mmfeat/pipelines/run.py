"""One run: read the dataset, plan what is missing, compute it, commit it, account for every row."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from mmfeat import datasets
from mmfeat.datasets import Dataset
from mmfeat.extract.registry import resolve_all
from mmfeat.pipelines.execution.commit import Committer
from mmfeat.pipelines.execution.cost import Costs, captioned, trial
from mmfeat.pipelines.execution.ray.graph import Graph, ray_session
from mmfeat.pipelines.execution.ray.isolate import retry_alone
from mmfeat.pipelines.execution.runtimes import Runtimes
from mmfeat.pipelines.execution.servers import forget_answers, reached, sending_of
from mmfeat.pipelines.forget import finish as finish_forgetting
from mmfeat.pipelines.planning.plan import Plan, Planner
from mmfeat.pipelines.planning.work import count_wanted
from mmfeat.pipelines.progress import Logged, Reporter, Silent
from mmfeat.pipelines.record import Recording, recorded
from mmfeat.pipelines.run_report import FeatureReport, RunReport
from mmfeat.pipelines.steps import notify
from mmfeat.pipelines.steps.finish import Conclusion, Judge
from mmfeat.schemas.errors import ConservationError, GateFailed, Interrupted, SpendingCap
from mmfeat.schemas.featureset import FAILED, MISSING, OK
from mmfeat.schemas.job import JobConfig
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import FeatureVersion, Store

# Below this many failures a run goes on whatever their share: a handful of bad files in a small
# folder must not keep the good ones from being extracted. The gate is still judged at the end.
_FAILURES_BEFORE_STOP = 100


def run_job(job: JobConfig, reporter: Reporter | None = None, judge: Judge | None = None) -> RunReport:
    """Bring a store up to date with a job. Safe to start again at any moment.

    Args:
        judge: of the job's ``[gates]``; without one no version is held back by them.

    Raises:
        ConfigError, DatasetError, StoreError: the job can't be carried out as written.
        GateFailed: more than ``run.max_failed`` of a feature's rows failed, or a version fell short of
            ``[gates]``. All rows are committed; no version of the job became current.
        SpendingCap: a server may be asked no more. What it answered is committed; run again to go on.
        ServerRefused, ServerUnavailable: a server answers nobody; as above.
        ConservationError: rows planned and rows committed do not add up.
        Interrupted: by Ctrl-C or SIGTERM; as above.
    """
    run = _Run(job, reporter or Silent(), judge)
    try:
        notify.check(job.notify)
        report = run.execute()
    except KeyboardInterrupt:
        stopped = Interrupted(run.report)
        run.tell(stopped, run.report)
        raise stopped from None
    except BaseException as error:
        run.tell(error, getattr(error, "report", None))
        raise
    return replace(report, notices=[*report.notices, *run.tell(None, report)])


class _Pace:
    """When results came. Every worker's first ones wait for Ray and the models: they say nothing of speed."""

    def __init__(self) -> None:
        self.workers = 1
        self.tables = 0
        self.first = self.steady = self.last = 0.0
        self.rows = 0

    def count(self, rows: int) -> None:
        """Results that came now, as one table."""
        self.last = time.monotonic()
        self.tables += 1
        if self.tables == 1:
            self.first = self.last
        if self.tables <= self.workers:
            self.steady = self.last
        else:
            self.rows += rows

    @property
    def rows_per_second(self) -> float | None:
        return round(self.rows / (self.last - self.steady), 2) if self.rows else None


class _Run:
    def __init__(self, job: JobConfig, reporter: Reporter, judge: Judge | None) -> None:
        self.job = job
        self.judge = judge
        self.reporter = Logged(reporter)
        self.run_id = uuid.uuid4().hex[:12]
        self.began = datetime.now(UTC)
        self.clock = time.monotonic()
        self.pace = _Pace()
        self.runtimes = Runtimes()
        self.forgotten = 0
        self.report: RunReport | None = None

    def execute(self) -> RunReport:
        dataset = _load(self.job)
        specs = resolve_all(self.job.features)
        if self.judge is not None:
            self.judge.check(specs)
        store = Store.open(self.job.store.uri, create=True)
        self.sending = sending_of(self.job, specs, store.uri, self.run_id)
        wait = self.job.run.wait_seconds
        with (
            store.lease(f"run {self.run_id}", wait, waiting=self.reporter.say),
            recorded(store, "extract", self.run_id, self.began, self._facts(dataset, specs)) as recording,
        ):
            self.reporter.log = recording.say
            self._leave_out_forgotten(store, dataset)
            store.put_catalog(dataset.items, {"name": dataset.name, "root": dataset.root})
            if dataset.interactions is not None:
                store.put_interactions(dataset.interactions)
            versions = [store.add_version(spec) for spec in specs]
            report = self._bring_up_to_date(store, dataset, versions, recording)
            self._note(recording, report)
            self._check_gate(report)
            if not self.job.run.estimate:
                conclusion = Conclusion(self.job.keep, self.judge, self.reporter)
                for report in conclusion.steps(store, versions, report):  # noqa: B020 - it grows
                    self._note(recording, report)
        return report

    def _note(self, recording: Recording, report: RunReport) -> None:
        """What has come of the run so far, for its record and for whoever interrupts it."""
        self.report = report
        recording.report = report.to_dict()

    def tell(self, error: BaseException | None, report: RunReport | None) -> list[str]:
        """Notify of the run's end as the job says; what did not work, which is also said and logged."""
        config = self.job.notify
        if config is None:
            return []
        told = None if report is None else report.to_dict()
        body = notify.message(error, self.run_id, self.job.store.uri, self.job.dataset.name, told)
        problems = notify.notify(config, body)
        for problem in problems:
            self.reporter.say(problem)
        return problems

    def _facts(self, dataset: Dataset, specs: Sequence[FeatureSpec]) -> dict[str, Any]:
        """What was to be done, for the record."""
        return {
            "dataset": {"name": dataset.name, "root": dataset.root, "items": len(dataset.items)},
            "versions": [spec.version for spec in specs],
            "specs": [spec.model_dump(mode="json", exclude_none=True) for spec in specs],
            "job": self.job.model_dump(mode="json", exclude_none=True, exclude={"features"}),
        }

    def _leave_out_forgotten(self, store: Store, dataset: Dataset) -> None:
        """Forgotten items do not come back; a removal that was cut short is finished first."""
        if done := finish_forgetting(store, self.job.limits.fetch.cache):
            self.reporter.say(f"finished what was cut short: {len(done.forgotten):,} items are forgotten")
        given = len(dataset.items)
        dataset.items = store.forgetting.without(dataset.items)
        if dataset.interactions is not None:
            dataset.interactions = store.forgetting.without(dataset.interactions)
        self.forgotten = given - len(dataset.items)
        if self.forgotten:
            self.reporter.say(f"{self.forgotten:,} items were forgotten and are left out")

    def _bring_up_to_date(
        self, store: Store, dataset: Dataset, versions: Sequence[FeatureVersion], recording: Recording
    ) -> RunReport:
        ledgers = [partial(store.ledger_batches, v) for v in versions]
        plan = Planner(
            dataset.items,
            [v.spec for v in versions],
            ledgers,
            store.stamps(),
            limits=self.job.limits,
            retry_failed=self.job.run.retry_failed,
            report=self.reporter.say,
        ).plan()
        if len(plan.touched):
            store.put_stamps(plan.touched)
        self.reporter.log(_planned(plan))
        committer = Committer(
            store,
            versions,
            plan,
            committed=lambda feature, rows: self.reporter.log(
                f"{versions[feature].version}: {rows:,} rows committed"
            ),
        )
        self.costs = Costs(plan.units, plan.specs, self.job.spending)
        try:
            self._commit_all(committer, plan)
        except SpendingCap as cap:
            raise _capped(cap, plan, committer, self._report(dataset, plan, committer)) from None
        finally:
            # However the run ends, its record says what came of it.
            self._note(recording, self._report(dataset, plan, committer))
        if self.job.run.estimate:
            return self._report(dataset, plan, committer)
        _check_conserved(plan, committer)
        for number, version_ in enumerate(versions):
            if plan.planned(number):
                store.finish(version_)
        forget_answers(plan.specs, self.sending)
        return self._report(dataset, plan, committer)

    def _commit_all(self, committer: Committer, plan: Plan) -> None:
        try:
            committer.add_known(plan.known)
            committer.add_copies(plan.copies)
            if len(plan.units):
                self._compute(committer, plan)
        finally:
            # On Ctrl-C or an error, what came out of the models is kept: it was paid for.
            committer.flush()

    def _compute(self, committer: Committer, plan: Plan) -> None:
        limits, resources = self.job.limits, self.job.resources
        units = plan.units
        if self.job.run.estimate:
            units = units.take(pa.array(trial(units, plan.specs), pa.int64()))
        self.reporter.start(sum(count_wanted(units).values()))
        try:
            with ray_session(resources):
                graph = Graph(units, plan.specs, limits, resources, self.sending, self.job.vllm)
                self.pace.workers = graph.workers
                self._take(committer, plan, graph.results())
                if len(lost := np.intersect1d(units["unit"], committer.pending_units())):
                    self.reporter.say(f"{len(lost)} items were lost with their worker: trying each alone")
                    again = plan.units.take(pa.array(lost))
                    self._take(committer, plan, retry_alone(again, plan.specs, limits, self.sending))
        finally:
            self.reporter.stop()

    def _take(self, committer: Committer, plan: Plan, tables: Generator[pa.Table]) -> None:
        # Closed at once when a run stops early: Ray Data must end its work before Ray is shut down.
        with closing(tables):
            for table in tables:
                for line in (*self.costs.add(table), *self.runtimes.add(table)):
                    self.reporter.say(line)
                rows, stop = reached(table)
                self.pace.count(len(rows))
                committer.add_results(rows)
                self.reporter.advance(len(rows))
                if stop is not None:
                    raise stop
                self._stop_if_hopeless(committer, plan)

    def _stop_if_hopeless(self, committer: Committer, plan: Plan) -> None:
        """Stop early once the share of failures cannot come back under the gate."""
        for number, spec in enumerate(plan.specs):
            failed = committer.tally[number][FAILED]
            if failed >= _FAILURES_BEFORE_STOP and failed > self.job.run.max_failed * plan.n_items:
                raise _gate(
                    spec.version, failed / plan.n_items, self.job.run.max_failed, committer.reasons[number]
                )

    def _report(self, dataset: Dataset, plan: Plan, committer: Committer) -> RunReport:
        features = []
        for number, spec in enumerate(plan.specs):
            tally = committer.tally[number]
            ok, failed = (plan.settled[number][s] + tally[s] for s in (OK, FAILED))
            features.append(
                FeatureReport(
                    version=spec.version,
                    source=spec.source,
                    kind=spec.kind,
                    dims=spec.dims,
                    vectors=spec.vectors,
                    up_to_date=plan.up_to_date(number),
                    ok=tally[OK],
                    missing=tally[MISSING],
                    failed=tally[FAILED],
                    seconds=round(committer.seconds[number], 3),
                    runtimes=self.runtimes.of(number),
                    reasons=dict(Counter(committer.reasons[number]).most_common()),
                    failed_share=failed / (ok + failed) if failed else 0.0,
                    estimate=self.costs.estimate(number),
                    cost=self.costs.actual(number),
                )
            )
        return RunReport(
            run_id=self.run_id,
            store=self.job.store.uri,
            dataset=dataset.name,
            items=plan.n_items,
            forgotten=self.forgotten,
            computed=len(plan.units),
            copied=len(plan.copies) + len(plan.twins),
            start_seconds=round(self.pace.first - self.clock, 3) if self.pace.tables else None,
            rows_per_second=self.pace.rows_per_second,
            seconds=time.monotonic() - self.clock,
            features=features,
        )

    def _check_gate(self, report: RunReport) -> None:
        most = self.job.run.max_failed
        for feature in report.features:
            if feature.failed_share > most:
                raise _gate(feature.version, feature.failed_share, most, feature.reasons, report)


def _capped(cap: SpendingCap, plan: Plan, committer: Committer, report: RunReport) -> SpendingCap:
    """The cap's error, with what is left to do."""
    left = [
        f"{plan.planned(number) - sum(committer.tally[number].values()):,} of {plan.specs[number].version}"
        for number in captioned(plan.specs)
    ]
    return SpendingCap(
        f"{cap.message}; rows left: {', '.join(left)}.",
        hint="What was answered is committed. Run the job again to go on; no answer is paid for twice.",
        report=report,
    )


def _load(job: JobConfig) -> Dataset:
    dataset = datasets.load(job.dataset.name, job.dataset.root, **job.dataset.options)
    if job.run.limit is not None:
        dataset.items = dataset.items.slice(0, job.run.limit)
    return dataset


def _planned(plan: Plan) -> str:
    rows = ", ".join(f"{plan.planned(number):,} of {spec.version}" for number, spec in enumerate(plan.specs))
    return f"{plan.n_items:,} items; rows planned: {rows}; {len(plan.units):,} contents to compute"


def _check_conserved(plan: Plan, committer: Committer) -> None:
    """Planned, counted on the way and found in the store must be the same."""
    for number, (spec, version_) in enumerate(zip(plan.specs, committer.versions, strict=True)):
        planned, committed = plan.planned(number), sum(committer.tally[number].values())
        if planned != committed:
            raise _not_conserved(
                f"{spec.version}: {planned:,} rows were planned and {committed:,} committed."
            )
        expected = plan.rows[number] + planned - len(plan.replaced[number])
        found = sum(committer.store.counts(version_).values())
        if expected != found:
            raise _not_conserved(
                f"{spec.version}: the store should hold {expected:,} rows and holds {found:,}."
            )


def _not_conserved(message: str) -> ConservationError:
    return ConservationError(
        message, hint="Please report this with the run's record: `mmfeat runs show --json`."
    )


def _gate(
    version_: str, share: float, most: float, reasons: dict[str, int], report: RunReport | None = None
) -> GateFailed:
    commonest = "; ".join(f"{n} x {why}" for why, n in Counter(reasons).most_common(3))
    return GateFailed(
        f"{version_}: {share:.1%} of the rows failed, more than {most:.1%}"
        + (f" ({commonest})." if commonest else "."),
        hint="See `mmfeat failures`; raise --max-failed to accept them. What succeeded is committed.",
        report=report,
    )

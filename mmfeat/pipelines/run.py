"""One run: read the dataset, plan what is missing, compute it, commit it, account for every row."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from mmfeat import datasets
from mmfeat.datasets import Dataset
from mmfeat.extract.prompts import variables_of
from mmfeat.extract.registry import resolve_all
from mmfeat.pipelines.commit import Committer
from mmfeat.pipelines.graph import ray_session, results
from mmfeat.pipelines.isolate import retry_alone
from mmfeat.pipelines.plan import Plan, Planner
from mmfeat.pipelines.progress import Reporter, Silent
from mmfeat.pipelines.record import recorded
from mmfeat.schemas.errors import ConfigError, ConservationError, GateFailed
from mmfeat.schemas.featureset import FAILED, MISSING, OK
from mmfeat.schemas.job import JobConfig
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import FeatureVersion, Store

# Below this many failures a run goes on whatever their share: a handful of bad files in a small
# folder must not keep the good ones from being extracted. The gate is still judged at the end.
_FAILURES_BEFORE_STOP = 100


@dataclass(frozen=True)
class FeatureReport:
    """What one run did for one feature.

    Attributes:
        version: ``name@fingerprint``.
        source: what it reads.
        kind: ``vector``, ``vectors`` (several per item), ``caption`` or ``tags``.
        dims: of a vector feature; vectors: how many an item has, where it has several.
        up_to_date: items that had nothing to do.
        ok, missing, failed: rows that this run committed.
        seconds: that the model worked, summed over all processes; decoding and start-up not counted.
        reasons: ``stage: reason`` of failed rows to how many, commonest first.
        failed_share: of all the dataset's items that have the source, committed now or before,
            the share whose row is ``failed``.
    """

    version: str
    source: str
    kind: str
    dims: int | None
    vectors: int | None
    up_to_date: int
    ok: int
    missing: int
    failed: int
    seconds: float
    reasons: dict[str, int]
    failed_share: float


@dataclass(frozen=True)
class RunReport:
    """What a run did.

    Attributes:
        computed: contents that went through a model.
        copied: rows whose content was known from another item.
        start_seconds: until the models' first results, start-up included; None where nothing ran.
        rows_per_second: results per second after the first ones; None where all came at once.
        seconds: of the whole run.
    """

    run_id: str
    store: str
    dataset: str
    items: int
    computed: int
    copied: int
    start_seconds: float | None
    rows_per_second: float | None
    seconds: float
    features: list[FeatureReport]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def run_job(job: JobConfig, reporter: Reporter | None = None) -> RunReport:
    """Bring a store up to date with a job. Safe to start again at any moment.

    Raises:
        ConfigError, DatasetError, StoreError: the job can't be carried out as written.
        GateFailed: more than ``run.max_failed`` of a feature's rows failed; all others are committed.
        ConservationError: rows planned and rows committed do not add up.
    """
    return _Run(job, reporter or Silent()).execute()


class _Pace:
    """When results came. The first ones wait for Ray and the models, so they say nothing of speed."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.last = 0.0
        self.rows = 0

    def count(self, rows: int) -> None:
        self.last = time.monotonic()
        if self.first is None:
            self.first = self.last
        else:
            self.rows += rows

    @property
    def rows_per_second(self) -> float | None:
        if self.first is None or not self.rows:
            return None
        return round(self.rows / (self.last - self.first), 2)


class _Run:
    def __init__(self, job: JobConfig, reporter: Reporter) -> None:
        self.job = job
        self.reporter = reporter
        self.run_id = uuid.uuid4().hex[:12]
        self.began = datetime.now(UTC)
        self.clock = time.monotonic()
        self.pace = _Pace()

    def execute(self) -> RunReport:
        dataset = _load(self.job)
        specs = resolve_all(self.job.features)
        _refuse_prompts_with_texts(specs)
        store = Store.open(self.job.store.uri, create=True)
        with store.lease(owner=f"run {self.run_id}"):
            store.put_catalog(dataset.items, {"name": dataset.name, "root": dataset.root})
            if dataset.interactions is not None:
                store.put_interactions(dataset.interactions)
            versions = [store.add_version(spec) for spec in specs]
            facts = {"name": dataset.name, "root": dataset.root, "items": len(dataset.items)}
            names = [v.version for v in versions]
            with recorded(store, self.run_id, self.began, facts, names) as outcome:
                report = self._bring_up_to_date(store, dataset, versions)
                outcome.update(report.to_dict())
                self._check_gate(report)
        return report

    def _bring_up_to_date(
        self, store: Store, dataset: Dataset, versions: Sequence[FeatureVersion]
    ) -> RunReport:
        ledgers = [store.ledger(v) for v in versions]
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
        committer = Committer(store, versions, plan)
        self._commit_all(committer, plan)
        for number, version_ in enumerate(versions):
            if plan.planned(number):
                store.finish(version_)
            # A version is what its name means from the first run that completed it.
            store.set_current(version_.name, version_.fingerprint)
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
        _check_conserved(plan, committer)

    def _compute(self, committer: Committer, plan: Plan) -> None:
        limits, resources = self.job.limits, self.job.resources
        self.reporter.start(sum(map(len, plan.units["features"].to_pylist())))
        try:
            with ray_session(resources):
                self._take(committer, plan, results(plan.units, plan.specs, limits, resources))
                if lost := committer.pending_units():
                    self.reporter.say(f"{len(lost)} items were lost with their worker: trying each alone")
                    again = plan.units.take(pa.array(lost))
                    self._take(committer, plan, retry_alone(again, plan.specs, limits))
        finally:
            self.reporter.stop()

    def _take(self, committer: Committer, plan: Plan, tables: Generator[pa.Table]) -> None:
        # Closed at once when a run stops early: Ray Data must end its work before Ray is shut down.
        with closing(tables):
            for table in tables:
                self.pace.count(len(table))
                committer.add_results(table)
                self.reporter.advance(len(table))
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
                    reasons=dict(Counter(committer.reasons[number]).most_common()),
                    failed_share=failed / (ok + failed) if failed else 0.0,
                )
            )
        return RunReport(
            run_id=self.run_id,
            store=self.job.store.uri,
            dataset=dataset.name,
            items=plan.n_items,
            computed=len(plan.units),
            copied=len(plan.copies) + sum(map(len, plan.twins.values())),
            start_seconds=None if self.pace.first is None else round(self.pace.first - self.clock, 3),
            rows_per_second=self.pace.rows_per_second,
            seconds=time.monotonic() - self.clock,
            features=features,
        )

    def _check_gate(self, report: RunReport) -> None:
        most = self.job.run.max_failed
        for feature in report.features:
            if feature.failed_share > most:
                raise _gate(feature.version, feature.failed_share, most, feature.reasons, report)


def _refuse_prompts_with_texts(specs: Sequence[FeatureSpec]) -> None:
    """A caption's content is its media: with a text in the prompt, a changed title would go unnoticed."""
    for spec in specs:
        if spec.prompt is not None and (names := sorted(variables_of(spec.prompt.text))):
            raise ConfigError(
                f"feature {spec.name!r}: the prompt {spec.prompt.name!r} reads {{{names[0]}}}, and a run "
                "gives captioners the pictures alone.",
                hint="Take the variable out of the prompt.",
            )


def _load(job: JobConfig) -> Dataset:
    dataset = datasets.load(job.dataset.name, job.dataset.root, **job.dataset.options)
    if job.run.limit is not None:
        dataset.items = dataset.items.slice(0, job.run.limit)
    return dataset


def _check_conserved(plan: Plan, committer: Committer) -> None:
    for number, spec in enumerate(plan.specs):
        planned, committed = plan.planned(number), sum(committer.tally[number].values())
        if planned != committed:
            raise ConservationError(
                f"{spec.version}: {planned} rows were planned and {committed} committed.",
                hint="What was committed is sound. Please report this with the run's record.",
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

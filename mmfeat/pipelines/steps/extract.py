"""``extract``: what a job's features lack is planned, computed and committed, and every row accounted for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from mmfeat.extract.downloads import download_bytes
from mmfeat.extract.registry import class_of
from mmfeat.pipelines.execution.base import Task
from mmfeat.pipelines.execution.canaries import Canaries
from mmfeat.pipelines.execution.choice import choose
from mmfeat.pipelines.execution.commit import Committer
from mmfeat.pipelines.execution.cost import Costs, counted, trial
from mmfeat.pipelines.execution.needs import Needs, Trial, needs_of_fitted, too_large
from mmfeat.pipelines.execution.pace import Pace
from mmfeat.pipelines.execution.runtimes import Runtimes
from mmfeat.pipelines.execution.servers import forget_answers, reached, sending_of
from mmfeat.pipelines.fitted import FittedReport, bring_up_to_date
from mmfeat.pipelines.planning.contents import Contents
from mmfeat.pipelines.planning.groups import media_columns_of
from mmfeat.pipelines.planning.plan import Plan
from mmfeat.pipelines.planning.planner import Planner
from mmfeat.pipelines.planning.several import reads_several
from mmfeat.pipelines.planning.work import count_wanted
from mmfeat.pipelines.run_report import FeatureReport, RunReport
from mmfeat.pipelines.steps.base import RunContext, Step
from mmfeat.pipelines.transforms import TransformReport, bring_transform_up_to_date, check_fit
from mmfeat.schemas.errors import ConfigError, ConservationError, GateFailed, SpendingCap
from mmfeat.schemas.featureset import FAILED, MISSING, OK
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.job import JobConfig
from mmfeat.schemas.reasons import distinct, grouped, may_pass
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.schemas.validation import near
from mmfeat.store import FeatureVersion

# Below this many failures a run goes on whatever their share: a handful of bad files in a small
# folder must not keep the good ones from being extracted. The share is still judged at the end.
_FAILURES_BEFORE_STOP = 100


class Extract(Step[Frozen]):
    """Brings the job's versions up to date. Safe to start again at any moment.

    Features that are computed item by item come first, in as many plans as it takes: a feature of several
    inputs may read what an earlier plan has committed. Features that are fitted to others follow.
    """

    always: ClassVar[bool] = True

    def check(self, job: JobConfig, specs: Sequence[FeatureSpec]) -> None:
        """See :meth:`Step.check`: a feature to fit anew that is not fitted, or that there is not."""
        for spec in specs:
            check_fit(spec)
        fitted = [spec.name for spec in specs if spec.is_fitted]
        if strange := [name for name in job.run.refit if name not in fitted]:
            there = strange[0] in job.features
            raise ConfigError(
                f"{strange[0]!r} cannot be fitted anew: "
                + ("it is not fitted to another feature." if there else "this job has no such feature."),
                hint=f"{near(strange[0], fitted)}Fitted ones are: {', '.join(fitted) or 'none'}.",
            )

    def run(self, context: RunContext) -> Iterator[RunReport]:
        """See :meth:`Step.run`."""
        extraction = _Extraction(context)
        try:
            extraction.compute()
        finally:
            # However the run ends, its record says what came of it.
            context.report = extraction.report()
        extraction.check_failed()
        yield context.so_far


class _Extraction:
    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.job, self.store, self.reporter = context.job, context.store, context.reporter
        self.began = time.monotonic()
        self.pace = Pace()
        self.runtimes = Runtimes()
        self.tallies = [_Tally() for spec in context.specs]
        self.fitted: dict[int, FittedReport | TransformReport] = {}
        self.computed = self.copied = 0
        self.notices: list[str] = []
        self.costs: Costs | None = None
        self.canaries: Canaries | None = None
        self.trial = Trial([spec for spec in context.specs if not spec.is_fitted])
        self.needs: dict[int, Needs] = {}

    def compute(self) -> None:
        """Everything that the store lacks.

        Raises:
            GateFailed: the share of failures cannot come back under the job's bound.
            SpendingCap, ServerRefused, ServerUnavailable: a server may be asked no more, or answers nobody.
            ValuesChanged: a model gives other values than when its version was begun.
            ConservationError: rows planned and rows committed do not add up.
        """
        context = self.context
        computed = [n for n, spec in enumerate(context.specs) if not spec.is_fitted]
        specs = [context.specs[n] for n in computed]
        self.sending = sending_of(self.job, specs, self.store.uri, context.run_id)
        versions = [self.store.add_version(spec) for spec in specs]
        context.versions = versions
        self.canaries = Canaries(self.store, versions, self.job.run.accept_changed)
        self._compute_all(versions, computed)
        if self.job.run.estimate:
            self.notices += too_large(self._needs_by_version(), self.store.folder)
            return
        forget_answers(specs, self.sending)
        self._tell_of_passed_trouble(computed)
        self._tell_of_unread_pictures(computed)
        self._fit(versions)

    def _compute_all(self, versions: list[FeatureVersion], numbers: list[int]) -> None:
        """In as many plans as it takes: at most one for each feature, as each reads others before it.

        Args:
            numbers: the place in the job of each version.
        """
        plan = None
        for _ in versions:
            plan = self._plan(versions, plan)
            self._carry_out(plan, versions, numbers)
            kept = any(tally.kept for tally in self.tallies)
            if self.job.run.estimate or kept or not any(map(len, plan.deferred)):
                return
        self.reporter.say("some items changed while the run was at work: run it again for the rest of them")

    def _plan(self, versions: list[FeatureVersion], before: Plan | None) -> Plan:
        # What was looked at when the dataset was taken in serves the first plan.
        known = self.context.contents if before is None else None
        plan = Planner(
            known or Contents(self.context.dataset.items),
            [version.spec for version in versions],
            [partial(self.store.ledger_batches, version) for version in versions],
            self.store.stamps(),
            limits=self.job.limits,
            retry_failed=self.job.run.retry_failed,
            outdated_texts=_outdated_texts([version.spec for version in versions]),
            after=before,
            report=self.reporter.say,
        ).plan()
        for change in _replacements(plan):
            self.reporter.say(change)
            self.notices.append(change)
        if len(plan.touched):
            self.store.put_stamps(plan.touched)
        self.context.log(_planned(plan))
        return plan

    def _carry_out(self, plan: Plan, versions: list[FeatureVersion], numbers: list[int]) -> None:
        """Compute and commit one plan.

        Args:
            numbers: the place in the job of each of the plan's features.
        """
        committer = Committer(
            self.store,
            versions,
            plan,
            committed=lambda feature, rows: self.context.log(
                f"{versions[feature].version}: {rows:,} rows committed"
            ),
            # Where any share may fail, there is nothing to wait for.
            holds_back=self.job.run.max_failed < 1,
        )
        if self.costs is None:
            self.costs = Costs(plan.work, plan.specs, self.job.spending)
        else:
            self.costs.expect(plan.work)
        # Before the trial, which downloads them.
        downloads = list(map(download_bytes, plan.specs)) if self.job.run.estimate else []
        try:
            self._commit_all(committer, plan)
        except SpendingCap as cap:
            raise _capped(cap, plan, committer) from None
        finally:
            self.computed += len(plan.work)
            self.copied += len(plan.copies) + len(plan.duplicates)
            for n, number in enumerate(numbers):
                self.tallies[number].add(plan, committer, n)
        if self.job.run.estimate:
            self._estimate(plan, numbers, downloads)
        else:
            _check_conserved(plan, committer)
            for n, version in enumerate(versions):
                if plan.planned(n):
                    self.store.finish(version)

    def _commit_all(self, committer: Committer, plan: Plan) -> None:
        try:
            committer.confirm(plan.confirmed)
            committer.add_known(plan.known)
            committer.add_copies(plan.copies)
            if len(plan.work):
                self._compute(committer, plan)
            self._settle_held(committer, plan)
        finally:
            # On Ctrl-C or an error, what came out of the models is kept: it was paid for. How many would
            # have failed is not known then.
            for feature in range(len(plan.specs)):
                committer.settle(feature, accept=False)
            committer.flush()

    def _settle_held(self, committer: Committer, plan: Plan) -> None:
        """Let failed rows replace ``ok`` ones of features of which no more failed than the job allows, and
        which read no other ones."""
        if self.job.run.estimate:
            return
        hopeless: set[str] = set()
        for number, spec in enumerate(plan.specs):
            ok, failed = (plan.settled[number][s] + committer.tally[number][s] for s in (OK, FAILED))
            too_many = failed > self.job.run.max_failed * (ok + failed + len(plan.deferred[number]))
            if too_many or hopeless.intersection(spec.upstreams):
                hopeless.add(spec.name)
            committer.settle(number, accept=spec.name not in hopeless)

    def _compute(self, committer: Committer, plan: Plan) -> None:
        job, work = self.job, plan.work
        if job.run.estimate:
            work = work.take(pa.array(trial(work, range(len(plan.specs))), pa.int64()))
        executor = self.context.executor or choose(
            job.resources, work, plan.specs, after_kill=self.context.after_kill
        )
        self.context.log(f"computed by the executor {executor.name}")
        wanted = count_wanted(work)
        self.reporter.say(f"starting {_models([plan.specs[n] for n, rows in wanted.items() if rows])}")
        self.reporter.start(sum(wanted.values()))
        try:
            assert self.canaries is not None, "made with the versions"
            canaries = self.canaries.known
            task = Task(work, plan.specs, job.limits, job.resources, self.sending, job.vllm, canaries)
            with executor.start(task) as execution:
                self.pace.workers = execution.workers
                self._take(committer, plan, execution.results())
                if len(lost := np.intersect1d(work["work"], committer.pending_work())):
                    self.reporter.say(f"{len(lost)} items were lost with their worker: trying each alone")
                    self._take(committer, plan, execution.alone(plan.work.take(pa.array(lost))))
        finally:
            self.reporter.stop()

    def _take(self, committer: Committer, plan: Plan, tables: Generator[pa.Table]) -> None:
        assert self.costs is not None and self.canaries is not None, "made before"
        # Closed at once when a run stops early: an executor must end its work before it is shut down.
        with closing(tables):
            for table in tables:
                said = (*self.canaries.add(table), *self.costs.add(table), *self.runtimes.add(table))
                for line in said:
                    self.reporter.say(line)
                rows, stop = reached(table)
                self.trial.add(rows)
                if not self.pace.tables:
                    self.reporter.say(f"first results after {time.monotonic() - self.began:.1f} s")
                self.pace.count(len(rows))
                committer.add_results(rows)
                self.reporter.advance(len(rows))
                if stop is not None:
                    raise stop
                self._stop_if_hopeless(committer, plan)

    def _stop_if_hopeless(self, committer: Committer, plan: Plan) -> None:
        """Stop early once the share of failures cannot come back under the bound."""
        for number, spec in enumerate(plan.specs):
            failed = committer.tally[number][FAILED]
            if failed >= _FAILURES_BEFORE_STOP and failed > self.job.run.max_failed * plan.n_items:
                raise _too_many_failed(
                    spec.version,
                    failed / plan.n_items,
                    self.job.run.max_failed,
                    committer.reasons[number],
                    kept=committer.held_back(number),
                )

    def _fit(self, versions: list[FeatureVersion]) -> None:
        """The features that are fitted to others, in the job's order beside these."""
        by_name = {version.name: version for version in versions}
        for number, spec in enumerate(self.context.specs):
            if spec.is_fitted:
                refit = spec.name in self.job.run.refit
                bring = bring_up_to_date if spec.form == "codes" else bring_transform_up_to_date
                recipe = _reading(spec, by_name)
                done = bring(self.store, recipe, refit=refit, say=self._note)
                self.fitted[number], by_name[spec.name] = done, done.version
                for line in done.told:
                    self.reporter.say(line)
        self.context.versions = [by_name[spec.name] for spec in self.context.specs]

    def _note(self, notice: str) -> None:
        """Tell it now and in the report."""
        self.reporter.say(notice)
        self.notices.append(notice)

    def _estimate(self, plan: Plan, numbers: list[int], downloads: list[int | None]) -> None:
        """What all that the store lacks would take.

        Args:
            numbers: the place in the job of each of the plan's features.
            downloads: bytes of each feature's weights that were to be downloaded.
        """
        assert self.costs is not None, "made before"
        contents = count_wanted(plan.work)
        for n, number in enumerate(numbers):
            waiting = len(plan.deferred[n])
            self.needs[number] = self.trial.needs(
                n,
                items=plan.planned(n) + waiting - plan.without_value(n),
                contents=contents.get(n, 0) + waiting,
                download_bytes=downloads[n],
                cost=self.costs.estimate(n),
                spending=self.job.spending,
            )
        for number, spec in enumerate(self.context.specs):
            if spec.is_fitted:
                self.needs[number] = needs_of_fitted(spec, plan.n_items)

    def _needs_by_version(self) -> dict[str, Needs]:
        return {self.context.specs[number].version: needs for number, needs in self.needs.items()}

    def report(self) -> RunReport:
        """What came of it so far."""
        context, pace = self.context, self.pace
        return RunReport(
            run_id=context.run_id,
            store=self.job.store.uri,
            dataset=context.dataset.name,
            items=len(context.dataset.items),
            forgotten=context.forgotten,
            left=context.left,
            gone=context.gone,
            computed=self.computed,
            copied=self.copied,
            start_seconds=round(pace.first - self.began, 3) if pace.tables else None,
            rows_per_second=pace.rows_per_second,
            seconds=time.monotonic() - self.began,
            features=[self._feature(n, spec) for n, spec in enumerate(context.specs)],
            notices=[*context.notices, *self.notices, *self._accepted(), *self._kept()],
        )

    def _changed(self, at: int) -> dict[str, Any] | None:
        """How the values of a computed feature changed, where that was accepted."""
        change = None if self.canaries is None else self.canaries.accepted.get(at)
        return None if change is None else asdict(change)

    def check_failed(self) -> None:
        """GateFailed where more of a feature's rows failed than the job allows."""
        report, most = self.context.so_far, self.job.run.max_failed
        for number, feature in enumerate(report.features):
            if feature.failed_share > most:
                reasons, stored = feature.reasons, self._stored_reasons(number)
                raise _too_many_failed(
                    feature.version,
                    feature.failed_share,
                    most,
                    reasons or stored,
                    report,
                    self.tallies[number].kept,
                )

    def _accepted(self) -> list[str]:
        """What is said of values that changed, where that was accepted."""
        return [] if self.canaries is None else self.canaries.notices

    def _kept(self) -> Iterator[str]:
        """What is said of rows that a failure was to replace and did not."""
        for tally, spec in zip(self.tallies, self.context.specs, strict=True):
            if tally.kept:
                yield (
                    f"{spec.version}: {_keep_their_value(tally.kept)}, since what their items hold now "
                    "failed; the next run tries these again"
                )

    def _tell_of_passed_trouble(self, numbers: Sequence[int]) -> None:
        """Say which rows failed in an earlier run for no fault of their items."""
        for number in numbers:
            if self.job.run.retry_failed or not self.tallies[number].settled[FAILED]:
                continue
            rows = sum(n for why, n in self._stored_reasons(number).items() if may_pass([why]))
            if rows:
                version = self.context.specs[number].version
                self.notices.append(
                    f"{version}: {rows:,} rows failed because a server or an engine was in trouble; "
                    "--retry-failed computes them again"
                )

    def _tell_of_unread_pictures(self, numbers: Sequence[int]) -> None:
        """Say which rows lack pictures for no fault of these."""
        for number in numbers:
            version = self._version(number)
            if version is None or not reads_several(version.spec):
                continue
            reasons = self.store.marked(version).column("reason")
            if rows := sum(may_pass([why]) for why in reasons.to_pylist()):
                self.notices.append(
                    f"{version.version}: {rows:,} rows lack pictures because a server was in trouble; "
                    "--retry-failed tries these again"
                )

    def _version(self, number: int) -> FeatureVersion | None:
        name = self.context.specs[number].name
        return next((one for one in self.context.versions if one.name == name), None)

    def _stored_reasons(self, number: int) -> dict[str, int]:
        """Why items failed for a feature, in this run and before."""
        version = self._version(number)
        if version is None:
            return {}
        rows = distinct(self.store.failures(version)).to_pylist()
        return grouped({f"{row['stage']}: {row['reason']}": row["items"] for row in rows})

    def _feature(self, number: int, spec: FeatureSpec) -> FeatureReport:
        if (done := self.fitted.get(number)) is not None:
            return done.feature
        tally = self.tallies[number]
        order = [n for n, one in enumerate(self.context.specs) if not one.is_fitted]
        at = order.index(number) if number in order else None
        return FeatureReport(
            version=spec.name if spec.is_fitted else spec.version,
            source=spec.source,
            kind=spec.kind,
            dims=spec.dims,
            vectors=spec.vectors,
            up_to_date=tally.up_to_date,
            ok=tally.rows[OK],
            missing=tally.rows[MISSING],
            failed=tally.rows[FAILED],
            seconds=round(tally.seconds, 3),
            runtimes=[] if at is None else self.runtimes.of(at),
            reasons=grouped(tally.reasons),
            failed_share=tally.failed_share,
            marks=dict(tally.marks.most_common()),
            estimate=None if at is None or self.costs is None else self.costs.estimate(at),
            cost=None if at is None or self.costs is None else self.costs.actual(at),
            changed=None if at is None else self._changed(at),
            needs=self.needs.get(number),
        )


def _reading(recipe: FeatureSpec, versions: Mapping[str, FeatureVersion]) -> FeatureSpec:
    """The recipe of a fitted feature that reads these versions: what is fitted has none before that."""
    inputs = [
        one.model_copy(update={"upstream": versions[one.source].fingerprint})
        if one.source in versions
        else one
        for one in recipe.inputs
    ]
    return recipe.model_copy(update={"inputs": tuple(inputs)})


class _Tally:
    """What a run found and did for one feature, over all its plans.

    Attributes:
        rows: that the run committed, by status.
        kept: ``ok`` rows that were not replaced by a failed one, as too many failed.
        settled: items that had nothing to do when the run came to them, by status.
    """

    def __init__(self) -> None:
        self.settled: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.marks: Counter[str] = Counter()
        self.seconds = 0.0
        self.kept = 0

    def add(self, plan: Plan, committer: Committer, feature: int) -> None:
        """Take in what one plan found settled, what earlier ones committed left out, and what it did."""
        self.settled = Counter(plan.settled[feature])
        self.settled.subtract(self.rows)
        self.rows.update(committer.tally[feature])
        self.reasons.update(committer.reasons[feature])
        self.marks.update(committer.marks[feature])
        self.seconds += committer.seconds[feature]
        self.kept += committer.kept[feature]

    @property
    def up_to_date(self) -> int:
        return self.settled.total()

    @property
    def failed_share(self) -> float:
        ok, failed = (self.settled[status] + self.rows[status] for status in (OK, FAILED))
        failed += self.kept
        return failed / (ok + failed) if failed else 0.0


def _planned(plan: Plan) -> str:
    rows = ", ".join(f"{plan.planned(number):,} of {spec.version}" for number, spec in enumerate(plan.specs))
    waiting = sum(map(len, plan.deferred))
    later = f"; {waiting:,} rows wait for the next plan" if waiting else ""
    return f"{plan.n_items:,} items; rows planned: {rows}; {len(plan.work):,} contents to compute{later}"


def _replacements(plan: Plan) -> Iterator[str]:
    """Why rows that there are will be replaced: announced before any of them is."""
    for number, spec in enumerate(plan.specs):
        if rows := plan.outdated[number]:
            yield _outdated(spec, rows)
        if rows := plan.replaced_texts[number]:
            yield _with_reasoning(spec, rows)
        if rows := plan.unread[number]:
            yield f"{spec.version}: {rows:,} rows lack pictures that could not be read; these are tried again"
        # Other texts are told when the dataset is taken in.
        if media_columns_of(spec) and plan.of_other_content(number):
            yield _of_other_content(plan, number)


def _outdated(spec: FeatureSpec, rows: int) -> str:
    return (
        f"{spec.version}: {rows:,} rows were out of date, since {' and '.join(spec.modalities)} is read by "
        "other rules than when they were made; they are replaced"
    )


def _models(specs: Sequence[FeatureSpec]) -> str:
    """The models of features, each with what it makes."""
    made: dict[str, list[str]] = {}
    for spec in specs:
        made.setdefault(spec.model, []).append(spec.name)
    return "; ".join(f"{model} for {', '.join(names)}" for model, names in made.items())


def _outdated_texts(specs: Sequence[FeatureSpec]) -> dict[int, Callable[[str], bool]]:
    """Of features by number, what tells that a stored text is not stored any more."""
    found = ((number, class_of(spec).outdated(spec)) for number, spec in enumerate(specs))
    return {number: outdated for number, outdated in found if outdated is not None}


def _of_other_content(plan: Plan, number: int) -> str:
    rows, had = plan.of_other_content(number), plan.settled[number][OK] + len(plan.valued[number])
    return (
        f"{plan.specs[number].version}: {rows:,} of {had:,} ok rows were made of other content than their "
        "items have now"
    )


def _with_reasoning(spec: FeatureSpec, rows: int) -> str:
    return (
        f"{spec.version}: {rows:,} rows were out of date, since they hold a model's reasoning beside its "
        "answer; they are replaced"
    )


def _capped(cap: SpendingCap, plan: Plan, committer: Committer) -> SpendingCap:
    """The cap's error, with what is left to do."""
    left = [
        f"{plan.planned(number) - sum(committer.tally[number].values()):,} of {plan.specs[number].version}"
        for number in counted(plan.specs)
    ]
    return SpendingCap(
        f"{cap.message}; rows left: {', '.join(left)}.",
        hint="What was answered is committed. Run the job again to go on; no answer is paid for twice.",
    )


def _check_conserved(plan: Plan, committer: Committer) -> None:
    """Planned, counted on the way and found in the store must be the same."""
    for number, (spec, version_) in enumerate(zip(plan.specs, committer.versions, strict=True)):
        planned, committed = plan.planned(number), sum(committer.tally[number].values())
        kept = committer.kept[number]
        if planned != committed + kept:
            raise _not_conserved(
                f"{spec.version}: {planned:,} rows were planned and {committed:,} committed"
                + (f", {kept:,} ok rows kept." if kept else ".")
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


def _keep_their_value(rows: int) -> str:
    return f"{rows:,} ok rows keep their former value"


def _too_many_failed(
    version_: str, share: float, most: float, reasons: Any, report: RunReport | None = None, kept: int = 0
) -> GateFailed:
    commonest = "; ".join(f"{n} x {why}" for why, n in Counter(grouped(reasons)).most_common(3))
    again = "--retry-failed computes failed rows again, which may pass now" if may_pass(reasons) else ""
    return GateFailed(
        f"{version_}: {share:.1%} of the rows failed, more than {most:.1%}"
        + (f" ({commonest})" if commonest else "")
        + (f"; {_keep_their_value(kept)}." if kept else "."),
        hint="See `mmfeat failures`; "
        + (f"{again}; " if again else "")
        + "raise --max-failed to accept them. What succeeded is committed.",
        report=report,
    )

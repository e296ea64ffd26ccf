"""``report captions``: can the captions be trusted? ``report codes``: are semantic ids used well? ``report
vectors``: is a feature healthy?
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmfeat import api, console
from mmfeat.schemas.errors import GateFailed, UsageError

if TYPE_CHECKING:
    from mmfeat.report.model import Absent, CaptionReport, CodesReport, Evidence, Judgement
    from mmfeat.report.vectors.model import VectorsReport

    _Report = CaptionReport | CodesReport | VectorsReport

_SECONDS_BETWEEN_NOTES = 5.0

app = typer.Typer(no_args_is_help=True, help="Report on what a store holds.")


@app.command("captions")
def captions(
    out: Annotated[
        Path | None, typer.Option(help="Write a page (.html) or the same facts (.json).", dir_okay=False)
    ] = None,
    feature: Annotated[
        str | None,
        typer.Option(help="Captions, transcripts or other texts [default: the store's only ones]."),
    ] = None,
    gates: Annotated[
        Path | None, typer.Option(help="gates.toml with thresholds and rules [default: mmfeat's own].")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Version to compare with [default: the one made before].")
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="The captions should be in this language, such as en.")
    ] = None,
    grounding: Annotated[
        str | None,
        typer.Option(help="CLIP, SigLIP or CLAP feature whose encoder compares captions and media."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="title, description or a text feature that holds what is right.")
    ] = None,
    claims_model: Annotated[
        str | None,
        typer.Option(help="Second model that checks claims: a hub id, a folder, or a server's name."),
    ] = None,
    claims_captioner: Annotated[
        str, typer.Option(help="The captioner that runs the second model.")
    ] = "transformers",
    judge_model: Annotated[
        str | None,
        typer.Option(help="Second model that says which caption is better, these or the earlier ones."),
    ] = None,
    judge_captioner: Annotated[str, typer.Option(help="The captioner that runs the judge.")] = "transformers",
    max_requests: Annotated[
        int | None,
        typer.Option(min=1, max=console.MOST, help="Ask second models on a server no more often than this."),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, max=console.MOST, help="Nor for more tokens, of prompts and answers together."),
    ] = None,
    sample_seed: Annotated[
        int, typer.Option(min=0, max=console.MOST_SEED, help="Of everything drawn at random.")
    ] = 0,
    store: console.StoreUri = api.DEFAULT_STORE,
    snapshot: console.SnapshotName = None,
    json: console.Json = False,
) -> None:
    """Measure whether captions can be trusted; exit code 3 when a gate fails or a cap is reached."""
    from mmfeat.report.build import ReportOptions
    from mmfeat.report.second_model import SecondModel
    from mmfeat.schemas.server import SpendingConfig

    if out is not None:
        _check_place(out)
    options = ReportOptions(
        feature=feature,
        gates=gates,
        against=against,
        language=language,
        grounding=grounding,
        reference=reference,
        claims=SecondModel(claims_captioner, claims_model) if claims_model else None,
        judge=SecondModel(judge_captioner, judge_model) if judge_model else None,
        spending=SpendingConfig(max_requests=max_requests, max_tokens=max_tokens),
        seed=sample_seed,
    )
    report = api.open(store, snapshot).report_captions(options, _Notes())
    _tell(report, out, json, lambda: _print_report(report))
    if not report.passed:
        _fail(report, json)


@app.command("codes")
def codes(
    out: Annotated[
        Path | None, typer.Option(help="Write a page (.html) or the same facts (.json).", dir_okay=False)
    ] = None,
    feature: Annotated[
        str | None, typer.Option(help="Semantic ids: a feature or version [default: the store's only ones].")
    ] = None,
    sample_seed: Annotated[int, typer.Option(min=0, max=console.MOST_SEED, help="Of the example items.")] = 0,
    store: console.StoreUri = api.DEFAULT_STORE,
    snapshot: console.SnapshotName = None,
    json: console.Json = False,
) -> None:
    """Measure semantic ids: use, error, collisions and drift, with items down their tree."""
    if out is not None:
        _check_place(out)
    report = api.open(store, snapshot).report_codes(feature, sample_seed, _Notes())
    _tell(report, out, json, lambda: _print_codes(report))


@app.command("vectors")
def vectors(
    feature: Annotated[str, typer.Argument(help="A feature of vectors, or one version: name@fingerprint.")],
    out: Annotated[
        Path | None, typer.Option(help="Write a page (.html) or the same facts (.json).", dir_okay=False)
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Version to compare with [default: the one made before].")
    ] = None,
    against_snapshot: Annotated[
        str | None, typer.Option(help="Compare with what a snapshot of the store holds.")
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(help="Another feature: are its neighbours the same? Give it again for more."),
    ] = None,
    map: Annotated[str, typer.Option(help="How items are put on a plane: pca or umap.")] = "pca",
    colour: Annotated[
        str | None, typer.Option(help="The field of the catalog that the map is first coloured by.")
    ] = None,
    sample: Annotated[
        int,
        typer.Option(
            min=3,
            max=console.MOST,
            help="Items that the figures are of, drawn at random where there are more.",
        ),
    ] = 20_000,
    sample_seed: Annotated[
        int, typer.Option(min=0, max=console.MOST_SEED, help="Of everything drawn at random.")
    ] = 0,
    store: console.StoreUri = api.DEFAULT_STORE,
    snapshot: console.SnapshotName = None,
    json: console.Json = False,
) -> None:
    """Measure vectors: norms, spread, hubs, duplicates, clusters, neighbours, a map, drift and agreement."""
    from mmfeat.report.vectors.build import VectorsOptions

    if out is not None:
        _check_place(out)
    options = VectorsOptions(
        against=against,
        against_snapshot=against_snapshot,
        beside=tuple(beside or ()),
        map=map,
        colour=colour,
        sample=sample,
        seed=sample_seed,
    )
    report = api.open(store, snapshot).report_vectors(feature, options, _Notes())
    _tell(report, out, json, lambda: _print_vectors(report))


def _print_vectors(report: VectorsReport) -> None:
    subject, counts, spread, hubness = report.subject, report.counts, report.spread, report.hubness
    console.heading(f"{subject.version} by {subject.method}, {subject.model}")
    for finding in report.findings or ("Nothing unusual.",):
        console.paragraph(finding)
    dimension = "unknown" if spread.two_nn is None else f"{spread.two_nn:.1f}"
    dimensions, norms, duplicates = report.dimensions, report.norms, report.duplicates
    console.heading("Measures")
    rows = [
        ("items measured", f"{counts.directed:,} of {counts.ok:,} with vectors, {subject.dims:,} dimensions"),
        ("norm", f"{norms.median:.4g}, 90% have {norms.p05:.4g} to {norms.p95:.4g}"),
        ("dead, constant dimensions", f"{len(dimensions.dead):,}, {len(dimensions.constant):,}"),
        ("mean cosine of two items", f"{spread.mean_cosine:.3f}, of the nearest {spread.nearest.mean:.3f}"),
        ("intrinsic dimension", f"{dimension} by TwoNN, effective rank {spread.effective_rank:.1f}"),
        ("hubness", f"skewness {hubness.skewness:.2f}, {hubness.never:.1%} are near to none"),
        ("duplicates", f"{duplicates.exact:,} exact, {duplicates.near:,} near"),
        ("clusters", f"{len(report.clusters.clusters)}, silhouette {report.clusters.silhouette:.3f}"),
    ]
    console.table(("measure", "value"), [*rows, *_compared(report)])


def _compared(report: VectorsReport) -> list[tuple[str, str]]:
    """Agreement with other features, and drift."""
    from mmfeat.report.model import Absent

    rows = []
    for one in report.beside:
        if isinstance(one, Absent):
            rows.append(("agreement", one.absent))
            continue
        index = f"Jaccard@{one.k} {one.jaccard:.3f}, by chance {one.chance:.3f}"
        rows.append((f"agreement with {one.feature}", f"{index}, of {one.items:,} items"))
    drift = report.drift
    if isinstance(drift, Absent):
        return [*rows, ("drift", drift.absent)]
    cosine = "" if drift.cosine is None else f", mean cosine {drift.cosine.mean:.3f}"
    kept = f"{drift.agreement.kept:.1%} of the neighbours kept{cosine}"
    return [*rows, (f"since {drift.against}", kept)]


def _print_codes(report: CodesReport) -> None:
    subject, drift = report.subject, report.drift
    console.heading(f"{subject.version} by {subject.method}, {subject.model}")
    if subject.stale:
        console.paragraph(f"These codes are stale: {subject.stale}.")
    rows = [(one.level, f"{one.used:.1%}", f"{one.perplexity:.1f}") for one in report.levels]
    console.table(("level", "codes used", "perplexity"), rows, right=("level", "codes used", "perplexity"))
    error = "unknown" if report.relative_mse is None else f"{report.relative_mse:.4f}"
    console.say(f"Relative squared error at the fit: {error}.")
    console.say(
        f"Collisions: {report.collisions.rate:.2%} of the items, at most {report.collisions.largest:,} alike."
    )
    since = "" if drift.error is None else f", their error is {drift.error:.2f} x that at the fit"
    console.say(f"Drift: {drift.items:,} vectors came since the fit{since}.")
    console.heading("Largest branches")
    branches = [(", ".join(map(str, one.code)), one.items, f"{one.share:.1%}") for one in report.branches]
    console.table(("codes begin with", "items", "share"), branches, right=("items", "share"))


class _Notes:
    """Progress in words, every few seconds: a quick report says nothing."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_NOTES:
            self._last = time.monotonic()
            console.note(f"{done:,} of {total:,} {what}")


def _tell(report: _Report, out: Path | None, json: bool, in_words: Callable[[], None]) -> None:
    """Write a report where that is asked for, and say what is in it."""
    if out is not None:
        _write(report, out)
    if json:
        console.print_json(report.model_dump(mode="json"))
        return
    in_words()
    if report.subject.stale:
        console.paragraph(f"{report.subject.version} is stale: {report.subject.stale}.")
    if out is not None:
        console.say(f"\nWritten to {out}.")


def _check_place(out: Path) -> None:
    """Before any work: a report that cannot be written is not worth making."""
    if out.suffix not in (".html", ".json"):
        raise UsageError(
            f"A report is a page or JSON, and {out.name!r} ends in neither.", hint="Name it report.html."
        )
    if not out.parent.is_dir():
        raise UsageError(f"There is no folder {out.parent} to write {out.name} to.", hint="Create it first.")


def _write(report: _Report, out: Path) -> None:
    if out.suffix == ".html":
        from mmfeat.report.page import render

        text = render(report)
    else:
        text = report.model_dump_json(indent=1)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"Cannot write {out}: {error.strerror}.") from None


def _print_report(report: CaptionReport) -> None:
    console.heading(f"{report.subject.version} by {report.subject.model}")
    c = report.coverage
    console.say(
        f"{c.items:,} items: {c.ok:,} ok, {c.missing:,} missing, {c.failed:,} failed, {c.absent:,} absent."
    )
    console.heading("Gates")
    console.table(
        ("gate", "value", "", "threshold", "verdict"),
        [
            (
                gate.name,
                "" if gate.value is None else f"{gate.value:.4g}",
                gate.bound,
                f"{gate.threshold:g}",
                "passed" if gate.passed else "FAILED",
            )
            for gate in report.gates
        ],
        right=("value", "threshold"),
    )
    console.heading("Suspects")
    console.table(
        ("suspicion", "captions", "share", "first items"),
        [
            (
                s.title,
                s.count,
                "" if s.unchecked else f"{s.share:.1%}",
                s.unchecked or ", ".join(s.item_ids[:5]),
            )
            for s in report.suspects
        ],
        right=("captions", "share"),
    )
    console.heading("Measures")
    console.table(("measure", "value"), _measures(report))


def _measures(report: CaptionReport) -> list[tuple[str, str]]:
    """The figures a person looks for first; what could not be measured says why."""
    from mmfeat.report.model import Absent

    rows = []
    if not isinstance(variety := report.variety, Absent):
        rows += [
            ("distinct-1, distinct-2", f"{variety.distinct_1:.3f}, {variety.distinct_2:.3f}"),
            ("vocabulary", f"{variety.vocabulary:,} of {variety.words:,} words"),
        ]
    grounding = report.grounding
    if isinstance(grounding, Absent):
        rows.append(("grounding", grounding.absent))
    else:
        rows += [
            (f"grounding, own {report.subject.medium}", f"{grounding.own.mean:.3f}"),
            ("grounding, shuffled", f"{grounding.shuffled.mean:.3f}"),
            ("grounding AUC", f"{grounding.auc:.3f}"),
        ]
    for name, found in (
        (f"own {report.subject.medium} by its encoder", report.usefulness.clip_retrieval),
        ("own title by text", report.usefulness.text_retrieval),
    ):
        if not isinstance(found, Absent):
            recall = f"recall@1 {found.recall_at_1:.1%}, recall@10 {found.recall_at_10:.1%}"
            rows.append((name, f"{recall} of {found.items:,}"))
    if not isinstance(change := report.comparison, Absent):
        rows.append((f"since {change.against}", f"{change.changed:,} changed, {change.same:,} the same"))
    rows += [("evidence", words) for words in _evidence(report.evidence)]
    if not isinstance(judged := report.judged, Absent):
        rows.append((f"judged by {judged.model}", _judged(judged)))
    return rows


def _judged(found: Judgement) -> str:
    if found.share is None:
        verdict = "none decided"
    else:
        verdict = f"preferred in {found.share:.1%} [{found.low:.1%}, {found.high:.1%}], p = {found.p:.3f}"
    return (
        f"{verdict}: {found.wins:,} won, {found.losses:,} lost, {found.ties:,} tied, {found.flips:,} flipped "
        f"with the order, {len(found.unjudged):,} without a plain answer; {found.questions:,} questions, "
        f"{found.prompt_tokens + found.new_tokens:,} tokens, {found.seconds:,.0f} s"
    )


def _evidence(found: Evidence | Absent) -> tuple[str, ...]:
    from mmfeat.report.model import Absent

    if isinstance(found, Absent):
        return (found.absent,)
    return (found.verdict, *found.agreement, *found.missing)


def _fail(report: CaptionReport, json: bool) -> None:
    from mmfeat.report.gates import failed_gates

    error = GateFailed(f"Gates failed. {failed_gates(report)}")
    if not json:
        raise error
    # The report is the one JSON value; it says which gates failed.
    console.print_error(error, as_json=False)
    raise typer.Exit(error.exit_code)

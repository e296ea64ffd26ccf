"""The page of semantic ids: how they are used, what they lose, and items down their tree."""

from __future__ import annotations

from mmfeat.report.model import Branch, CodeDrift, CodeLevel, CodesReport, Leaf
from mmfeat.report.page.document import drawn
from mmfeat.report.page.gallery import card_of
from mmfeat.report.page.parts import (
    Card,
    Cards,
    Cell,
    Fact,
    Facts,
    Gallery,
    Id,
    Part,
    Section,
    Share,
    Table,
    Terms,
    Text,
)
from mmfeat.report.page.verdict import Head
from mmfeat.report.page.wording import decimals, moment, number, percent


def codes_document(report: CodesReport) -> str:
    """The whole report as one HTML page."""
    sections = [_summary(report), _use(report), _collisions(report), _tree(report)]
    return drawn("Report on semantic ids", "mmfeat report codes --json", _head(report), sections)


def _head(report: CodesReport) -> Head:
    subject = report.subject
    what = f"{subject.model} codes of {subject.source} by {subject.method}, in {subject.store}"
    about = f"{what}. Reported {moment(subject.reported)}."
    if subject.stale:
        return Head(subject.version, about, "Stale", f"These codes are stale: {subject.stale}.", "bad")
    return Head(subject.version, about, f"{report.ok:,} items have codes", _drift_in_words(report), "")


def _drift_in_words(report: CodesReport) -> str:
    drift = report.drift
    if not drift.items:
        return "No vector came since the codebooks were fitted."
    times = None if drift.error is None else f"{drift.error:.2f} times the error of the fit"
    error = times or "an error that cannot be compared with that of the fit"
    return f"{drift.items:,} vectors came since the codebooks were fitted, with {error}."


def _summary(report: CodesReport) -> Section:
    error, drift = report.relative_mse, report.drift
    figures = (
        Fact("items with codes", f"{report.ok:,}", _others(report)),
        Fact("error", "unknown" if error is None else decimals(error), "0 is perfect, 1 the mean's"),
        Fact("collisions", percent(report.collisions.rate), f"at most {report.collisions.largest:,} alike"),
        Fact("drift", _times(drift), f"{drift.items:,} vectors"),
    )
    return Section("summary", "Summary", "", (Facts(figures), _terms(report)))


def _times(drift: CodeDrift) -> str:
    if drift.error is None:
        return "not measurable" if drift.items else "none"
    return f"{drift.error:.2f} x"


def _others(report: CodesReport) -> str:
    return f"{report.missing:,} missing, {report.failed:,} failed, {report.absent:,} absent"


def _terms(report: CodesReport) -> Terms:
    subject = report.subject
    items: list[tuple[str, Cell]] = [
        ("version", Id(subject.version)),
        ("made from", subject.source),
        ("quantizer", f"{subject.method}, {subject.model}"),
        ("collision level", "yes" if subject.collision_level else "no"),
        ("cosine", "unknown" if report.cosine is None else decimals(report.cosine)),
        ("written", moment(subject.created)),
    ]
    return Terms(tuple(items))


def _use(report: CodesReport) -> Section:
    lead = "How much of every codebook is in use, now and when it was fitted."
    columns = ("level", "codes used", "at the fit", "perplexity", "perplexity at the fit")
    rows = tuple(_level(level) for level in report.levels)
    table = Table("Use by level", columns, rows, columns[2:])
    return Section("use", "Use of the codebooks", lead, (table,))


def _level(level: CodeLevel) -> tuple[Cell, ...]:
    then = "unknown" if level.used_at_fit is None else percent(level.used_at_fit)
    before = "unknown" if level.perplexity_at_fit is None else number(level.perplexity_at_fit)
    return str(level.level), Share(level.used), then, number(level.perplexity), before


def _collisions(report: CodesReport) -> Section:
    lead = "Items whose codes are all the same, before a collision level."
    sizes = report.collisions.sizes
    rows = tuple((f"{size:,}", f"{codes:,}", f"{size * codes:,}") for size, codes in sizes.items())
    columns = ("items with the same codes", "codes", "items")
    parts: list[Part] = [Table("How many items share all codes", columns, rows, columns[1:])]
    if not rows:
        parts = [Text("No item has codes.")]
    return Section("collisions", "Collisions", lead, tuple(parts), percent(report.collisions.rate))


def _tree(report: CodesReport) -> Section:
    lead = "The branches that most items are on: do items that begin with the same codes look alike?"
    if not report.branches:
        return Section("tree", "Down the tree", lead, (Text("No item has codes."),))
    groups = tuple(_branch(branch, report.subject.seed) for branch in report.branches)
    return Section("tree", "Down the tree", lead, (Gallery(groups),))


def _branch(branch: Branch, seed: int) -> Cards:
    code = ", ".join(map(str, branch.code))
    name = "branch-" + "-".join(map(str, branch.code))
    rule = f"{branch.items:,} items, {percent(branch.share)} of all; drawn at random, seed {seed}."
    return Cards(name, f"Codes that begin with {code}", rule, tuple(_leaf(leaf) for leaf in branch.leaves))


def _leaf(leaf: Leaf) -> Card:
    code = ", ".join(map(str, leaf.code))
    return card_of(leaf.item_id, leaf.title, code, leaf.shown)

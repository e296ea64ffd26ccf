"""What comes first: whether the gates are kept, the figures that decide, and what changed."""

from __future__ import annotations

from dataclasses import dataclass

from mmfeat.report.model import Absent, CaptionReport, Comparison, Delta, Gate, Grounding
from mmfeat.report.model import Pair as TextPair
from mmfeat.report.page.parts import (
    Cell,
    Chip,
    Fact,
    Facts,
    Heading,
    Id,
    Pair,
    Pairs,
    Part,
    Section,
    Table,
    Terms,
    Text,
)
from mmfeat.report.page.wording import counted, decimals, moment, number, percent, signed

_UNCLEAR = Chip("no clear change")


# What the texts of a kind are called; all others are captions.
_NAMED = {"tags": "Tags", "transcript": "Transcripts", "ocr": "On-screen texts"}


@dataclass(frozen=True)
class Head:
    """The page's title and its answer; ``tone`` is ``good``, ``bad`` or nothing."""

    name: str
    about: str
    verdict: str
    sentence: str
    tone: str


def head(report: CaptionReport) -> Head:
    """The answer in a line, and in a sentence which gates fell short."""
    subject = report.subject
    short = [gate for gate in report.gates if not gate.passed]
    if not report.gates:
        verdict, sentence, tone = "No gates were set", "This page shows facts and decides nothing.", ""
    elif not short:
        verdict = f"Passed: {counted(len(report.gates), 'gate')} kept"
        sentence, tone = "Every threshold that was set is met.", "good"
    else:
        verdict = f"Failed: {len(short)} of {counted(len(report.gates), 'gate')}"
        sentence, tone = "; ".join(_fell_short(gate) for gate in short) + ".", "bad"
    named = _NAMED.get(subject.kind, "Captions")
    what = f"{named} of {subject.source} by {subject.model}, in {subject.store}"
    about = f"{what}. Reported {moment(subject.reported)}."
    return Head(subject.version, about, verdict, sentence, tone)


def verdict(report: CaptionReport) -> Section:
    """Gates, counts, and what changed since the version before."""
    short = sum(not gate.passed for gate in report.gates)
    parts: list[Part] = [Facts(_figures(report))]
    if report.gates:
        parts.append(_gates(report.gates))
    parts += [Heading("Since the last version"), *_since(report.comparison)]
    parts += [Heading("What was captioned, and how"), _subject(report)]
    return Section("verdict", "Verdict", "", tuple(parts), f"{short} failed" if short else "")


def comparison(report: CaptionReport) -> Section:
    """The earlier version beside this one: settings, metrics, and captions that differ most."""
    title, lead = "Comparison", "The same items, captioned by an earlier version and by this one."
    found = report.comparison
    if isinstance(found, Absent):
        return Section("comparison", title, lead, (Text(found.absent),))
    parts: list[Part] = [
        Facts(
            (
                Fact("same caption", number(found.same)),
                Fact("changed", number(found.changed)),
                Fact("gained", number(found.gained), "have a caption only now"),
                Fact("lost", number(found.lost), "had one only before"),
            )
        )
    ]
    if found.spec_changes:
        changes = tuple((name, *values) for name, values in found.spec_changes.items())
        parts.append(Table("Settings that differ", ("setting", found.against, "now"), changes))
    parts.append(_deltas(found))
    if found.pairs:
        pairs = tuple(Pair(p.item_id, p.before, p.after, _pair_note(p)) for p in found.pairs)
        parts += [Heading("Captions side by side"), Text("The least similar first.")]
        parts.append(Pairs(found.against, report.subject.version, pairs))
    return Section("comparison", title, lead, tuple(parts), f"{found.changed:,} changed")


def _fell_short(gate: Gate) -> str:
    if gate.value is None:
        return f"{gate.name} could not be measured"
    return f"{gate.name} is {number(gate.value)}, asked for {gate.bound} {number(gate.threshold)}"


def _figures(report: CaptionReport) -> tuple[Fact, ...]:
    coverage = report.coverage
    suspect = sum(bool(item.suspects) for item in report.items)
    figures = [
        Fact("items", number(coverage.items)),
        Fact("captions", number(coverage.ok), _of(coverage.ok, coverage.items)),
        Fact("suspect", number(suspect), f"{_of(suspect, coverage.ok)} of the captions"),
    ]
    if report.lengths.words:
        words = report.lengths.words
        spread = f"90% have {number(words.p05)} to {number(words.p95)}"
        figures.append(Fact("words, median", number(words.median), spread))
    if isinstance(report.grounding, Grounding):
        grounding = report.grounding
        figures.append(Fact("grounding AUC", decimals(grounding.auc), "0.5 is chance, 1 is perfect"))
    return tuple(figures)


def _of(part: int, whole: int) -> str:
    return percent(part / whole) if whole else ""


def _gates(gates: tuple[Gate, ...]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            Id(gate.name),
            Chip("passed", "good") if gate.passed else Chip("failed", "bad"),
            "not measured" if gate.value is None else number(gate.value),
            f"{gate.bound} {number(gate.threshold)}",
            gate.detail,
        )
        for gate in sorted(gates, key=lambda gate: gate.passed)
    ]
    columns = ("gate", "verdict", "measured", "threshold", "note")
    return Table("Gates, those that fell short first", columns, tuple(rows), right=("measured", "threshold"))


def _since(found: Comparison | Absent) -> list[Part]:
    if isinstance(found, Absent):
        return [Text(found.absent)]
    changed = f"{counted(found.changed, 'caption')} changed and {found.same:,} stayed the same"
    return [
        Text(f"Since {found.against}, {changed}; {found.gained:,} gained, {found.lost:,} lost."),
        *_clear(found.deltas),
    ]


def _clear(deltas: tuple[Delta, ...]) -> list[Part]:
    changes = [f"{d.metric} {signed(d.difference)}" for d in deltas if _direction(d) != _UNCLEAR]
    return [Text(f"Clear changes: {', '.join(changes)}." if changes else "No metric changed clearly.")]


def _deltas(found: Comparison) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            delta.metric,
            number(delta.before),
            number(delta.after),
            signed(delta.difference),
            f"{signed(delta.low)} to {signed(delta.high)}",
            _direction(delta),
        )
        for delta in found.deltas
    ]
    title = f"Metrics on items with both captions; 95% bootstrap intervals of {found.resamples:,} resamples"
    columns = ("metric", "before", "now", "difference", "interval", "reading")
    return Table(title, columns, tuple(rows), right=columns[1:5])


def _direction(delta: Delta) -> Chip:
    if delta.low > 0:
        return Chip("up")
    return Chip("down") if delta.high < 0 else _UNCLEAR


def _pair_note(pair: TextPair) -> str:
    note = f"similarity {percent(pair.similarity)}"
    if pair.grounding_before is not None and pair.grounding_after is not None:
        note += f", grounding {decimals(pair.grounding_before)} before, {decimals(pair.grounding_after)} now"
    return note


def _subject(report: CaptionReport) -> Terms:
    subject = report.subject
    terms: list[tuple[str, Cell]] = [
        ("version", Id(subject.version)),
        ("kind", subject.kind),
        ("source", subject.source),
        ("model", subject.model),
        ("prompt", subject.prompt or "none"),
        ("language asked for", subject.language or "not stated"),
        ("first written", moment(subject.created)),
        ("store", subject.store),
        ("seed of samples", str(subject.seed)),
    ]
    if subject.stale:
        terms.append(("stale", subject.stale))
    return Terms(tuple(terms))

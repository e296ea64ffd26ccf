"""The captions as texts: how many, how long, which are suspect, how varied."""

from __future__ import annotations

from mmfeat.report.model import Absent, CaptionReport, Suspects
from mmfeat.report.page.distributions import drawn, in_short
from mmfeat.report.page.parts import (
    Cell,
    Charts,
    Chip,
    Example,
    Examples,
    Fact,
    Facts,
    Filter,
    Part,
    Section,
    Share,
    Table,
    Text,
)
from mmfeat.report.page.wording import counted, decimals, number, percent

_MOST_IDS = 200


def coverage(report: CaptionReport) -> Section:
    """What became of each item, and why some failed."""
    found = report.coverage
    states = {"ok": found.ok, "failed": found.failed, "missing": found.missing, "absent": found.absent}
    meanings = {
        "ok": "has a caption",
        "failed": "its picture, clip or caption could not be made; see the reasons",
        "missing": f"the item has no {report.subject.source}",
        "absent": "not captioned yet",
    }
    rows: list[tuple[Cell, ...]] = [
        (state, number(n), Share(n / found.items if found.items else 0.0), meanings[state], _show(n, state))
        for state, n in states.items()
    ]
    columns = ("status", "items", "share", "meaning", "filter")
    parts: list[Part] = [Table("Items by status", columns, tuple(rows), right=("items",))]
    if found.failures:
        reasons = tuple(
            (f.reason, f.stage, number(f.count), ", ".join(f.item_ids[:5]) + (" …" if f.count > 5 else ""))
            for f in found.failures
        )
        heads = ("reason", "stage", "items", "for example")
        parts.append(Table("Failures by reason", heads, reasons, right=("items",)))
    share = percent(found.ok / found.items) if found.items else ""
    return Section("coverage", "Coverage", "What became of every item.", tuple(parts), share)


def lengths(report: CaptionReport) -> Section:
    """Words, tokens, seconds, and captions cut at the token cap."""
    found = report.lengths
    measured = [
        ("Words per caption", "words", found.words),
        ("Tokens per caption", "tokens", found.tokens),
        ("Tokens read per caption", "tokens", found.prompt_tokens),
        ("Seconds per caption", "seconds", found.seconds),
    ]
    known = [(title, unit, one) for title, unit, one in measured if one is not None]
    unknown = [title.lower() for title, _, one in measured if one is None]
    parts: list[Part] = [_cut(found.cut, found.finish_known)]
    if known:
        parts.append(in_short("In short", [(title, one) for title, _, one in known]))
        # One value alone makes no picture.
        parts.append(Charts(tuple(drawn(*one) for one in known if one[2].minimum < one[2].maximum)))
    if unknown:
        parts.append(Text(f"Not recorded: {', '.join(unknown)}."))
    return Section("lengths", "Lengths and cost", "How long captions are and what they took.", tuple(parts))


def suspects(report: CaptionReport) -> Section:
    """Kinds of suspicion with counts, examples and ids."""
    kinds = report.suspects
    rows = tuple(_suspect_row(index, kind) for index, kind in enumerate(kinds))
    columns = ("suspicion", "captions", "share", "looks for", "filter")
    parts: list[Part] = [Table("Suspects by kind", columns, rows, right=("captions",))]
    for kind in kinds:
        if kind.count:
            parts.append(_examples(kind))
    any_kind = sum(bool(item.suspects) for item in report.items)
    lead = "Captions that a rule stopped at. A suspect is to be looked at, not always wrong."
    return Section("suspects", "Suspects", lead, tuple(parts), number(any_kind))


def variety(report: CaptionReport) -> Section:
    """Whether captions say different things in different words."""
    title, lead = "Variety", "Captions that all sound alike tell a recommender nothing."
    found = report.variety
    if isinstance(found, Absent):
        return Section("variety", title, lead, (Text(found.absent),))
    alike = "not measured" if found.self_bleu is None else f"{found.self_bleu:.1f}"
    parts: list[Part] = [
        Facts(
            (
                Fact("vocabulary", number(found.vocabulary), f"of {counted(found.words, 'word')}"),
                Fact("type-token ratio", decimals(found.type_token_ratio), "vocabulary / words"),
                Fact("distinct-1", decimals(found.distinct_1), "different words / words"),
                Fact("distinct-2", decimals(found.distinct_2), "different pairs / pairs"),
                Fact("self-BLEU", alike, f"of 100, in {found.self_bleu_sample:,}; lower is better"),
            )
        )
    ]
    if found.openers:
        rows = tuple((o.words, number(o.count), Share(o.share)) for o in found.openers)
        columns = ("first words", "captions", "share")
        parts.append(Table("Most common openings", columns, rows, right=("captions",)))
    return Section("variety", title, lead, tuple(parts))


def _show(n: int, status: str) -> Cell:
    return Filter("show in the table", status=status) if n else ""


def _cut(cut: int, known: int) -> Part:
    if not known:
        return Text("Whether captions were cut at the token cap was not recorded.")
    share = percent(cut / known)
    return Facts((Fact("cut at the token cap", number(cut), f"{share} of {known:,} with a known end"),))


def _suspect_row(index: int, kind: Suspects) -> tuple[Cell, ...]:
    if kind.unchecked:
        return (kind.title, Chip("not checked"), "", kind.unchecked, "")
    show: Cell = Filter("show in the table", suspect=str(index)) if kind.count else ""
    return (kind.title, number(kind.count), Share(kind.share), kind.about, show)


def _examples(kind: Suspects) -> Examples:
    ids = kind.item_ids[:_MOST_IDS]
    which = f"the first {_MOST_IDS} ids" if len(kind.item_ids) > _MOST_IDS else "all ids"
    summary = f"{kind.title}: {counted(len(kind.examples), 'example')} of {kind.count:,}, {which}"
    return Examples(summary, tuple(Example(e.item_id, e.text, e.detail) for e in kind.examples), ids)

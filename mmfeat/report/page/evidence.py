"""Whether the captions are better than others: by the interactions, and by a second model."""

from __future__ import annotations

from mmfeat.report.model import (
    Absent,
    CaptionReport,
    Evidence,
    EvidenceDifference,
    EvidenceFigure,
    Judgement,
)
from mmfeat.report.page.parts import (
    Cell,
    Chip,
    Example,
    Examples,
    Fact,
    Facts,
    Heading,
    Id,
    Part,
    Section,
    Table,
    Text,
)
from mmfeat.report.page.wording import counted, decimals, number, percent, signed

_READ = {"captions": "these captions", "before": "captions before", "titles": "titles"}


def evidence(report: CaptionReport) -> Section:
    """Vectors of the captions beside those of the captions before and of titles."""
    found = report.evidence
    parts: list[Part] = [Heading("By the interactions")]
    parts += [Text(found.absent)] if isinstance(found, Absent) else _by_interactions(found)
    parts += [Heading("By a second model"), *_by_judge(report.judged)]
    lead = "Do these captions tell more of taste than those before, and than titles?"
    return Section("evidence", "Evidence", lead, tuple(parts))


def _by_interactions(found: Evidence) -> list[Part]:
    judged = (
        f"{counted(found.items, 'item')} with a vector in all versions, {counted(found.users, 'user')}; "
        f"held out: {found.held_out}."
    )
    parts: list[Part] = [Text(f"{found.version}: {found.verdict}"), Text(judged), _figures(found.figures)]
    if found.differences:
        parts.append(_differences(found.differences))
    return [*parts, *(Text(words) for words in (*found.agreement, *found.missing, *_notes(found)))]


def _by_judge(found: Judgement | Absent) -> list[Part]:
    if isinstance(found, Absent):
        return [Text(found.absent)]
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f"{percent(found.low)} to {percent(found.high)}"
    facts = Facts(
        (
            Fact("preferred", "none decided" if found.share is None else percent(found.share), interval),
            Fact("won", number(found.wins), "by these captions in both orders"),
            Fact("lost", number(found.losses), f"to {found.against}"),
            Fact("tied", number(found.ties)),
            Fact("flipped", number(found.flips), "chose otherwise in the other order"),
            Fact("no plain answer", number(len(found.unjudged))),
        )
    )
    drawn = len(found.pairs) + len(found.unjudged)
    items = f"{drawn:,} of {counted(found.differ, 'item')} whose captions differ"
    asked = (
        f"{counted(found.questions, 'question')} about {items}, put to {found.model}: "
        f"{found.prompt_tokens:,} tokens read, {found.new_tokens:,} written, {found.seconds:,.0f} s. "
        f"Sign test of won and lost: p {_p(found.p)}. Of the flips {found.always_first:,} chose the first "
        f"place twice and {found.always_second:,} the second: p {_p(found.bias_p)}."
    )
    parts: list[Part] = [facts, Text(asked)]
    if found.own:
        parts.append(Text(f"The judge wrote {found.own} itself: it may prefer its own.", note=True))
    if found.unjudged:
        examples = tuple(Example(one.item_id, one.reason) for one in found.unjudged)
        parts.append(Examples("Items without a plain answer", examples))
    return parts


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else decimals(p)


def _notes(found: Evidence) -> list[str]:
    return [f"Note: {note}." for note in found.notes]


def _figures(figures: tuple[EvidenceFigure, ...]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            _READ[one.reads],
            Id(one.version),
            one.protocol,
            one.metric,
            decimals(one.value),
            f"{decimals(one.low)} to {decimals(one.high)}",
            decimals(one.shuffled),
            _taste(one.holds),
        )
        for one in figures
    ]
    columns = ("vectors of", "version", "protocol", "metric", "value", "interval", "shuffled rows", "reading")
    title = "What vectors tell of who takes what; 95% intervals over users or query items"
    return Table(title, columns, tuple(rows), right=columns[4:7])


def _taste(holds: bool | None) -> Chip:
    if holds is None:
        return Chip("not tested")
    return Chip("more than chance", "good") if holds else Chip("chance", "bad")


def _differences(differences: tuple[EvidenceDifference, ...]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            f"these less {_READ[one.against]}",
            one.protocol,
            one.metric,
            signed(one.difference),
            f"{signed(one.low)} to {signed(one.high)}",
            _p(one.p),
            number(one.effect),
            _better(one.better),
        )
        for one in differences
    ]
    columns = ("difference", "protocol", "metric", "value", "interval", "p", "effect", "reading")
    title = "The captions against others, by the same users or query items (paired t-test, Holm)"
    return Table(title, columns, tuple(rows), right=columns[3:7])


def _better(better: bool | None) -> Chip:
    if better is None:
        return Chip("no clear difference")
    return Chip("better", "good") if better else Chip("worse", "bad")

"""Whether the captions are better than others: by the interactions."""

from __future__ import annotations

from mmfeat.report.model import Absent, CaptionReport, Evidence, EvidenceDifference, EvidenceFigure
from mmfeat.report.page.parts import Cell, Chip, Heading, Id, Part, Section, Table, Text
from mmfeat.report.page.wording import counted, decimals, number, signed

_READ = {"captions": "these captions", "before": "captions before", "titles": "titles"}


def evidence(report: CaptionReport) -> Section:
    """Vectors of the captions beside those of the captions before and of titles."""
    found = report.evidence
    parts: list[Part] = [Heading("By the interactions")]
    parts += [Text(found.absent)] if isinstance(found, Absent) else _by_interactions(found)
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
            "<0.001" if one.p < 0.001 else decimals(one.p),
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

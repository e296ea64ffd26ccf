"""The captions as descriptions: do they fit their pictures, and do they tell items apart?"""

from __future__ import annotations

from mmfeat.report.model import Absent, CaptionReport, ClaimCheck, Grounding, References, Retrieval
from mmfeat.report.page.distributions import in_short
from mmfeat.report.page.parts import (
    Cell,
    Charts,
    Example,
    Examples,
    Fact,
    Facts,
    Heading,
    Part,
    Section,
    Share,
    Table,
    Text,
)
from mmfeat.report.page.plots import Series, histogram
from mmfeat.report.page.wording import counted, decimals, number, percent


def grounding(report: CaptionReport) -> Section:
    """Similarity of caption and picture, or sound, beside the shuffled baseline; references and claims."""
    found, medium = report.grounding, report.subject.medium
    parts: list[Part] = [Text(found.absent)] if isinstance(found, Absent) else _grounding(found, medium)
    parts += [Heading("Against references"), *_references(report.references)]
    parts += [Heading("Claims put to a second model"), *_claims(report.claims)]
    lead = (
        f"Does a caption fit its own {medium} better than another item's? "
        "A similarity means nothing without that baseline."
    )
    mark = "" if isinstance(found, Absent) else f"AUC {found.auc:.2f}"
    return Section("grounding", "Grounding", lead, tuple(parts), mark)


def usefulness(report: CaptionReport) -> Section:
    """Retrieval of the own item, neighbours, vectors that are nearly the same."""
    found = report.usefulness
    parts: list[Part] = [Heading("The own item found by its caption")]
    for name, retrieval in (("image-text", found.clip_retrieval), ("text", found.text_retrieval)):
        if isinstance(retrieval, Absent):
            parts.append(Text(f"By the {name} encoder: {retrieval.absent}"))
        else:
            parts.append(_retrieval(retrieval))
    parts += [Heading(f"Neighbours by caption and by {report.subject.medium}"), *_neighbours(report)]
    parts += [Heading("Vectors that are nearly the same"), *_near_duplicates(report)]
    lead = "Do captions keep what tells items apart?"
    return Section("usefulness", "Usefulness", lead, tuple(parts))


def _grounding(found: Grounding, medium: str) -> list[Part]:
    own = Series(f"own {medium}", "accent", found.own_histogram.edges, found.own_histogram.counts)
    other = found.shuffled_histogram
    shuffled = Series(f"another item's {medium}", "second", other.edges, other.counts)
    facts = [Fact("AUC, own against shuffled", decimals(found.auc), "0.5 is chance, 1 is perfect")]
    if found.auc_best_frame is not None:
        facts.append(Fact("AUC by the best frame", decimals(found.auc_best_frame), "not the mean"))
    facts += [
        Fact(f"own {medium}, median", decimals(found.own.median), "cosine"),
        Fact("shuffled, median", decimals(found.shuffled.median), "cosine"),
        Fact("captions scored", number(found.scored), f"{found.chunked:,} in pieces for the text tower"),
    ]
    return [
        Facts(tuple(facts)),
        Charts((histogram(f"Similarity of caption and {medium}", "cosine", [own, shuffled]),)),
        in_short("Similarity in short", [(f"own {medium}", found.own), ("shuffled", found.shuffled)]),
        Text(f"Encoder: {found.encoder}. {medium.capitalize()}s: {found.images}"),
    ]


def _references(found: References | Absent) -> list[Part]:
    if isinstance(found, Absent):
        return [Text(found.absent)]
    against = f"{counted(found.items, 'item')} with {found.reference}"
    return [Facts((Fact("BLEU", f"{found.bleu:.1f}", against), Fact("chrF", f"{found.chrf:.1f}", "of 100")))]


def _claims(found: ClaimCheck | Absent) -> list[Part]:
    if isinstance(found, Absent):
        return [Text(found.absent)]
    supported = "none clear" if found.supported is None else percent(found.supported)
    facts = Facts(
        (
            Fact("supported", supported, "yes of yes and no"),
            Fact("yes", number(found.yes)),
            Fact("no", number(found.no)),
            Fact("unclear", number(found.unclear)),
            Fact("failed", number(found.failed)),
        )
    )
    asked = f"{counted(found.claims, 'claim')} of {counted(found.items, 'caption')}, put to {found.model}."
    refuted = tuple(Example(c.item_id, c.claim, f"answer: {c.answer}") for c in found.refuted)
    return [facts, Text(asked), *([Examples("Claims answered with no", refuted)] if refuted else [])]


def _retrieval(found: Retrieval) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = (
        ("recall@1", Share(found.recall_at_1), percent(found.chance_at_1)),
        ("recall@10", Share(found.recall_at_10), percent(found.chance_at_10)),
        ("median rank", number(found.median_rank), number((found.items + 1) / 2)),
    )
    title = f"{found.query} among {found.items:,} {found.gallery}"
    return Table(title, ("measure", "captions", "by chance"), rows)


def _neighbours(report: CaptionReport) -> list[Part]:
    found = report.usefulness.neighbours
    if isinstance(found, Absent):
        return [Text(found.absent)]
    sentence = (
        f"Of an item's {found.k} nearest by {found.pictures}, {percent(found.overlap)} are among "
        f"its {found.k} nearest by {found.captions}; by chance {percent(found.chance)}. "
        f"Looked at {found.sampled:,} of {found.items:,} items."
    )
    return [Text(sentence)]


def _near_duplicates(report: CaptionReport) -> list[Part]:
    found = report.usefulness.near_duplicates
    if isinstance(found, Absent):
        return [Text(found.absent)]
    sentence = (
        f"{found.count:,} of {found.items:,} captions ({percent(found.share)}) have a vector of "
        f"{found.captions} within a cosine of {number(found.threshold)} of another item's."
    )
    return [Text(sentence)]

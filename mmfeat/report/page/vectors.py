"""The page of vectors: their health, a map, neighbours, and what changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from mmfeat.report.model import Absent
from mmfeat.report.page.distributions import drawn as drawn_alone
from mmfeat.report.page.distributions import in_short
from mmfeat.report.page.document import drawn
from mmfeat.report.page.gallery import card_of
from mmfeat.report.page.items import safe_json
from mmfeat.report.page.parts import (
    Card,
    Cards,
    Cell,
    Charts,
    Chip,
    Dot,
    Fact,
    Facts,
    Gallery,
    Id,
    Map,
    Part,
    Section,
    Share,
    Table,
    Terms,
    Text,
)
from mmfeat.report.page.plots import Series, histogram
from mmfeat.report.page.verdict import Head
from mmfeat.report.page.wording import counted, decimals, moment, number, percent
from mmfeat.report.vectors.model import (
    Agreement,
    Cluster,
    Duplicates,
    EmbeddingMap,
    Moved,
    Near,
    Neighbourhood,
    VectorDrift,
    VectorsReport,
)
from mmfeat.schemas.visible import visible

_WIDTH, _MARGIN, _LOWEST, _HIGHEST = 1000, 12, 300, 700
_MOST_NUMBERS = 40


def vectors_document(report: VectorsReport) -> str:
    """The whole report as one HTML page."""
    sections = [
        _summary(report),
        _numbers(report),
        _spread(report),
        _hubness(report),
        _duplicates(report.duplicates, report.counts.directed),
        _clusters(report),
        _map(report.map, report.counts.directed, report.subject.seed),
        _agreement(report.beside),
        _drift(report.drift),
        _gallery(report),
    ]
    command = f"mmfeat report vectors {report.subject.version} --json"
    return drawn("Report on vectors", command, _head(report), sections)


def _head(report: VectorsReport) -> Head:
    subject, findings = report.subject, report.findings
    what = f"{subject.model} vectors of {subject.source} by {subject.method}, in {subject.store}"
    about = f"{what}. Reported {moment(subject.reported)}."
    if not findings:
        return Head(subject.version, about, "Nothing unusual", "No figure is beyond what is usual.", "good")
    verdict = f"{counted(len(findings), 'thing')} to look at"
    return Head(subject.version, about, verdict, " ".join(findings), "bad" if subject.stale else "")


def _summary(report: VectorsReport) -> Section:
    counts, spread = report.counts, report.spread
    others = f"{counts.missing:,} missing, {counts.failed:,} failed, {counts.absent:,} absent"
    figures = (
        Fact("items with vectors", number(counts.ok), others),
        Fact("mean cosine", decimals(spread.mean_cosine), "of two items; 0 is even"),
        Fact("intrinsic dimension", _or_unknown(spread.two_nn), f"TwoNN; of {report.subject.dims:,}"),
        Fact("hubness", number(report.hubness.skewness), "skewness; 0 is even"),
        Fact("near duplicates", percent(report.duplicates.near / counts.directed), "of the items"),
    )
    return Section("summary", "Summary", "", (Facts(figures), *_sampled(report), _terms(report)))


def _or_unknown(value: float | None) -> str:
    return "unknown" if value is None else number(value)


def _sampled(report: VectorsReport) -> list[Part]:
    counts = report.counts
    if counts.sampled == counts.ok:
        return [Text(f"All figures are of all {counts.ok:,} vectors.")]
    return [
        Text(
            f"All figures are of {counts.sampled:,} of the {counts.ok:,} items with vectors, drawn at random "
            f"by seed {report.subject.seed}, among each other: the whole holds more duplicates, and nearer "
            "neighbours.",
            note=True,
        )
    ]


def _terms(report: VectorsReport) -> Terms:
    subject = report.subject
    items: list[tuple[str, Cell]] = [
        ("version", Id(subject.version)),
        ("made from", subject.source),
        ("by", f"{subject.method}, {subject.model}"),
        ("dimensions", number(subject.dims)),
        ("written", moment(subject.created)),
        ("seed of samples", str(subject.seed)),
    ]
    return Terms(tuple(items))


def _numbers(report: VectorsReport) -> Section:
    counts, dimensions = report.counts, report.dimensions
    lead = "Vectors without a direction are never found, and dimensions that never change only cost space."
    parts: list[Part] = [
        Facts(
            (
                Fact("without direction", number(counts.sampled - counts.directed), "zeros or not finite"),
                Fact("dead dimensions", number(len(dimensions.dead)), "0 in every vector"),
                Fact("constant dimensions", number(len(dimensions.constant)), "one value in every vector"),
                Fact(
                    "largest dimension",
                    percent(dimensions.largest_share),
                    f"of the variance, number {dimensions.largest}",
                ),
            )
        ),
        Charts((drawn_alone("Lengths of the stored vectors", "norm", report.norms, "vectors"),)),
        in_short("Lengths in short", [("norm", report.norms)], "vectors"),
    ]
    for name, found in (("Dead", dimensions.dead), ("Constant", dimensions.constant)):
        if found:
            parts.append(Text(f"{name} dimensions: {_listed([str(one) for one in found])}."))
    if counts.without_direction:
        parts.append(Text(f"Items without a direction: {_listed(counts.without_direction)}."))
    return Section("numbers", "Norms and dimensions", lead, tuple(parts))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NUMBERS:,} more" if len(names) > _MOST_NUMBERS else ""
    return ", ".join(names[:_MOST_NUMBERS]) + more


def _spread(report: VectorsReport) -> Section:
    spread, dims = report.spread, report.subject.dims
    lead = (
        "Where all directions lie in a narrow cone, cosines say little; where the variance lies in a few "
        "dimensions, so do the vectors."
    )
    facts = Facts(
        (
            Fact("mean cosine", decimals(spread.mean_cosine), "of two different items"),
            Fact("mean direction", decimals(spread.mean_length), "its length, 0 to 1"),
            Fact("first component", percent(spread.first_share), "of the variance"),
            Fact("90% of the variance", number(spread.components_90), f"components of {dims:,}"),
            Fact("effective rank", number(spread.effective_rank), "by entropy"),
            Fact("participation ratio", number(spread.participation), "by squares"),
            Fact("intrinsic dimension", _or_unknown(spread.two_nn), "by two neighbours"),
        )
    )
    pairs, nearest = spread.pairs_histogram, spread.nearest_histogram
    series = [
        Series("items drawn at random", "second", pairs.edges, pairs.counts),
        Series("item and its nearest", "accent", nearest.edges, nearest.counts),
    ]
    named = [("drawn at random", spread.pairs), ("nearest", spread.nearest)]
    parts = (
        facts,
        Charts((histogram("Cosines of two items", "cosine", series),)),
        in_short("Cosines in short", named, "pairs"),
    )
    return Section("spread", "Spread", lead, parts)


def _hubness(report: VectorsReport) -> Section:
    found = report.hubness
    lead = (
        f"How often an item is among the {found.k} nearest of others. Hubs are shown for everything, and "
        "what is near to nothing is never shown."
    )
    facts = Facts(
        (
            Fact("skewness", number(found.skewness), "0 is even"),
            Fact("Robin Hood index", percent(found.robin_hood), "places to change hands"),
            Fact("near to none", percent(found.never), "of the items"),
            Fact("largest hub", number(found.largest), "items it is near to"),
        )
    )
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (Id(hub.item_id), hub.title, number(hub.times)) for hub in found.hubs
    )
    parts = (
        facts,
        Charts((drawn_alone("Times among the nearest", "times", found.times, "items"),)),
        Table("The largest hubs", ("item", "title", "near to"), rows, right=("near to",)),
    )
    return Section("hubness", "Hubness", lead, parts, number(found.skewness))


def _duplicates(found: Duplicates, items: int) -> Section:
    lead = (
        "Items that no distance can tell apart: the same picture twice, or a model that sees no difference."
    )
    facts = Facts(
        (
            Fact("same vector", number(found.exact), f"{percent(found.exact / items)} of the items"),
            Fact("nearly the same", number(found.near), f"cosine of {number(found.threshold)} or more"),
        )
    )
    parts: list[Part] = [facts]
    if not found.groups:
        parts.append(Text("No two items are nearly the same."))
    mark = percent(found.near / items)
    return Section("duplicates", "Duplicates", lead, tuple(parts), mark)


def _clusters(report: VectorsReport) -> Section:
    found = report.clusters
    lead = (
        f"By spherical k-means, seed {report.subject.seed}. The silhouette, by centres, is "
        f"{decimals(found.silhouette)}: 1 is far apart, 0 is no clusters at all."
    )
    columns = ("cluster", "items", "share", "cohesion", "next centre", "words of titles")
    rows = tuple(_cluster(at, one) for at, one in enumerate(found.clusters, start=1))
    return Section(
        "clusters",
        "Clusters",
        lead,
        (Table("Clusters, the largest first", columns, rows, right=columns[1:5]),),
    )


def _cluster(at: int, one: Cluster) -> tuple[Cell, ...]:
    other = "" if one.other is None else decimals(one.other)
    return str(at), number(one.items), Share(one.share), decimals(one.cohesion), other, ", ".join(one.words)


def _map(found: EmbeddingMap, items: int, seed: int) -> Section:
    how = "The first two principal components" if found.method == "pca" else "UMAP of cosines"
    held = "" if found.explained is None else f", which hold {percent(found.explained)} of the variance"
    which = "all items" if len(found.points) == items else f"{len(found.points):,} of {items:,} items"
    lead = f"{how}{held}; {which}. Seed {seed}. Near on a plane need not be near: see the neighbours."
    parts: list[Part] = [_drawn_map(found, f"A map of {which}. {how}.")]
    rows: list[tuple[Cell, ...]] = [
        (one.name, Share(one.same), percent(one.chance or 0))
        for one in found.colourings
        if one.same is not None and one.name != "cluster"
    ]
    if rows:
        columns = ("field", "neighbours in the same group", "by chance")
        parts.append(Table("Do neighbours share a field?", columns, tuple(rows), right=columns[1:]))
    return Section("map-of-items", "Map", lead, tuple(parts), found.method.upper())


def _drawn_map(found: EmbeddingMap, label: str) -> Map:
    """Both axes at one scale, the second upwards."""
    places = np.array([(point.x, -point.y) for point in found.points])
    low, size = places.min(axis=0), np.ptp(places, axis=0)
    inside = _WIDTH - 2 * _MARGIN
    height = float(np.clip(inside * size[1] / (size[0] or 1), _LOWEST, _HIGHEST))
    scale = min(inside / (size[0] or 1), height / (size[1] or 1))
    spare = (np.array([inside, height]) - scale * size) / 2
    placed = (places - low) * scale + spare + _MARGIN
    pictures = {shown.item_id: shown.pictures[0].jpeg for shown in found.shown if shown.pictures}
    data = {
        "items": [[visible(point.item_id), visible(point.title)] for point in found.points],
        "pictures": {
            at: pictures[point.item_id] for at, point in enumerate(found.points) if point.item_id in pictures
        },
        "colourings": [
            {
                "name": visible(one.name),
                "ordered": one.ordered,
                "groups": [visible(group) for group in one.groups],
                "of": one.of,
            }
            for one in found.colourings
        ],
    }
    return Map(
        label=label,
        height=round(height + 2 * _MARGIN),
        dots=tuple(Dot(f"{x:.1f}", f"{y:.1f}") for x, y in placed),
        data=Markup(safe_json(data)),
        colourings=tuple(one.name for one in found.colourings),
    )


def _agreement(found: Sequence[Agreement | Absent]) -> Section:
    lead = "Do other features, such as of another modality, find the same neighbours?"
    if not found:
        hint = "No other feature was named: --beside FEATURE compares with one."
        return Section("agreement", "Agreement", lead, (Text(hint),))
    known = [one for one in found if isinstance(one, Agreement)]
    parts: list[Part] = [_agreements("Neighbours in common", known)] if known else []
    parts += [Text(one.absent) for one in found if isinstance(one, Absent)]
    parts += [Text(f"Items that agree least with {one.feature}: {', '.join(one.least)}.") for one in known]
    return Section("agreement", "Agreement", lead, tuple(parts))


def _agreements(title: str, found: Sequence[Agreement]) -> Table:
    columns = ("with", "items", "neighbours", "Jaccard", "by chance", "in common", "median Jaccard")
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            Id(one.feature),
            number(one.items),
            number(one.k),
            decimals(one.jaccard),
            decimals(one.chance),
            Share(one.kept),
            decimals(one.each.median),
        )
        for one in found
    )
    return Table(title, columns, rows, right=columns[1:])


def _drift(found: VectorDrift | Absent) -> Section:
    title, lead = "Drift", "The same items by another version: did their vectors, and their neighbours, stay?"
    if isinstance(found, Absent):
        return Section("drift", title, lead, (Text(found.absent),))
    agreement, cosine = found.agreement, found.cosine
    mean = "other lengths" if cosine is None else decimals(cosine.mean)
    facts = [
        Fact("neighbours kept", percent(agreement.kept), f"of {agreement.k}, {agreement.items:,} items"),
        Fact("mean cosine", mean, "of the two vectors"),
        Fact("same direction", number(found.same), "items"),
        Fact("gained", number(found.gained), "have a vector only now"),
        Fact("lost", number(found.lost), "had one only then"),
    ]
    parts: list[Part] = [Facts(tuple(facts))]
    if cosine is not None:
        parts.append(Charts((drawn_alone("Cosine of each item's two vectors", "cosine", cosine, "items"),)))
        parts.append(
            Text(
                "Another model has a space of its own, and cosines across two spaces say nothing: there, "
                "only the neighbours tell."
            )
        )
    parts.append(_agreements(f"Neighbours against {found.against}", [agreement]))
    return Section("drift", title, lead, tuple(parts), f"{percent(agreement.kept)} kept")


def _gallery(report: VectorsReport) -> Section:
    lead = "What a number cannot show: do items that are near each other belong together?"
    seed = report.subject.seed
    groups = [_neighbourhood(at, one, seed) for at, one in enumerate(report.neighbours, start=1)]
    hubs = tuple(
        card_of(one.item_id, one.title, f"near to {counted(one.times, 'item')}", one.shown)
        for one in report.hubness.hubs
    )
    groups.append(Cards("hubs", "Hubs", "Items that are the most often among the nearest of others.", hubs))
    for at, group in enumerate(report.duplicates.groups, start=1):
        rule = f"{group.items:,} items that cosines of {number(report.duplicates.threshold)} connect."
        groups.append(Cards(f"group-{at}", f"Near duplicates {at}", rule, _nears(group.some)))
    for at, cluster in enumerate(report.clusters.clusters, start=1):
        rule = f"The nearest to its centre, of {cluster.items:,} items."
        groups.append(Cards(f"cluster-{at}", f"Cluster {at}", rule, _nears(cluster.some)))
    if isinstance(report.drift, VectorDrift):
        groups += [_moved(at, one) for at, one in enumerate(report.drift.moved, start=1)]
    return Section("gallery", "Neighbours in pictures", lead, (Gallery(tuple(groups)),))


def _neighbourhood(at: int, one: Neighbourhood, seed: int) -> Cards:
    own = card_of(one.item_id, one.title, "", one.shown, (Chip("the item", "good"),))
    rule = f"The nearest by cosine; the item was drawn at random, seed {seed}."
    return Cards(f"near-{at}", f"Nearest to {one.item_id}", rule, (own, *_nears(one.near)))


def _nears(near: Sequence[Near]) -> tuple[Card, ...]:
    return tuple(
        card_of(one.item_id, one.title, "", one.shown, (Chip(f"cosine {decimals(one.cosine)}"),))
        for one in near
    )


def _moved(at: int, one: Moved) -> Cards:
    own = card_of(one.item_id, one.title, "", one.shown, (Chip("the item", "good"),))
    now = tuple(_beside(near, "now") for near in one.now)
    before = tuple(_beside(near, "before") for near in one.before)
    cosine = "" if one.cosine is None else f", its vectors have a cosine of {decimals(one.cosine)}"
    rule = f"{percent(one.kept)} of its neighbours stayed{cosine}."
    return Cards(f"moved-{at}", f"Moved: {one.item_id}", rule, (own, *now, *before))


def _beside(near: Near, when: str) -> Card:
    chips = (Chip(when), Chip(f"cosine {decimals(near.cosine)}"))
    return card_of(near.item_id, near.title, "", near.shown, chips)

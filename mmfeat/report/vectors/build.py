"""``report vectors``: from stored vectors to what is told of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as package_version

import numpy as np

from mmfeat.report.model import Absent, Shown
from mmfeat.report.page.wording import counted
from mmfeat.report.pictures import Progress
from mmfeat.report.rules import Rules
from mmfeat.report.shown import shower, titles_of
from mmfeat.report.statistics import histograms
from mmfeat.report.vectors.agree import FEWEST, Change, K, agreement, beside, change, some
from mmfeat.report.vectors.clusters import clusters_of, silhouette, telling_words
from mmfeat.report.vectors.findings import findings_of
from mmfeat.report.vectors.geometry import (
    Axes,
    effective_rank,
    mean_cosine,
    occurrences,
    participation,
    principal_axes,
    robin_hood,
    skewness,
    two_nn,
)
from mmfeat.report.vectors.load import Vectors, check_form, ids_with, read_vectors
from mmfeat.report.vectors.model import (
    Cluster,
    Clusters,
    Dimensions,
    Duplicates,
    EmbeddingMap,
    Group,
    Hub,
    Hubness,
    Moved,
    Near,
    Neighbourhood,
    Point,
    Spread,
    VectorCounts,
    VectorDrift,
    VectorsReport,
    VectorsSubject,
)
from mmfeat.report.vectors.nearest import Nearest, connected, nearest
from mmfeat.report.vectors.plane import Field, check_map, coloured, fields_of, plane_of
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import ABSENT, FAILED, MISSING, OK
from mmfeat.schemas.validation import listed
from mmfeat.store import FeatureVersion, Store, why_stale

_IDS = 100
# Of what a person looks at: items with their neighbours, hubs, groups of duplicates, items of a cluster.
_LOOKED, _NEAR, _HUBS, _GROUPS, _OF_GROUP, _OF_CLUSTER = 6, 5, 8, 4, 4, 4
# A map of more points is a blot; more pictures would make a page too large to send.
_POINTS, _POINT_PICTURES = 3000, 60
_HELD = 0.9


@dataclass(frozen=True)
class VectorsOptions:
    """What a report on vectors is made of.

    Attributes:
        against: the version to compare with; the one made last before when None.
        against_snapshot: a snapshot that the other version is read from.
        beside: features whose neighbours are compared.
        map: ``pca`` or ``umap``.
        colour: the field of the catalog that the map is first coloured by.
        sample: items that the figures are of, drawn at random where there are more.
        seed: of everything drawn at random.
    """

    against: str | None = None
    against_snapshot: str | None = None
    beside: tuple[str, ...] = ()
    map: str = "pca"
    colour: str | None = None
    sample: int = 20_000
    seed: int = 0


def report_vectors(store: Store, feature: str, options: VectorsOptions, progress: Progress) -> VectorsReport:
    """Measure the vectors of a feature.

    Args:
        feature: ``name`` or ``name@fingerprint``.
        progress: told what was done, how many times, of how many.

    Raises:
        UsageError: there is no such feature, field, snapshot or map; the feature, or one it is compared with,
            holds no vectors; fewer than 3 items have one.
        MissingExtra: UMAP is not installed and was asked for.
    """
    check_map(options.map)
    version = store.resolve(feature)
    check_form(version)
    others = [store.resolve(name) for name in listed(options.beside, "feature")]
    having = ids_with(store, version)
    sample = _drawn(having, options.sample, options.seed)
    vectors = read_vectors(store, version, sample, progress)
    if len(vectors.ids) < FEWEST:
        those = counted(len(vectors.ids), "item has", "items have")
        raise UsageError(
            f"{those} a vector of {version.version}, and a report needs {FEWEST}.",
            hint="`mmfeat status` tells what became of its items, `mmfeat failures` why.",
        )
    fields = fields_of(store, version, vectors.ids, vectors.marks, options.colour)
    found = _measured(vectors, options.seed, progress)
    agreements = tuple(beside(store, version, vectors, other, progress) for other in others)
    changed = change(store, version, vectors, having, options.against, options.against_snapshot, progress)
    plan = _Plan.of(found, changed, options.seed)
    items = _Items(titles_of(store), _pictures(store, version, plan.wanted, progress))
    spread, hubness = _spread(found, options.seed), _hubness(found, plan, items)
    counts, duplicates = _counts(store, version, vectors), _duplicates(found, plan, items)
    dimensions, subject = _dimensions(vectors), _subject(store, version, options.seed)
    return VectorsReport(
        subject=subject,
        counts=counts,
        findings=findings_of(subject, counts, dimensions, spread, hubness, duplicates),
        norms=some(vectors.norms[np.isfinite(vectors.norms)]),
        dimensions=dimensions,
        spread=spread,
        hubness=hubness,
        duplicates=duplicates,
        clusters=_clusters(found, plan, items),
        neighbours=tuple(_neighbourhood(found, at, items) for at in plan.looked),
        map=_map(found, plan, items, fields, options),
        drift=changed if isinstance(changed, Absent) else _drift(changed, items),
        beside=agreements,
    )


@dataclass(frozen=True)
class _Measured:
    """What several sections need of the directions."""

    vectors: Vectors
    near: Nearest
    axes: Axes
    two_nn: float | None
    times: np.ndarray
    cluster: np.ndarray
    centres: np.ndarray

    @property
    def k(self) -> int:
        return int(self.near.at.shape[1])


def _measured(vectors: Vectors, seed: int, progress: Progress) -> _Measured:
    directions = vectors.directions
    near = nearest(directions, min(K, len(directions) - 1), progress)
    distinct = _distinct(directions)
    if len(distinct) == len(directions):
        dimension = two_nn(directions, near.at[:, :2])
    elif len(distinct) > FEWEST:
        # The nearest of a duplicate is no neighbour of the paper's.
        others = directions[distinct]
        dimension = two_nn(others, nearest(others, 2, progress).at)
    else:
        dimension = None
    cluster, centres = clusters_of(directions, seed)
    times = occurrences(near.at)
    return _Measured(vectors, near, principal_axes(directions), dimension, times, cluster, centres)


def _distinct(directions: np.ndarray) -> np.ndarray:
    """Rows of the first of each different direction."""
    # -0.0 is 0.0, but not byte by byte.
    whole = np.ascontiguousarray(directions + 0.0)
    rows = whole.view(np.dtype((np.void, whole.strides[0]))).ravel()
    return np.sort(np.unique(rows, return_index=True)[1])


@dataclass(frozen=True)
class _Plan:
    """Which items are shown, as rows of the directions; decided before any picture is read."""

    looked: list[int]
    hubs: list[int]
    groups: list[np.ndarray]
    of_clusters: list[list[int]]
    points: np.ndarray
    wanted: list[str]

    @classmethod
    def of(cls, found: _Measured, changed: Change | Absent, seed: int) -> _Plan:
        rng = np.random.default_rng(seed)
        n = len(found.vectors.ids)
        looked = sorted(rng.permutation(n)[:_LOOKED].tolist())
        hubs = np.argsort(-found.times, kind="stable")[:_HUBS].tolist()
        groups = connected(found.near, Rules().near_vector)
        points = np.sort(rng.permutation(n)[:_POINTS])
        of_clusters = [_nearest_to_centre(found, at) for at in range(len(found.centres))]
        rows = [*looked, *found.near.at[looked, :_NEAR].ravel().tolist(), *hubs]
        rows += [int(at) for group in groups[:_GROUPS] for at in group[:_OF_GROUP]]
        rows += [at for some_ in of_clusters for at in some_]
        rows += rng.permutation(points)[:_POINT_PICTURES].tolist()
        wanted = [found.vectors.ids[at] for at in rows]
        wanted += [] if isinstance(changed, Absent) else _ids_of_change(changed)
        return cls(looked, hubs, groups, of_clusters, points, list(dict.fromkeys(wanted)))


@dataclass(frozen=True)
class _Items:
    """Titles and pictures of items by id."""

    titles: Mapping[str, str]
    shown: Mapping[str, Shown] = field(repr=False)

    def near(self, item_id: str, cosine: float) -> Near:
        title = self.titles.get(item_id, "")
        return Near(item_id=item_id, title=title, cosine=cosine, shown=self.shown[item_id])


def _drawn(ids: list[str], most: int, seed: int) -> list[str]:
    if len(ids) <= most:
        return ids
    rows = np.sort(np.random.default_rng(seed).permutation(len(ids))[:most])
    return [ids[at] for at in rows]


def _pictures(
    store: Store, version: FeatureVersion, ids: Sequence[str], progress: Progress
) -> dict[str, Shown]:
    show, shown = shower(store, version), {}
    for done, item_id in enumerate(ids, start=1):
        shown[item_id] = show(item_id)
        progress("pictures of items", done, len(ids))
    return shown


def _subject(store: Store, version: FeatureVersion, seed: int) -> VectorsSubject:
    spec = version.spec
    return VectorsSubject(
        store=store.uri,
        version=version.version,
        source=", ".join(one.source for one in spec.inputs),
        method=spec.method,
        model=spec.model,
        dims=spec.shape[-1],
        spec=spec.model_dump(mode="json", exclude_none=True),
        created=version.created,
        reported=datetime.now(UTC),
        seed=seed,
        mmfeat=package_version("mmfeat"),
        stale=why_stale(version, store.versions(), store.current()),
    )


def _counts(store: Store, version: FeatureVersion, vectors: Vectors) -> VectorCounts:
    present = store.present_ids()
    counts = Counter(store.counts(version, present))
    rows = counts[OK] + counts[MISSING] + counts[FAILED]
    return VectorCounts(
        ok=counts[OK],
        missing=counts[MISSING],
        failed=counts[FAILED],
        absent=counts[ABSENT] or len(present) - rows,
        sampled=len(vectors.ids) + len(vectors.dropped),
        directed=len(vectors.ids),
        without_direction=tuple(vectors.dropped[:_IDS]),
    )


def _dimensions(vectors: Vectors) -> Dimensions:
    fixed = vectors.lowest == vectors.highest
    zero = fixed & (vectors.lowest == 0)
    largest = int(vectors.variance.argmax())
    total = float(vectors.variance.sum())
    return Dimensions(
        dead=tuple(np.flatnonzero(zero).tolist()),
        constant=tuple(np.flatnonzero(fixed & ~zero).tolist()),
        largest=largest,
        largest_share=float(vectors.variance[largest]) / total if total else 0.0,
    )


def _spread(found: _Measured, seed: int) -> Spread:
    directions, shares = found.vectors.directions, found.axes.shares
    n = len(directions)
    rng = np.random.default_rng(seed)
    one = rng.integers(0, n, n)
    other = (one + rng.integers(1, n, n)) % n
    held = np.cumsum(shares)
    pairs = np.einsum("nd,nd->n", directions[one], directions[other])
    closest = found.near.cosines[:, 0]
    of_pairs, of_closest = histograms([pairs, closest])
    return Spread(
        mean_cosine=mean_cosine(directions),
        mean_length=float(np.linalg.norm(found.axes.mean)),
        first_share=float(shares[0]),
        components_90=int((held < _HELD).sum()) + 1 if shares.any() else 0,
        participation=participation(shares),
        effective_rank=effective_rank(shares),
        two_nn=found.two_nn,
        pairs=some(pairs),
        nearest=some(closest),
        pairs_histogram=of_pairs,
        nearest_histogram=of_closest,
    )


def _hubness(found: _Measured, plan: _Plan, items: _Items) -> Hubness:
    times, ids = found.times, found.vectors.ids
    hubs = []
    for at in plan.hubs:
        item_id = ids[at]
        title, shown = items.titles.get(item_id, ""), items.shown[item_id]
        hubs.append(Hub(item_id=item_id, title=title, times=int(times[at]), shown=shown))
    return Hubness(
        k=found.k,
        skewness=skewness(times),
        robin_hood=robin_hood(times, found.k),
        never=float((times == 0).mean()),
        largest=int(times.max()),
        times=some(times),
        hubs=tuple(hubs),
    )


def _duplicates(found: _Measured, plan: _Plan, items: _Items) -> Duplicates:
    threshold, directions = Rules().near_vector, found.vectors.directions
    alike = np.bincount(found.vectors.alike)
    # Equal vectors are near, whatever the rounding of their cosine.
    exact = alike[found.vectors.alike] > 1
    near = exact | (found.near.cosines[:, 0] >= threshold)
    groups = []
    for group in plan.groups[:_GROUPS]:
        members = group[:_OF_GROUP]
        cosines = directions[members] @ directions[members[0]]
        groups.append(Group(items=len(group), some=_nears(found, members, cosines, items)))
    return Duplicates(threshold=threshold, exact=int(exact.sum()), near=int(near.sum()), groups=tuple(groups))


def _nears(
    found: _Measured, rows: Iterable[int], cosines: Iterable[float], items: _Items
) -> tuple[Near, ...]:
    ids = found.vectors.ids
    return tuple(items.near(ids[at], float(c)) for at, c in zip(rows, cosines, strict=True))


def _nearest_to_centre(found: _Measured, cluster: int) -> list[int]:
    members = np.flatnonzero(found.cluster == cluster)
    cosines = found.vectors.directions[members] @ found.centres[cluster]
    nearest_: list[int] = members[np.argsort(-cosines, kind="stable")[:_OF_CLUSTER]].tolist()
    return nearest_


def _clusters(found: _Measured, plan: _Plan, items: _Items) -> Clusters:
    directions, ids = found.vectors.directions, found.vectors.ids
    words = telling_words([items.titles.get(item_id, "") for item_id in ids], found.cluster)
    between = found.centres @ found.centres.T
    np.fill_diagonal(between, -np.inf)
    clusters = []
    for at, rows in enumerate(plan.of_clusters):
        centre, members = found.centres[at], np.flatnonzero(found.cluster == at)
        clusters.append(
            Cluster(
                items=len(members),
                share=len(members) / len(ids),
                cohesion=float((directions[members] @ centre).mean()),
                other=float(between[at].max()) if len(between) > 1 else None,
                words=words[at],
                some=_nears(found, rows, directions[rows] @ centre, items),
            )
        )
    parted = silhouette(directions, found.cluster, found.centres)
    return Clusters(silhouette=parted, clusters=tuple(clusters))


def _neighbourhood(found: _Measured, at: int, items: _Items) -> Neighbourhood:
    item_id = found.vectors.ids[at]
    rows, cosines = found.near.at[at, :_NEAR], found.near.cosines[at, :_NEAR]
    return Neighbourhood(
        item_id=item_id,
        title=items.titles.get(item_id, ""),
        shown=items.shown[item_id],
        near=_nears(found, rows, cosines, items),
    )


def _map(
    found: _Measured, plan: _Plan, items: _Items, fields: Sequence[Field], options: VectorsOptions
) -> EmbeddingMap:
    ids, points = found.vectors.ids, plan.points
    places = plane_of(options.map, found.vectors.directions, found.axes, found.k, options.seed)
    cluster = Field("cluster", [f"cluster {at + 1}" for at in found.cluster])
    colourings = [coloured(one, found.near.at, points) for one in (*fields, cluster)]
    on_it = {ids[at] for at in points}
    return EmbeddingMap.model_validate(
        {
            "method": options.map,
            "explained": float(found.axes.shares[:2].sum()) if options.map == "pca" else None,
            "points": tuple(_point(ids[at], places[at], items) for at in points),
            "colourings": tuple(colourings),
            "shown": tuple(shown for item_id, shown in items.shown.items() if item_id in on_it),
        }
    )


def _point(item_id: str, place: np.ndarray, items: _Items) -> Point:
    title = items.titles.get(item_id, "")
    return Point(item_id=item_id, title=title, x=float(place[0]), y=float(place[1]))


def _ids_of_change(changed: Change) -> list[str]:
    both = changed.both
    rows = [
        row
        for at in changed.moved
        for row in (at, *both.near_a.at[at, :_OF_GROUP], *both.near_b.at[at, :_OF_GROUP])
    ]
    return [both.ids[row] for row in rows]


def _drift(changed: Change, items: _Items) -> VectorDrift:
    both, cosines = changed.both, changed.cosines
    same = (both.a == both.b).all(axis=1) if cosines is not None else np.zeros(len(both.ids), bool)
    return VectorDrift(
        against=changed.against,
        gained=changed.gained,
        lost=changed.lost,
        same=int(same.sum()),
        cosine=None if cosines is None else some(cosines),
        agreement=agreement(changed.against, both),
        moved=tuple(_moved(changed, at, items) for at in changed.moved),
    )


def _moved(changed: Change, at: int, items: _Items) -> Moved:
    both, item_id = changed.both, changed.both.ids[at]

    def nears(near: Nearest) -> tuple[Near, ...]:
        pairs = zip(near.at[at, :_OF_GROUP], near.cosines[at, :_OF_GROUP], strict=True)
        return tuple(items.near(both.ids[row], float(cosine)) for row, cosine in pairs)

    return Moved(
        item_id=item_id,
        title=items.titles.get(item_id, ""),
        cosine=None if changed.cosines is None else float(changed.cosines[at]),
        kept=float(changed.kept[at]),
        shown=items.shown[item_id],
        before=nears(both.near_b),
        now=nears(both.near_a),
    )

"""What a report on vectors says: the JSON it is, and what the page shows."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mmfeat.report.model import Absent, Distribution, Histogram, Shown
from mmfeat.schemas.notebook import ShortRepr


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VectorsSubject(_Frozen):
    """Which vectors these are, and how the report was made.

    Attributes:
        version: ``name@fingerprint`` of the feature.
        source: what the vectors were made from.
        method, model: what made them.
        dims: length of a vector.
        seed: of everything drawn at random.
        stale: which features the vectors read in another version than the current one; empty if none.
    """

    store: str
    version: str
    source: str
    method: str
    model: str
    dims: int
    spec: dict[str, Any]
    created: datetime
    reported: datetime
    seed: int
    mmfeat: str
    stale: str = ""


class VectorCounts(_Frozen):
    """Items by the status of their vectors, and how many of those that are ok the figures are of.

    Attributes:
        sampled: drawn at random from the ok items; all of them where they are no more than the sample.
        directed: those of the sample whose vector has a direction: finite and not all zeros.
        without_direction: ids of the others, the first 100.
    """

    ok: int
    missing: int
    failed: int
    absent: int
    sampled: int
    directed: int
    without_direction: tuple[str, ...]


class Dimensions(_Frozen):
    """What single dimensions hold.

    Attributes:
        dead: numbers, from 0, of those that are 0 in every vector.
        constant: of those that have one value, which is not 0, in every vector.
        largest: of the one that varies most.
        largest_share: its share of all variance.
    """

    dead: tuple[int, ...]
    constant: tuple[int, ...]
    largest: int
    largest_share: float


class Spread(_Frozen):
    """How much of the space the directions fill.

    Attributes:
        mean_cosine: of two different items; 0 is a feature whose directions point everywhere.
        mean_length: of the mean direction, 0 to 1.
        first_share: the share of the variance on the first principal component.
        components_90: principal components that hold 90 % of the variance.
        participation: (sum of eigenvalues)^2 / sum of their squares.
        effective_rank: e to the entropy of the eigenvalues' shares (Roy and Vetterli 2007).
        two_nn: intrinsic dimension by the two nearest neighbours (Facco et al. 2017); None if too few
            items have distinct vectors.
        pairs: cosines of as many pairs as items, drawn at random.
        nearest: cosine of each item with its nearest other.
        pairs_histogram, nearest_histogram: both on the same edges.
    """

    mean_cosine: float
    mean_length: float
    first_share: float
    components_90: int
    participation: float
    effective_rank: float
    two_nn: float | None
    pairs: Distribution
    nearest: Distribution
    pairs_histogram: Histogram
    nearest_histogram: Histogram


class Near(_Frozen):
    """An item, with its cosine to the one it stands beside."""

    item_id: str
    title: str
    cosine: float
    shown: Shown


class Neighbourhood(_Frozen):
    """An item and those nearest to it."""

    item_id: str
    title: str
    shown: Shown
    near: tuple[Near, ...]


class Hub(_Frozen):
    """An item that is among the nearest of ``times`` others."""

    item_id: str
    title: str
    times: int
    shown: Shown


class Hubness(_Frozen):
    """Whether a few items are near to everything (Radovanović et al. 2010).

    Attributes:
        k: neighbours of each item.
        skewness: of how often an item is among the nearest of others; 0 is even.
        robin_hood: the share of all places among neighbours that would have to change hands for all items to
            have equally many (Feldbauer et al. 2018).
        never: the share of items that are among the nearest of none.
        largest: the most others an item is among the nearest of.
        times: how often an item is.
        hubs: the items that most often are.
    """

    k: int
    skewness: float
    robin_hood: float
    never: float
    largest: int
    times: Distribution
    hubs: tuple[Hub, ...]


class Group(_Frozen):
    """Items alike, the first few of ``items``."""

    items: int
    some: tuple[Near, ...]


class Duplicates(_Frozen):
    """Items whose vectors are the same, or nearly.

    Attributes:
        exact: items that have the same values as another.
        near: items with another at a cosine of at least ``threshold``, those of ``exact`` included.
        groups: items that such cosines connect (of each item's nearest), the largest groups first.
    """

    threshold: float
    exact: int
    near: int
    groups: tuple[Group, ...]


class Cluster(_Frozen):
    """Items around one direction.

    Attributes:
        cohesion: mean cosine of its items to its centre.
        other: cosine of its centre to the nearest other one; None if it is the only cluster.
        words: of titles, more frequent in it than elsewhere.
        some: the items nearest to its centre, with their cosine to it.
    """

    items: int
    share: float
    cohesion: float
    other: float | None
    words: tuple[str, ...]
    some: tuple[Near, ...]


class Clusters(_Frozen):
    """Clusters by spherical k-means, the largest first.

    Attributes:
        silhouette: mean over items, by the cosine distance to the own and to the next centre, -1 to 1.
    """

    silhouette: float
    clusters: tuple[Cluster, ...]


class Colouring(_Frozen):
    """What a map's points can be coloured by.

    Attributes:
        name: of the field.
        ordered: whether the groups are parts of a scale.
        groups: their names.
        of: per point its group; -1 if it has no value.
        same: the share of an item's neighbours that are in its group, and ``chance`` what it would be by
            chance; both None if they were not compared.
    """

    name: str
    ordered: bool
    groups: tuple[str, ...]
    of: tuple[int, ...]
    same: float | None = None
    chance: float | None = None


class Point(_Frozen):
    """An item's place on the map."""

    item_id: str
    title: str
    x: float
    y: float


class EmbeddingMap(_Frozen):
    """The items on a plane.

    Attributes:
        explained: the share of the variance that the plane holds; None of UMAP.
        points: at most 3,000 of the sample, drawn at random.
        shown: pictures of some.
    """

    method: Literal["pca", "umap"]
    explained: float | None
    points: tuple[Point, ...]
    colourings: tuple[Colouring, ...]
    shown: tuple[Shown, ...]


class Agreement(_Frozen):
    """Whether two features find the same neighbours.

    Attributes:
        feature: ``name@fingerprint`` of the other.
        items: of the sample, that have vectors of both.
        jaccard: mean over items of neighbours in common over neighbours of either.
        chance: what that would be if neighbours were drawn at random.
        kept: the mean share of the ``k`` neighbours in common.
        each: the Jaccard index of each item.
        least: ids of the items that agree least.
    """

    feature: str
    k: int
    items: int
    jaccard: float
    chance: float
    kept: float
    each: Distribution
    least: tuple[str, ...]


class Moved(_Frozen):
    """An item whose neighbours are others than before.

    Attributes:
        cosine: of its two vectors; None if they have other lengths.
        kept: the share of its neighbours that stayed.
        before, now: its nearest by each version.
    """

    item_id: str
    title: str
    cosine: float | None
    kept: float
    shown: Shown
    before: tuple[Near, ...]
    now: tuple[Near, ...]


class VectorDrift(_Frozen):
    """What changed since another version, or since a snapshot.

    Attributes:
        against: ``name@fingerprint``, and the snapshot where it was read from one.
        gained, lost: items that have a vector only now, or had one only then.
        same: items of ``agreement.items`` with exactly the same direction.
        cosine: of each item's two vectors; None if they have other lengths.
        agreement: of the neighbours then and now.
        moved: items that kept the fewest neighbours.
    """

    against: str
    gained: int
    lost: int
    same: int
    cosine: Distribution | None
    agreement: Agreement
    moved: tuple[Moved, ...]


class VectorsReport(ShortRepr, _Frozen):
    """What is to be known of vectors.

    Attributes:
        findings: what a person should look at, in sentences.
        norms: lengths of the stored vectors.
        beside: agreement with other features.
    """

    subject: VectorsSubject
    counts: VectorCounts
    findings: tuple[str, ...]
    norms: Distribution
    dimensions: Dimensions
    spread: Spread
    hubness: Hubness
    duplicates: Duplicates
    clusters: Clusters
    neighbours: tuple[Neighbourhood, ...]
    map: EmbeddingMap
    drift: VectorDrift | Absent
    beside: tuple[Agreement | Absent, ...]

"""Do two features, or a feature then and now, find the same neighbours?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmfeat.report.captions import earlier_version
from mmfeat.report.model import Absent, Distribution
from mmfeat.report.pictures import Progress
from mmfeat.report.statistics import distribution
from mmfeat.report.vectors.load import Vectors, check_form, ids_with, read_vectors
from mmfeat.report.vectors.model import Agreement
from mmfeat.report.vectors.nearest import Nearest, in_common, jaccard, jaccard_by_chance, nearest
from mmfeat.schemas.errors import UsageError
from mmfeat.store import FeatureVersion, Store

K = 10
#: Fewer items have no neighbours to speak of.
FEWEST = 3
_LEAST = 5
_MOVED = 4


@dataclass(frozen=True)
class Both:
    """Items with vectors of two features, and their neighbours among each other.

    Attributes:
        ids: of the items.
        a, b: float32 ``[n, dims]`` of length 1, of other dims each.
        near_a, near_b: their neighbours.
    """

    ids: list[str]
    a: np.ndarray
    b: np.ndarray
    near_a: Nearest
    near_b: Nearest

    @property
    def k(self) -> int:
        """How many neighbours of each are compared."""
        return int(self.near_a.at.shape[1])


@dataclass(frozen=True)
class Change:
    """What became of vectors since another version or a snapshot; of ``both``, ``a`` is now.

    Attributes:
        moved: rows of ``both`` that kept the fewest neighbours.
        kept: ``[n]``, the share of its neighbours that each row kept.
        cosines: ``[n]``, of the two vectors of each row; None if they have other lengths.
    """

    against: str
    gained: int
    lost: int
    both: Both
    moved: list[int]
    kept: np.ndarray
    cosines: np.ndarray | None


def both_of(
    vectors: Vectors, store: Store, other: FeatureVersion, having: set[str], progress: Progress
) -> Both | None:
    """The items of ``vectors`` that have a vector of ``other`` too; None of fewer than 3.

    Args:
        store: that ``other`` is read from.
        having: the items that have one.
    """
    shared = [item_id for item_id in vectors.ids if item_id in having]
    found = read_vectors(store, other, shared, progress)
    n = len(found.ids)
    if n < FEWEST:
        return None
    place = {item_id: at for at, item_id in enumerate(vectors.ids)}
    a = vectors.directions[[place[item_id] for item_id in found.ids]]
    k = min(K, n - 1)
    near_a, near_b = (nearest(one, k, progress) for one in (a, found.directions))
    return Both(found.ids, a, found.directions, near_a, near_b)


def agreement(feature: str, both: Both) -> Agreement:
    """How many neighbours two features have in common."""
    shared = in_common(both.near_a.at, both.near_b.at)
    index = jaccard(shared, both.k)
    least = np.argsort(index, kind="stable")[:_LEAST]
    return Agreement(
        feature=feature,
        k=both.k,
        items=len(both.ids),
        jaccard=float(index.mean()),
        chance=jaccard_by_chance(len(both.ids) - 1, both.k),
        kept=float(shared.mean() / both.k),
        each=some(index),
        least=tuple(both.ids[at] for at in least),
    )


def beside(
    store: Store, version: FeatureVersion, vectors: Vectors, other: FeatureVersion, progress: Progress
) -> Agreement | Absent:
    """Agreement of a feature with another.

    Raises:
        UsageError: the other is the same version, or holds no vectors.
    """
    if other.fingerprint == version.fingerprint:
        raise UsageError(
            f"{other.version} is what is reported on.", hint="Give --beside the name of another feature."
        )
    check_form(other)
    both = both_of(vectors, store, other, set(ids_with(store, other)), progress)
    if both is None:
        return Absent(absent=f"Fewer than {FEWEST} items have vectors of {other.version} too.")
    return agreement(other.version, both)


def change(
    store: Store,
    version: FeatureVersion,
    vectors: Vectors,
    having: list[str],
    against: str | None,
    snapshot: str | None,
    progress: Progress,
) -> Change | Absent:
    """What changed since another version, or since a snapshot of the store.

    Args:
        having: every item that has a vector of ``version``.
        against: the other version; the one made before, or of a snapshot the one that was current, when None.
        snapshot: that the other version is read from; the store as it is when None.

    Raises:
        UsageError: there is no such version or snapshot, or it holds no vectors.
    """
    then = store if snapshot is None else store.at(snapshot)
    if snapshot is None:
        other = earlier_version(store, version, against)
    else:
        other = then.resolve(against or version.name)
    if other is None:
        return Absent(absent="This is the first version of these vectors.")
    check_form(other)
    name = other.version if snapshot is None else f"{other.version} in the snapshot {snapshot}"
    before = set(ids_with(then, other))
    both = both_of(vectors, then, other, before, progress)
    if both is None:
        return Absent(absent=f"Fewer than {FEWEST} items have vectors of {name} too.")
    kept = in_common(both.near_a.at, both.near_b.at) / both.k
    same_dims = both.a.shape == both.b.shape
    cosines = np.einsum("nd,nd->n", both.a, both.b) if same_dims else None
    order = np.lexsort((kept if cosines is None else cosines, kept))
    now = set(having)
    return Change(
        against=name,
        gained=len(now - before),
        lost=len(before - now),
        both=both,
        moved=[int(at) for at in order[:_MOVED] if kept[at] < 1],
        kept=kept,
        cosines=cosines,
    )


def some(values: np.ndarray) -> Distribution:
    """The distribution of one value or more."""
    found = distribution(values)
    assert found is not None, "there are values"
    return found

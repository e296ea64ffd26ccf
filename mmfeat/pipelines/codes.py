"""What codes of a store's items need beside a quantizer: names that stay, and numbers given out once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract.fitted.codes import Quantizer, Residual, last_numbers, number_collisions
from mmfeat.extract.fitted.codes.matching import kept, places
from mmfeat.extract.fitted.codes.quality import group_sizes
from mmfeat.extract.fitted.codes.sinkhorn import nearest_free, spread
from mmfeat.schemas.featureset import OK
from mmfeat.schemas.spec import FeatureSpec, Quantization
from mmfeat.store import FeatureVersion, Store
from mmfeat.store.rows import matrix_of


@dataclass(frozen=True)
class Kept:
    """How many codes stayed where a feature was fitted anew.

    Attributes:
        version: ``name@fingerprint`` of the codes before.
        items: that had codes before and have some now.
        share: of them, those that keep their whole code: every level, and the number of the collision level.
        levels: the share that keeps each level's code; where both have a collision level, it is the last.
    """

    version: str
    items: int
    share: float
    levels: list[float]

    def __str__(self) -> str:
        levels = ", ".join(f"{share:.1%}" for share in self.levels)
        return (
            f"{self.share:.1%} of {self.items:,} items keep their whole code of {self.version}; "
            f"by level: {levels}"
        )


@dataclass(frozen=True)
class Former:
    """The codes that items have of the version before.

    Attributes:
        version: ``name@fingerprint``.
        there: ``[n]`` whether an item has some.
        codes: ``[n, levels]``, the number of the collision level among them.
    """

    version: str
    there: np.ndarray
    codes: np.ndarray

    @classmethod
    def of(
        cls, store: Store, spec: FeatureSpec, ids: Sequence[str], beside: FeatureVersion | None = None
    ) -> Former | None:
        """Of the version of the same shape that the name means, or of the newest one; None if no item
        has any.

        Args:
            beside: a version that is not looked at.
        """
        alike = [v for v in store.versions(spec.name) if v != beside and _shape(v.spec) == _shape(spec)]
        if not alike:
            return None
        current = store.current().get(spec.name)
        version = max(alike, key=lambda v: (v.fingerprint == current, v.created))
        column = store.lookup(ids, [version.version], unknown="mask")[version.name]
        return cls(version.version, column.mask, column.matrix) if column.mask.any() else None

    def at(self, positions: np.ndarray) -> Former:
        """Those of some of the items."""
        return Former(self.version, self.there[positions], self.codes[positions])

    def kept(self, store: Store, version: FeatureVersion, ids: Sequence[str]) -> Kept | None:
        """How many of them a version's rows of the same items have; None if no item has both."""
        column = store.lookup(ids, [version.version], unknown="mask")[version.name]
        both = self.there & column.mask
        if not both.any():
            return None
        before, after = self.codes[both], column.matrix[both]
        width = min(before.shape[1], after.shape[1])
        share, levels = kept(before[:, :width], after[:, :width])
        # A code with a number is not one without.
        whole = share if before.shape[1] == after.shape[1] else 0.0
        return Kept(self.version, len(before), whole, levels)


def called_as_before(
    quantizer: Quantizer, vectors: np.ndarray, former: Former | None
) -> tuple[Quantizer, np.ndarray]:
    """A quantizer whose codes are called as items called them so far, where that can be.

    Args:
        vectors: that it was fitted to.
        former: of the same items.

    Returns:
        The quantizer, and ``[n, levels]`` codes of the vectors.
    """
    codes = quantizer.encode(vectors)
    if former is None or not former.there.any():
        return quantizer, codes
    before = former.codes[former.there][:, : codes.shape[1]]
    place = places(before, codes[former.there], quantizer.codebook_size)
    if (place != np.arange(quantizer.codebook_size)).any():
        quantizer = quantizer.reordered(np.argsort(place, axis=1))
        codes = quantizer.encode(vectors)
    return quantizer, codes


def numbered(
    store: Store, version: FeatureVersion, ids: Sequence[str], codes: np.ndarray, order: np.ndarray
) -> np.ndarray:
    """``[n, levels + 1]``: codes and the number that tells items apart whose codes are the same.

    A number is given out once, by a version and the one before it together. What is given out is kept by
    code, without the item, before the rows are committed. An item whose codes are what they were keeps its
    number, that of the version before where this one has given out none yet; other items get theirs after
    all that either gave out.

    Args:
        ids: of the items, whose rows are about to be committed.
        order: the positions of the items in the order in which they are numbered.
    """
    before = _given_out(store, version)
    result, stays = _with_numbers(store, version, ids, codes, is_first=not len(before))
    new = order[~stays[order]]
    given = np.vstack([before, *_given_out_before(store, version, ids), result[stays]])
    result[new] = number_collisions(codes[new], last_numbers(given))
    store.put_collision_numbers(version, before, last_numbers(np.vstack([given, result[new]])))
    return result


def _given_out(store: Store, version: FeatureVersion) -> np.ndarray:
    """``[m, levels + 1]``: codes, and the last number that a version gave out."""
    found = store.collision_numbers(version)
    return last_numbers(_stored(store, version)) if found is None else found


def _given_out_before(store: Store, version: FeatureVersion, ids: Sequence[str]) -> list[np.ndarray]:
    """The same of the version before: codes are called as it called them. None if it numbered nothing."""
    former = Former.of(store, version.spec, ids, beside=version)
    if former is None or former.codes.shape[1] != version.spec.dims:
        return []
    return [_given_out(store, store.resolve(former.version))]


def _with_numbers(
    store: Store, version: FeatureVersion, ids: Sequence[str], codes: np.ndarray, *, is_first: bool
) -> tuple[np.ndarray, np.ndarray]:
    """``[n, levels + 1]`` former codes, and ``[n]`` whether an item has such a number that it keeps.

    Args:
        is_first: whether the version has given out no number yet.
    """
    if not is_first:
        column = store.lookup(ids, [version.version], unknown="mask")[version.name]
        there, before = column.mask, column.matrix
    else:
        former = Former.of(store, version.spec, ids, beside=version)
        if former is None or former.codes.shape[1] != version.spec.dims:
            return np.zeros((len(ids), version.spec.dims or 0), np.int32), np.zeros(len(ids), bool)
        there, before = former.there, former.codes
    return before.copy(), there & (before[:, :-1] == codes).all(axis=1)


def with_last_as_before(
    store: Store, version: FeatureVersion, ids: Sequence[str], nearest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Codes in which items whose nearest codes are what they were have the last code that they had, whoever
    else has it.

    Rows of an earlier mmfeat do not tell what was nearest in the last level: there those before it decide.

    Args:
        ids: of the items, whose rows are about to be committed.
        nearest: ``[n, levels]`` codes.

    Returns:
        ``[n, levels]`` codes, and ``[n]`` whether an item's are those that it had.
    """
    column = store.lookup(ids, [version.version], unknown="mask")[version.name]
    before = column.matrix[:, : nearest.shape[1]]
    known = {item_id: told["nearest"] for item_id, told in _told(store, version) if "nearest" in told}
    last = [known.get(item_id, code) for item_id, code in zip(ids, nearest[:, -1].tolist(), strict=True)]
    same = column.mask & (before[:, :-1] == nearest[:, :-1]).all(axis=1) & (nearest[:, -1] == last)
    return np.where(same[:, None], before, nearest), same


def told_apart(
    store: Store,
    version: FeatureVersion,
    ids: Sequence[str],
    codes: np.ndarray,
    stays: np.ndarray,
    quantizer: Residual,
    vectors_at: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """``[n, levels]`` codes, changed in their last level where others have them: by LC-Rec's rule for the
    items of the fit, by the nearest code that is free for those that come later.

    Args:
        ids: of the items, whose rows are about to be committed.
        stays: ``[n]`` whether an item keeps its codes.
        vectors_at: gives the vectors of the items at some positions of ``ids``.
    """
    q = version.spec.quantization
    assert q is not None and q.sinkhorn_epsilon is not None, "the recipe asks for it"
    taken = _taken(store, version, set(ids)) | set(map(tuple, codes[stays].tolist()))
    shared = np.array([tuple(code) in taken for code in codes.tolist()], bool) | (group_sizes(codes) > 1)
    at = np.flatnonzero(shared & ~stays)
    if not len(at):
        return codes
    residuals, codebook = quantizer.last_level(vectors_at(at), codes[at])
    result = codes.copy()
    if taken:
        others = taken | set(map(tuple, codes[~shared].tolist()))
        result[at] = nearest_free(codes[at], residuals, codebook, others)
    else:
        result[at] = spread(codes[at], residuals, codebook, q.sinkhorn_epsilon)
    return result


def _taken(store: Store, version: FeatureVersion, replaced: set[str]) -> set[tuple[int, ...]]:
    """The codes, without numbers of collisions, of all items but those whose rows are to be replaced."""
    quantization = version.spec.quantization
    assert quantization is not None, "codes have it"
    taken: set[tuple[int, ...]] = set()
    for batch in store.ledger_batches(version, ["item_id", "status", "codes"]):
        ok = batch.filter(pc.equal(batch["status"], OK))
        codes = matrix_of(ok["codes"])[:, : quantization.code_levels].tolist()
        pairs = zip(ok["item_id"].to_pylist(), codes, strict=True)
        taken |= {tuple(code) for item_id, code in pairs if item_id not in replaced}
    return taken


def lacks_popularity(store: Store, quantization: Quantization) -> bool:
    """Whether items are to be numbered by their interactions, and the store has none."""
    if quantization.collisions != "popularity":
        return False
    interactions = store.interactions()
    return interactions is None or not len(interactions)


def numbering_order(store: Store, quantization: Quantization, ids: Sequence[str]) -> np.ndarray:
    """Positions of ``ids``, which are sorted, in the order in which colliding items are numbered."""
    interactions = store.interactions() if quantization.collisions == "popularity" else None
    if interactions is None:
        return np.arange(len(ids))
    counts = pc.value_counts(interactions["item_id"].combine_chunks())
    at = pc.index_in(pa.array(ids, pa.string()), value_set=counts.field("values"))
    popularity = pc.fill_null(counts.field("counts").take(at), 0).to_numpy(zero_copy_only=False)
    return np.argsort(-popularity, kind="stable")


def learnt_from(store: Store, version: FeatureVersion) -> dict[str, bool]:
    """Of the items that have a row: whether the codebooks may have learnt from them."""
    return {item_id: told["fitted"] for item_id, told in _told(store, version)}


def facts(learnt: bool, since_fit: bool, error: float | None, nearest: int | None) -> str:
    """What a row of codes tells beside them, as JSON.

    Args:
        learnt: whether the codebooks may have learnt from the item: from this vector or a former one.
        since_fit: whether the vector came after the fit.
        error: squared error of the vector as its codes decode; None without codes.
        nearest: the nearest code of the last level, where that level tells items apart; None elsewhere.
    """
    told = {"fitted": learnt, "since_fit": since_fit, "error": error, "nearest": nearest}
    return json.dumps({key: value for key, value in told.items() if value is not None})


def _told(store: Store, version: FeatureVersion) -> Iterator[tuple[str, dict[str, Any]]]:
    """Item id and :func:`facts` of every row that has some."""
    rows = store.facts(version)
    for item_id, told in zip(rows["item_id"].to_pylist(), rows["facts"].to_pylist(), strict=True):
        yield item_id, json.loads(told)


def _shape(spec: FeatureSpec) -> tuple[int, int] | None:
    q = spec.quantization
    return None if q is None else (q.code_levels, q.codebook_size)


def _stored(store: Store, version: FeatureVersion) -> np.ndarray:
    """``[m, levels + 1]`` of all rows that have codes."""
    ledger = store.ledger(version)
    there = ledger["item_id"].filter(pc.equal(ledger["status"], OK)).to_pylist()
    if not there:
        return np.empty((0, version.spec.dims or 0), np.int32)
    return store.lookup(there, [version.version])[version.name].matrix

"""Stored vectors of some items: a direction for each, and what only the stored numbers say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow.compute as pc

from mmfeat.report.pictures import Progress, unit
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import OK, FeatureColumn
from mmfeat.store import FeatureVersion, Store

_ITEMS = 1024


@dataclass(frozen=True)
class Vectors:
    """Vectors of some items.

    Attributes:
        ids: of the items whose vector has a direction.
        directions: float32 ``[n, dims]`` of length 1; of several vectors of an item the mean of theirs.
        alike: int64 ``[n]``: items with the same number have exactly the same stored values.
        marks: why an item that is ok was marked, else empty.
        dropped: ids of the other items: their vector is all zeros or not finite.
        norms: float64, of every stored vector.
        lowest, highest, variance: float64 ``[dims]``, over every stored vector that is finite and not all
            zeros.
    """

    ids: list[str]
    directions: np.ndarray
    alike: np.ndarray
    marks: list[str]
    dropped: list[str]
    norms: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    variance: np.ndarray


def check_form(version: FeatureVersion) -> None:
    """Refuse a feature without vectors.

    Raises:
        UsageError: it holds texts or codes.
    """
    if version.spec.form in ("vector", "tokens"):
        return
    if version.spec.form == "codes":
        what, hint = "codes", f"See `mmfeat report codes --feature {version.version}`."
    else:
        what, hint = "texts", "Report on a feature that reads it: an encoder with this text as its source."
    raise UsageError(f"{version.version} holds {what}, and no vectors.", hint=hint)


def ids_with(store: Store, version: FeatureVersion) -> list[str]:
    """The items that have a vector and are not gone, in the catalog's order."""
    found: set[str] = set()
    for batch in store.ledger_batches(version, ["item_id", "status"]):
        found.update(batch.filter(pc.equal(batch["status"], OK))["item_id"].to_pylist())
    return [item_id for item_id in store.present_ids().to_pylist() if item_id in found]


def read_vectors(store: Store, version: FeatureVersion, ids: Sequence[str], progress: Progress) -> Vectors:
    """Vectors of ``ids``, all of which have one; 1,024 items at a time.

    Args:
        progress: told how many are read.
    """
    kept: list[str] = []
    dropped: list[str] = []
    marks: list[str] = []
    directions, norms, hashes = [], [], []
    dims = version.spec.shape[-1]
    sums = _Sums(dims)
    for start in range(0, len(ids), _ITEMS):
        some = list(ids[start : start + _ITEMS])
        column = store.lookup(some, [version.version], unknown="mask")[version.name]
        of_each = _values(column)
        stored = np.concatenate(of_each).astype(np.float64)
        norms.append(np.linalg.norm(stored, axis=1))
        sums.add(stored)
        for item_id, values, mark in zip(some, of_each, column.reason, strict=True):
            direction = _direction(values)
            if direction is None:
                dropped.append(item_id)
                continue
            kept.append(item_id)
            directions.append(direction)
            hashes.append(blake2b(values.tobytes(), digest_size=16).digest())
            marks.append(str(mark))
        progress("vectors read", start + len(some), len(ids))
    numbers: dict[bytes, int] = {}
    return Vectors(
        ids=kept,
        directions=np.stack(directions) if directions else np.empty((0, dims), np.float32),
        alike=np.array([numbers.setdefault(one, len(numbers)) for one in hashes], np.int64),
        marks=marks,
        dropped=dropped,
        norms=np.concatenate(norms) if norms else np.empty(0),
        lowest=sums.lowest,
        highest=sums.highest,
        variance=sums.variance,
    )


class _Sums:
    """Per dimension what is known of all vectors so far."""

    def __init__(self, dims: int) -> None:
        self.lowest, self.highest = np.full(dims, np.inf), np.full(dims, -np.inf)
        self._count, self._mean, self._apart = 0, np.zeros(dims), np.zeros(dims)

    def add(self, values: np.ndarray) -> None:
        """Take in float64 ``[m, dims]``; the moments as Chan, Golub and LeVeque (1979) join them."""
        values = values[np.isfinite(values).all(axis=1) & values.any(axis=1)]
        if not len(values):
            return
        self.lowest = np.minimum(self.lowest, values.min(axis=0))
        self.highest = np.maximum(self.highest, values.max(axis=0))
        mean, count = values.mean(axis=0), self._count + len(values)
        step = mean - self._mean
        self._apart += ((values - mean) ** 2).sum(axis=0) + step**2 * self._count * len(values) / count
        self._mean, self._count = self._mean + step * len(values) / count, count

    @property
    def variance(self) -> np.ndarray:
        """``[dims]``, over n."""
        found: np.ndarray = self._apart / max(self._count, 1)
        return found


def _values(column: FeatureColumn) -> list[np.ndarray]:
    """Per item ``[vectors, dims]``."""
    if column.spec.form == "tokens":
        return [np.asarray(one) for one in column.tokens]
    return [np.atleast_2d(one) for one in column.matrix]


def _direction(values: np.ndarray) -> np.ndarray | None:
    """Of length 1; None if the vectors have none."""
    if not np.isfinite(values).all():
        return None
    direction = unit(unit(values).mean(axis=0))
    return direction if direction.any() else None

"""The items on a plane, and what their points can be coloured by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mmfeat.report.vectors.geometry import Axes
from mmfeat.report.vectors.model import Colouring
from mmfeat.schemas.catalog import NUMBER, Column, columns_of
from mmfeat.schemas.errors import MissingExtra, UsageError
from mmfeat.schemas.featureset import ABSENT, OK
from mmfeat.store import FeatureVersion, Store

#: Methods of maps.
MAPS = ("pca", "umap")
# As many colours as can be told apart; the last is of all other groups.
_GROUPS = 10
_OTHERS = "others"
_PARTS = 5
# A text with more different values, or with more than half as many as items, is no field of groups unless it
# was asked for.
_MOST_VALUES = 30
_SIGNIFICANT = 4


def check_map(method: str) -> None:
    """Before any work.

    Raises:
        UsageError: there is no such method.
        MissingExtra: UMAP is not installed.
    """
    if method not in MAPS:
        raise UsageError(f"There is no map {method!r}.", hint=f"There are: {', '.join(MAPS)}.")
    if method == "umap":
        _umap()


def plane_of(method: str, directions: np.ndarray, axes: Axes, k: int, seed: int) -> np.ndarray:
    """float64 ``[n, 2]``: the items on the first two principal axes, or by UMAP of cosines.

    Args:
        k: neighbours that UMAP keeps near.
    """
    if method == "umap":
        embedding = _umap()(n_neighbors=max(2, k), metric="cosine", random_state=seed, n_jobs=1)
        return np.asarray(embedding.fit_transform(directions), np.float64)
    places = np.zeros((len(directions), 2))
    found = (directions - axes.mean) @ axes.axes[:2].T
    places[:, : found.shape[1]] = found
    return places


def _umap() -> type:
    try:
        from umap import UMAP
    except ImportError as error:
        raise MissingExtra("A map by UMAP", "umap", str(error.name)) from None
    found: type = UMAP
    return found


@dataclass(frozen=True)
class Field:
    """A value per item: texts of groups, or numbers of a scale; None if there is none."""

    name: str
    values: Sequence[str | float | None]

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers."""
        return any(isinstance(value, float) for value in self.values)


def fields_of(
    store: Store, version: FeatureVersion, ids: Sequence[str], marks: Sequence[str], asked: str | None
) -> list[Field]:
    """What the store knows of items that a map can be coloured by: the field that was asked for, then
    popularity, fields of the catalog, marks, and the status of other features.

    Raises:
        UsageError: the catalog has no such field, or it is of media.
    """
    items = store.present()
    place = {item_id: at for at, item_id in enumerate(items["item_id"].to_pylist())}
    rows = pa.array([place[item_id] for item_id in ids])
    columns = columns_of(items.schema)
    fields = []
    for name, column in columns.items():
        if not column.is_media:
            field = Field(name, _values(items[name].take(rows), column))
            if name == asked or _tells(field):
                fields.append(field)
    fields.sort(key=lambda field: field.name != asked)
    if asked is not None and not (fields and fields[0].name == asked):
        known = [name for name, column in columns.items() if not column.is_media]
        raise UsageError(
            f"The catalog has no field {asked!r} to colour by.", hint=f"There are: {', '.join(known)}."
        )
    first = 0 if asked is None else 1
    fields[first:first] = _popularity(store, ids)
    if any(marks):
        fields.append(Field("marks", [mark or "none" for mark in marks]))
    return [*fields, *_statuses(store, version, ids)]


def coloured(field: Field, near: np.ndarray, shown: np.ndarray) -> Colouring:
    """A field as a colouring of the points ``shown``.

    Args:
        field: of all items of ``near``.
        near: ``[n, k]``: their neighbours.
    """
    if field.ordered:
        groups, of = _parts(field.values)
        return Colouring(name=field.name, ordered=True, groups=tuple(groups), of=tuple(map(int, of[shown])))
    names = [name for name, _ in Counter(v for v in field.values if v is not None).most_common()]
    number = {name: at for at, name in enumerate(names)}
    of = np.array([-1 if value is None else number[value] for value in field.values], np.int64)
    same, chance = same_group(of, near)
    groups = [str(name) for name in names]
    if len(groups) > _GROUPS:
        groups, of = [*groups[: _GROUPS - 1], _OTHERS], np.minimum(of, _GROUPS - 1)
    return Colouring(
        name=field.name,
        ordered=False,
        groups=tuple(groups),
        of=tuple(map(int, of[shown])),
        same=same,
        chance=chance,
    )


def same_group(of: np.ndarray, near: np.ndarray) -> tuple[float | None, float | None]:
    """The share of neighbours that are in an item's own group, and of all other items; items without a group
    (-1) are left out. None if no two are left.
    """
    known = of >= 0
    pairs = known[:, None] & known[near]
    n = int(known.sum())
    if not pairs.any() or n < 2:
        return None, None
    sizes = np.bincount(of[known])
    alike = (of[:, None] == of[near])[pairs]
    return float(alike.mean()), float((sizes * (sizes - 1)).sum() / (n * (n - 1)))


def _values(column: pa.ChunkedArray, kind: Column) -> list[str | float | None]:
    """Of several texts the first."""
    found = column.to_pylist()
    if kind.modality == NUMBER:
        return [None if value is None else float(value) for value in found]
    return [(value[0] if value else None) if isinstance(value, list) else value or None for value in found]


def _tells(field: Field) -> bool:
    different = len({value for value in field.values if value is not None})
    most = min(_MOST_VALUES, len(field.values) // 2)
    return different > 1 and (field.ordered or different <= most)


def _popularity(store: Store, ids: Sequence[str]) -> list[Field]:
    """How many interactions each item has, where the store has any."""
    interactions = store.interactions()
    if interactions is None or not len(interactions):
        return []
    counted = interactions["item_id"].value_counts()
    times = dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
    return [Field("popularity", [float(times.get(item_id, 0)) for item_id in ids])]


def _statuses(store: Store, version: FeatureVersion, ids: Sequence[str]) -> list[Field]:
    """The status of other current features of which some of the items are not ok."""
    found = []
    for name in sorted(store.current()):
        if name == version.name:
            continue
        status: dict[str, str] = {}
        for batch in store.ledger_batches(store.resolve(name), ["item_id", "status"]):
            status.update(zip(batch["item_id"].to_pylist(), batch["status"].to_pylist(), strict=True))
        values = [status.get(item_id, ABSENT) for item_id in ids]
        if any(value != OK for value in values):
            found.append(Field(f"status of {name}", values))
    return found


def _parts(values: Sequence[str | float | None]) -> tuple[list[str], np.ndarray]:
    """Up to five parts of a scale with equally many items each, and the part of each item; -1 without one."""
    numbers = np.array([np.nan if value is None else value for value in values], np.float64)
    known = np.isfinite(numbers)
    edges = np.unique(np.quantile(numbers[known], np.linspace(0, 1, _PARTS + 1)))
    inner = edges[1:-1]
    of = np.where(known, np.searchsorted(inner, numbers, side="right"), -1)
    names = []
    for part in range(len(inner) + 1):
        inside = numbers[of == part]
        names.append("" if not len(inside) else _between(float(inside.min()), float(inside.max())))
    return names, of


def _between(low: float, high: float) -> str:
    one, other = (f"{value:.{_SIGNIFICANT}g}" for value in (low, high))
    return one if one == other else f"{one} to {other}"

"""To which dataset a store belongs, and where in it the items of a dataset go.

A store belongs to the dataset that was first put into it, and to others that were added beside it. Each
item records whose it is by the dataset's number, and since when the dataset has it no more. Two datasets
are the same where both have an id and the ids are equal. Where one of them has none, they are the same if
one adapter read them and at least half of the smaller one's items are items of the other: so a dated or
moved root of a dataset, a part of it and what it has grown to are the same dataset. From another root, an
item of the same id is the same only where a text of it is: plain numbers are ids in many datasets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.schemas.catalog import ITEM_ID, Column, columns_of
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.ids import Places

#: Of the items of the smaller dataset, those that the other one must share.
ENOUGH_SHARED = 0.5

_SHOWN = 10

#: What a store knows of a dataset: ``name`` (its adapter), ``root``, and ``id`` where it was given one.
Said = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a dataset's items and interactions go in a store.

    Attributes:
        number: the dataset's in this store.
        datasets: number to what is known of every dataset that the store has from now on.
        replaces: whether the store gives up the datasets that it had, and with them all their items.
        known: how many of the dataset's items are in the store.
        changed: how many of these have other texts there.
    """

    number: int
    datasets: dict[int, dict[str, Any]]
    replaces: bool = False
    known: int = 0
    changed: int = 0

    @property
    def said(self) -> dict[str, Any]:
        """What is known of the dataset itself."""
        return self.datasets[self.number]


@dataclass(frozen=True)
class Owned:
    """Whose the items of a store are, present and gone.

    Attributes:
        ids: ``[n]`` of the items, in the catalog's order.
        numbers: ``[n]`` int32, the number of each item's dataset.
        gone: ``[n]`` int64, since when its dataset has it no more, in microseconds since 1970 UTC; 0 if
            it has it.
        datasets: number to what is known of it. Items of other numbers are of no dataset any more.
    """

    ids: pa.Array
    numbers: np.ndarray
    gone: np.ndarray
    datasets: dict[int, dict[str, Any]]

    def present(self, number: int | None = None) -> np.ndarray:
        """``[n]`` bool: the items that a dataset has, or that the dataset ``number`` has."""
        own = np.isin(self.numbers, list(self.datasets)) if number is None else self.numbers == number
        return np.asarray(own & (self.gone == 0))


def place_of(
    owned: Owned, items: pa.Table, rewritten: np.ndarray, said: Said, add: bool, replace: bool, uri: str
) -> Place:
    """Where a dataset goes.

    Args:
        owned: what the store holds.
        items: of the dataset.
        rewritten: ``[n]`` bool, the items of the store that share no text with the dataset's of their id.
        said: of the dataset: its adapter's name, its root, and its id where it has one.
        add: put it beside another one.
        replace: put it in the place of all that the store holds.
        uri: of the store.

    Raises:
        ConfigError: it is another dataset than the store's, and neither is wanted; or one of its items or
            columns clashes with what another dataset of the store has.
    """
    at = Places(owned.ids).of(items[ITEM_ID])
    known = _known(owned, at, len(items), rewritten, said)
    if add and known is not None and _only_looks_alike(owned.datasets[known], said):
        known = None
    if replace and set(owned.datasets) != {known}:
        # A number that was never used: what still names an older one belongs to no dataset then.
        number = max([-1, *owned.datasets, *owned.numbers.tolist()]) + 1
        return Place(number, {number: dict(said)}, replaces=True)
    if known is None and owned.datasets and len(owned.ids) and not add:
        raise _another(owned, items, at, rewritten, said, uri)
    if known is None:
        known = max(owned.datasets, default=-1) + 1 if len(owned.ids) else 0
        others = owned.datasets if len(owned.ids) else {}
    else:
        others = owned.datasets
    # An id that a job has given once is not lost to a job without one.
    kept = {"id": others[known]["id"]} if known in others and "id" in others[known] else {}
    place = Place(known, {**others, known: {**kept, **said}})
    _refuse_clashing_ids(owned, items, at, place, uri)
    return place


def refuse_clashing_columns(owned: Owned, there: pa.Table, items: pa.Table, place: Place, uri: str) -> None:
    """A column is of one kind in a store: what another dataset has in it would be lost.

    Args:
        there: the store's catalog.

    Raises:
        ConfigError: a column of ``items`` is of another kind than another dataset's.
    """
    columns = columns_of(there.schema)
    others = pa.array(np.isin(owned.numbers, [n for n in place.datasets if n != place.number]))
    for name, column in columns_of(items.schema).items():
        if name not in columns or columns[name] == column:
            continue
        if pc.any(pc.is_valid(there[name].filter(others)), min_count=0).as_py():
            raise ConfigError(
                f"The column {name!r} is {_kind(column)} in {named(place.said)}, and "
                f"{_kind(columns[name])} in another dataset of {uri}.",
                hint="Give the column another name ([dataset.columns]), or use another --store.",
            )


def named(said: Said) -> str:
    """A dataset for people: ``'microlens' (id 'shop')``."""
    own = f" (id {said['id']!r})" if said.get("id") else ""
    return f"{said.get('name', '')!r}{own}"


def distinct_name(said: Said, other: Said) -> str:
    """A dataset as :func:`named`, and its root where the other one is called the same."""
    return f"{named(said)} from {said.get('root')}" if named(said) == named(other) else named(said)


def _known(owned: Owned, at: np.ndarray, n_items: int, rewritten: np.ndarray, said: Said) -> int | None:
    """The number of the dataset that this one is; None if it is none of the store's."""
    shares = {
        number: share
        for number, other in owned.datasets.items()
        if (share := _alike(owned, number, at, n_items, rewritten, said)) is not None
    }
    return max(shares, key=lambda number: shares[number]) if shares else None


def _alike(
    owned: Owned, number: int, at: np.ndarray, n_items: int, rewritten: np.ndarray, said: Said
) -> float | None:
    """How sure it is that a dataset is ``number``, from 0 to 2; None if it is not."""
    other = owned.datasets[number]
    if said.get("id") and other.get("id"):
        return 2.0 if said["id"] == other["id"] else None
    # Of a store that does not say what it was made of, the items alone can tell.
    if other.get("name") not in (None, said.get("name")):
        return None
    own = owned.numbers == number
    smaller = min(n_items, int(own.sum()))
    same = own if said.get("root") == other.get("root") else own & ~rewritten
    share = float(same[at[at >= 0]].sum()) / smaller if smaller else 0.0
    # A dataset without an item has nothing to tell it by, and nothing that could be lost to another.
    return share if share >= ENOUGH_SHARED or not smaller else None


def _only_looks_alike(other: Said, said: Said) -> bool:
    """Whether nothing but the items says that two datasets are one: neither an id nor the root."""
    return not (said.get("id") and other.get("id")) and said.get("root") != other.get("root")


def _another(
    owned: Owned, items: pa.Table, at: np.ndarray, rewritten: np.ndarray, said: Said, uri: str
) -> ConfigError:
    counted = ", ".join(
        f"{named(other)} from {other.get('root')} ({int((owned.numbers == number).sum()):,} items)"
        for number, other in owned.datasets.items()
    )
    there = at[at >= 0]
    other_texts = int(rewritten[there].sum())
    return ConfigError(
        f"The store {uri} belongs to the dataset {counted}. {named(said)} from {said.get('root')} is "
        f"another one: {len(there):,} of its {len(items):,} items are in the store"
        + (f", {other_texts:,} of these with other texts." if other_texts else "."),
        hint="Give it a store of its own (--store), put its items beside the others with --add, or in "
        f"their place with --replace. {_known_by_an_id(owned, said)}",
    )


def _known_by_an_id(owned: Owned, said: Said) -> str:
    """How to say that it is the store's dataset all the same."""
    ids = [other["id"] for other in owned.datasets.values() if other.get("id")]
    if len(ids) == len(owned.datasets):
        return f"The store knows its datasets by an id ([dataset] id): {', '.join(map(repr, ids))}."
    own = f"id = {said['id']!r}" if said.get("id") else "an id"
    return (
        "What is one dataset under other ids or in another form is known by an id ([dataset] id): if it is "
        f"the store's, run that once as it was, with {own}, and then this one"
        + ("." if said.get("id") else " with the same.")
    )


def _refuse_clashing_ids(owned: Owned, items: pa.Table, at: np.ndarray, place: Place, uri: str) -> None:
    there = at >= 0
    owners = owned.numbers[at[there]]
    clash = (owners != place.number) & np.isin(owners, list(place.datasets))
    if not clash.any():
        return
    ids = items[ITEM_ID].take(pa.array(np.flatnonzero(there)[clash])).to_pylist()
    shown = ", ".join(map(repr, ids[:_SHOWN])) + (", ..." if len(ids) > _SHOWN else "")
    other = place.datasets[int(owners[clash][0])]
    raise ConfigError(
        f"{len(ids):,} item ids of {named(place.said)} from {place.said.get('root')} are taken by items of "
        f"{named(other)} from {other.get('root')} in {uri}: {shown}.",
        hint="An id is one item's in a store. Use another --store, give the items other ids, or let "
        "this dataset take the store with --replace. If it is that very dataset, leave --add out.",
    )


def _kind(column: Column) -> str:
    return f"{'lists of ' if column.several else ''}{column.modality}"

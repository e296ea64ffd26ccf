"""Items of the catalog as pages show them: by the modality of their columns, whatever these are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.schemas.catalog import ITEM_ID, NUMBER, Column, columns_of, texts_of
from mmfeat.schemas.errors import UnknownItems

# Of a list so many pictures are shown.
_MOST_SHOWN = 4
# What can be drawn, the one that stands for an item first.
_DRAWN = ("image", "video")


@dataclass(frozen=True)
class Media:
    """Files of one column; locations are for the thumbnailer and appear on no page."""

    column: str
    modality: str
    locations: tuple[str, ...]


@dataclass(frozen=True)
class Item:
    """One item.

    Attributes:
        title: its first text column.
        texts: its other texts and its numbers: column and text.
        media: what can be drawn of it, pictures before clips; of a list its first few.
    """

    item_id: str
    title: str | None
    texts: tuple[tuple[str, str], ...] = ()
    media: tuple[Media, ...] = ()

    @property
    def picture(self) -> Media | None:
        """What its thumbnail is made of."""
        return self.media[0] if self.media else None

    def location(self, column: str, at: int) -> tuple[str, str] | None:
        """``(modality, location)`` of one file of a column; None if it has no such file."""
        found = next((media for media in self.media if media.column == column), None)
        if found is None or at >= len(found.locations):
            return None
        return found.modality, found.locations[at]


def some(items: pa.Table, ids: Sequence[str]) -> list[Item]:
    """Those of ``ids`` that the catalog holds, in their order."""
    asked = pa.array(ids, pa.string())
    rows = _taken(items, pc.indices_nonzero(pc.is_in(items[ITEM_ID], value_set=asked)))
    by_id = {item.item_id: item for item in rows}
    return [by_id[i] for i in ids if i in by_id]


def one(items: pa.Table, item_id: str) -> Item:
    """One item; UnknownItems where the catalog does not hold it."""
    found = some(items, [item_id])
    if not found:
        raise UnknownItems([item_id], "the catalog")
    return found[0]


def page(items: pa.Table, words: str, offset: int, limit: int) -> tuple[list[Item], int]:
    """``limit`` items from ``offset`` on of those whose id or title contains ``words``, and their number."""
    if not words:
        return _taken(items, pa.array(range(offset, min(offset + limit, len(items))), pa.int64())), len(items)
    title = title_column(items)
    found = _contains(items[ITEM_ID], words)
    if title is not None and not title.several:
        found = pc.or_(found, _contains(items[title.name], words))
    rows = pc.indices_nonzero(found)
    return _taken(items, rows.slice(offset, limit)), len(rows)


def title_column(items: pa.Table) -> Column | None:
    """The first text column in which any item has a text; None if there is none."""
    texts = (column for column in columns_of(items.schema).values() if column.modality == "text")
    return next((column for column in texts if items[column.name].null_count < len(items)), None)


def _contains(column: pa.ChunkedArray, words: str) -> pa.ChunkedArray:
    return pc.fill_null(pc.match_substring(column, words, ignore_case=True), False)


def _taken(items: pa.Table, rows: pa.Array) -> list[Item]:
    columns, title = columns_of(items.schema), title_column(items)
    taken = items.take(rows)
    for at, column in enumerate(columns.values(), start=1):
        if column.modality == NUMBER:
            taken = taken.set_column(at, column.name, texts_of(taken[column.name], column))
    return [_item(row, columns, title) for row in taken.to_pylist()]


def _item(row: dict[str, str | list[str] | None], columns: dict[str, Column], title: Column | None) -> Item:
    values = {name: _listed(row[name]) for name in columns}
    texts = (
        (name, "\n".join(values[name]))
        for name, column in columns.items()
        if not column.is_media and column != title and values[name]
    )
    media = (
        Media(name, column.modality, tuple(values[name][:_MOST_SHOWN]))
        for modality in _DRAWN
        for name, column in columns.items()
        if column.modality == modality and values[name]
    )
    own_title = None if title is None else ", ".join(values[title.name]) or None
    return Item(str(row[ITEM_ID]), own_title, tuple(texts), tuple(media))


def _listed(cell: str | list[str] | None) -> list[str]:
    if cell is None:
        return []
    return [cell] if isinstance(cell, str) else cell

"""Items of the catalog as pages show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.schemas.errors import UnknownItems

_SHOWN = ("item_id", "title", "description", "cover", "video")


@dataclass(frozen=True)
class Item:
    """One item; locations are for the thumbnailer and appear on no page."""

    item_id: str
    title: str | None
    description: str | None = None
    cover: str | None = None
    video: str | None = None

    @property
    def source(self) -> str | None:
        """What its picture is made of."""
        return "cover" if self.cover else "video" if self.video else None


def some(items: pa.Table, ids: Sequence[str]) -> list[Item]:
    """Those of ``ids`` that the catalog holds, in their order."""
    asked = pa.array(ids, pa.string())
    rows = _taken(items, pc.indices_nonzero(pc.is_in(items["item_id"], value_set=asked)))
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
    found = pc.or_(*(_contains(items[column], words) for column in ("item_id", "title")))
    rows = pc.indices_nonzero(found)
    return _taken(items, rows.slice(offset, limit)), len(rows)


def _contains(column: pa.ChunkedArray, words: str) -> pa.ChunkedArray:
    return pc.fill_null(pc.match_substring(column, words, ignore_case=True), False)


def _taken(items: pa.Table, rows: pa.Array) -> list[Item]:
    return [Item(**row) for row in items.select(list(_SHOWN)).take(rows).to_pylist()]

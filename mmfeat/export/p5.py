"""The three files of a dataset as P5 (https://github.com/jeykigung/P5) has them: other projects read them."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmfeat.export.content import Content, Interactions
from mmfeat.export.files import write_json
from mmfeat.item_fields import values_of

SEQUENCES, MAPS, META = "sequential_data.txt", "datamaps.json", "meta.json.gz"


def write_dataset(folder: Path, content: Content) -> None:
    """All three; items and users count from 1."""
    inter = content.interactions
    assert inter is not None, "interactions are required"
    write_sequences(folder / SEQUENCES, inter)
    write_json(folder / MAPS, {**_maps("user", inter.user_ids), **_maps("item", content.ids)})
    write_meta(folder / META, content)


def write_sequences(path: Path, inter: Interactions) -> None:
    """A line ``user item item ...`` for every user, in time order; users and items count from 1."""
    with path.open("w", encoding="ascii", newline="\n") as file:
        for user, positions in inter.sequences():
            file.write(f"{user + 1} {' '.join(str(k + 1) for k in positions)}\n")


def write_meta(path: Path, content: Content) -> None:
    """A Python literal per line: ``asin``, and what the item has of the fields that P5's has.

    ``categories`` are a list of lists, as in Amazon's metadata; it is there for every item, or for none.
    """
    items = len(content.ids)
    brands, prices, categories = (
        values_of(content.fields, name, items) for name in ("brand", "price", "categories")
    )
    columns = (content.ids, content.titles, content.descriptions, brands, prices, categories)
    # No time stamp, so that the same content gives the same bytes.
    with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as file:
        for item_id, title, description, brand, price, ways in zip(*columns, strict=True):
            meta = {"asin": item_id, "title": title, "description": description}
            meta |= {"brand": brand, "price": price}
            if "categories" in content.fields:
                meta["categories"] = [_listed(ways)]
            file.write(f"{ {k: v for k, v in meta.items() if v is not None}!r}\n".encode())


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _maps(what: str, ids: Sequence[str]) -> dict[str, Any]:
    numbers = {own: k for k, own in enumerate(ids, start=1)}
    return {f"{what}2id": numbers, f"id2{what}": {str(k): own for own, k in numbers.items()}}

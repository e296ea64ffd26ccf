"""Amazon's review datasets of 2014, 2018 and 2023."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.datasets.amazon_items import FIELDS, Products, records, year_of
from mmfeat.datasets.base import Dataset, Note, build_items, existing_root, note_of
from mmfeat.datasets.delimited import first_row
from mmfeat.datasets.interactions import (
    interactions_table,
    items_in_item_column,
    read_interactions,
)
from mmfeat.schemas.errors import DatasetError

_WHAT = "a meta_*.json(.gz) or meta_*.jsonl(.gz) file, or a folder with one"
_META = re.compile(r"^meta_(.+)\.jsonl?(\.gz)?$")
_YEARS = (2014, 2018, 2023)
# What the columns of a ratings file are called, in lower case; a file with none of them has no header.
_USER = ("user_id", "userid", "reviewerid", "user")
_ITEM = ("parent_asin", "asin", "productid", "item_id", "itemid", "item")
_TIME = ("timestamp", "unixreviewtime")
_RATING = ("rating", "overall")
_BATCH = 100_000
# User, item, milliseconds, rating.
_Review = tuple[str, str, int | None, float | None]


def load(root: Path | None, *, year: int | None = None, interactions: str | None = None) -> Dataset:
    """Amazon reviews of 2014, 2018 or 2023: texts, prices, cover URLs and interactions.

    Reads ``meta_{category}.json``, ``.jsonl`` or either with ``.gz``, and beside it one of
    ``ratings_{category}.csv``, ``{category}.csv``, ``reviews_{category}.json``,
    ``{category}_5.json``, ``{category}.jsonl`` and the like. Items are the products in the file's
    order, then those that only interactions name. HTML entities in texts are resolved, tags are
    kept; a list of texts becomes one per line. A cover is the URL of the largest size, of the main
    image where one is marked; pictures that only say "no image" are left out. Fields are ``brand``
    (2023: of the details, else the store), ``categories``, ``price`` in dollars, and where the release has
    them ``features`` and ``author``.

    Args:
        root: the folder, or the ``meta_*`` file where the folder holds several.
        year: 2014, 2018 or 2023; told from the first product where not given.
        interactions: the file of interactions, seen from the products' folder, where there are
            several.

    Raises:
        DatasetError: no products or several files of them, several files of interactions, or a file
            that is not what its name says.
    """
    if year is not None and year not in _YEARS:
        raise DatasetError(f"There is no release of the year {year}.", hint="Give 2014, 2018 or 2023.")
    meta = _meta_file(existing_root(root, "amazon", _WHAT))
    products = Products(year or year_of(_first_record(meta)))
    products.read(meta)
    if not products.ids:
        raise DatasetError(
            f"{meta} has no product of the {products.year} release.",
            hint="Leave the option year out to have it told from the file.",
        )
    items = products.table()
    source = _interactions_file(meta, interactions)
    table, notes = _read_log(source, products) if source else (None, [])
    only_rated = _not_among(products.ids, table)
    return Dataset(
        name="amazon",
        root=str(meta),
        items=pa.concat_tables([items, build_items(only_rated, {}, FIELDS[products.year])]),
        interactions=table,
        notes=[
            Note("info", "release", f"read as the {products.year} release"),
            *products.notes(),
            *notes,
            *note_of("warning", "only_interactions", "items with interactions and no product", only_rated),
        ],
    )


def _meta_file(path: Path) -> Path:
    if path.is_file():
        return path
    found = _plain_first(p for p in path.iterdir() if _META.match(p.name))
    if not found:
        raise DatasetError(f"There are no products in {path}.", hint=f"--root must be {_WHAT}.")
    if len(found) > 1:
        raise DatasetError(
            f"{path} holds the products of several categories: {', '.join(p.name for p in found)}.",
            hint=f"Name one: --root {found[0]}.",
        )
    return found[0]


def _plain_first(paths: Iterable[Path]) -> list[Path]:
    """One path per file, where a file may lie unpacked beside its .gz."""
    chosen: dict[str, Path] = {}
    for path in sorted(paths):
        chosen.setdefault(path.name.removesuffix(".gz"), path)
    return list(chosen.values())


def _first_record(meta: Path) -> dict[str, object]:
    _, record = next(records(meta), (0, None))
    if record is None or not {"asin", "parent_asin"} & record.keys():
        raise DatasetError(
            f"{meta} does not begin with a product.",
            hint="Expected an object with asin or parent_asin on each line, as JSON or as Python writes it.",
        )
    return record


def _interactions_file(meta: Path, name: str | None) -> Path | None:
    if name is not None:
        if not (meta.parent / name).is_file():
            raise DatasetError(
                f"There is no file {name!r} in {meta.parent}.",
                hint="The option interactions is a path seen from the folder of the products.",
            )
        return meta.parent / name
    match = _META.match(meta.name)
    if match is None:
        return None
    pattern = re.compile(rf"^(ratings_|reviews_)?{re.escape(match[1])}(_\d+)?\.(csv|jsonl?)(\.gz)?$")
    found = _plain_first(path for path in meta.parent.iterdir() if pattern.match(path.name))
    if len(found) > 1:
        raise DatasetError(
            f"{meta.parent} holds several files of interactions: {', '.join(path.name for path in found)}.",
            hint=f"They may differ in what they filter. Name one: --option interactions={found[0].name}.",
        )
    return found[0] if found else None


def _read_log(path: Path, products: Products) -> tuple[pa.Table, list[Note]]:
    if ".csv" not in path.suffixes:
        return _read_reviews(path, products.year)
    header = {name.lower(): name for name in first_row(path)}
    user, item, timestamp, rating = (
        next((header[n] for n in names if n in header), None) for names in (_USER, _ITEM, _TIME, _RATING)
    )
    if user and item:
        return read_interactions(path, user=user, item=item, timestamp=timestamp, rating=rating)
    # The ratings of 2014 name the user first, those of 2018 the item.
    ids = ["item", "user"] if products.year == 2018 else ["user", "item"]
    names = [*ids, "rating", "timestamp"]
    table, notes = read_interactions(
        path, user="user", item="item", timestamp="timestamp", rating="rating", names=names
    )
    table, more = items_in_item_column(table, pa.array(products.ids), path.name)
    return table, [*notes, *more]


def _read_reviews(path: Path, year: int) -> tuple[pa.Table, list[Note]]:
    """Reviews as JSON lines; their texts are not kept."""
    names = (
        ("user_id", "parent_asin", "timestamp", "rating")
        if year == 2023
        else ("reviewerID", "asin", "unixReviewTime", "overall")
    )
    scale = 1 if year == 2023 else 1000
    batches: list[list[pa.Array]] = []
    rows: list[_Review] = []
    malformed = []
    for number, record in records(path):
        user, item, time, rating = (record.get(name) if record else None for name in names)
        if isinstance(user, str) and isinstance(item, str):
            rows.append(
                (
                    user,
                    item,
                    time * scale if isinstance(time, int) else None,
                    rating if isinstance(rating, int | float) else None,
                )
            )
        else:
            malformed.append(f"line {number}")
        if len(rows) == _BATCH:
            batches.append(_columns(rows))
            rows.clear()
    batches.append(_columns(rows))
    users, items, times, ratings = (pa.chunked_array(list(column)) for column in zip(*batches, strict=True))
    if not len(users):
        raise DatasetError(
            f"{path} has no review of the {year} release.",
            hint=f"Expected an object with {', '.join(names[:3])} on each line. "
            "Name another file: --option interactions=FILE.",
        )
    table, notes = interactions_table(path.name, users, items, times, ratings)
    message = f"lines of {path.name} that are no review: left out"
    return table, [*note_of("warning", "malformed_review", message, malformed), *notes]


def _columns(rows: list[_Review]) -> list[pa.Array]:
    kinds = (pa.string(), pa.string(), pa.int64(), pa.float64())
    return [pa.array([row[n] for row in rows], kind) for n, kind in enumerate(kinds)]


def _not_among(ids: dict[str, int], table: pa.Table | None) -> list[str]:
    if table is None:
        return []
    return [item_id for item_id in pc.unique(table["item_id"]).to_pylist() if item_id not in ids]

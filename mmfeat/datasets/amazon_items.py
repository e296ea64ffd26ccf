"""Reads the products of Amazon's review datasets: Python literals (2014) or JSON lines (2018, 2023)."""

from __future__ import annotations

import ast
import html
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from mmfeat.datasets.base import Note, note_of
from mmfeat.datasets.cells import CellTrouble, number_in
from mmfeat.datasets.delimited import open_bytes
from mmfeat.datasets.textfile import text_or_none
from mmfeat.schemas.catalog import NUMBER, Column, catalog_schema
from mmfeat.schemas.errors import DatasetError
from mmfeat.schemas.suffixes import SUFFIXES

_BATCH = 50_000
# The pictures that the shop shows for "no image" and "update page".
_PLACEHOLDER = re.compile(r"/(no-img|update-page)[^/]*$")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SIZES = ("hi_res", "large", "thumb")
# 2018 writes a price with its currency; a range, or the page's script, is no price.
_DOLLARS = re.compile(r"\$([0-9]{1,3}(?:,?[0-9]{3})*(?:\.[0-9]*)?)")
# What 2023 has where a price is not known.
_NO_PRICE = frozenset({"None", "—", ""})
_BRAND, _CATEGORIES, _PRICE = (
    Column("brand", "text"),
    Column("categories", "text", several=True),
    Column("price", NUMBER),
)
_FEATURES, _AUTHOR = Column("features", "text", several=True), Column("author", "text")
#: The fields of each release, beside the usual columns.
FIELDS = {
    2014: (_BRAND, _CATEGORIES, _PRICE),
    2018: (_BRAND, _CATEGORIES, _PRICE, _FEATURES),
    2023: (_BRAND, _CATEGORIES, _PRICE, _FEATURES, _AUTHOR),
}


def records(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Line numbers from 1 and the object on each; None for a line that holds none; blank ones aside.

    Raises:
        DatasetError: the file cannot be read, or is a gzip file cut short.
    """
    try:
        with open_bytes(path) as lines:
            for number, line in enumerate(lines, start=1):
                if not line.isspace():
                    yield number, _object(line)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(
            f"Cannot read {path}: {str(error).rstrip('.')}.",
            hint="A file cut short or damaged must be downloaded again.",
        ) from None


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        text = line.decode("utf-8-sig").strip()
        # Keys of these files hold no apostrophe, so that Python writes them as {'asin': and JSON as {"asin":
        value = json.loads(text) if text.startswith('{"') else ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, dict) else None


def year_of(record: dict[str, Any]) -> int:
    """2014, 2018 or 2023, by the fields of one product."""
    if "parent_asin" in record:
        return 2023
    return 2014 if {"imUrl", "categories", "salesRank", "related"} & record.keys() else 2018


_Value = str | float | tuple[str, ...] | None


@dataclass
class Products:
    """The products of one file.

    Attributes:
        year: 2014, 2018 or 2023: which fields are read.
        ids: every product's id, in the file's order, to a hash of what was read of it.
    """

    year: int
    ids: dict[str, int] = field(default_factory=dict)
    _rows: list[tuple[object, ...]] = field(default_factory=list)
    _batches: list[pa.Table] = field(default_factory=list)
    _repeated: list[str] = field(default_factory=list)
    _conflicting: list[str] = field(default_factory=list)
    _malformed: list[str] = field(default_factory=list)
    _script_titles: list[str] = field(default_factory=list)
    _placeholders: list[str] = field(default_factory=list)
    _odd_urls: list[str] = field(default_factory=list)
    _video_pages: list[str] = field(default_factory=list)
    _odd_prices: list[str] = field(default_factory=list)

    def read(self, path: Path) -> None:
        """Takes every product of a file that has not been met yet."""
        key = "parent_asin" if self.year == 2023 else "asin"
        for number, record in records(path):
            item_id = record.get(key) if record else None
            if record and isinstance(item_id, str) and text_or_none(item_id):
                self._add(item_id, record)
            else:
                self._malformed.append(f"line {number}")

    def table(self) -> pa.Table:
        """The catalog of the products with the release's ``FIELDS``, in the file's order."""
        self._flush()
        return pa.concat_tables(self._batches) if self._batches else self._schema.empty_table()

    def notes(self) -> list[Note]:
        """What was left out or decided while reading."""
        return [
            *note_of("warning", "malformed_line", "lines that are no product: left out", self._malformed),
            *note_of("info", "repeated_item", "products that come again: taken once", self._repeated),
            *note_of(
                "warning", "item_clash", "products that come again and differ: first taken", self._conflicting
            ),
            *note_of(
                "warning", "script_title", "titles that are page scripts: read as none", self._script_titles
            ),
            *note_of(
                "info", "placeholder_cover", 'covers that only say "no image": left out', self._placeholders
            ),
            *note_of("warning", "odd_url", "media places that are no URLs: left out", self._odd_urls),
            *note_of("info", "odd_price", "prices that are no single number: read as none", self._odd_prices),
            *note_of("info", "video_page", "videos that are pages, not files: left out", self._video_pages),
        ]

    def _add(self, item_id: str, record: dict[str, Any]) -> None:
        values = (
            self._title(item_id, record),
            _text(record.get("description")),
            self._cover(item_id, record),
            self._video(item_id, record),
            *self._fields(item_id, record),
        )
        # The hash of a repeated product stands for its texts, which are in a batch already.
        digest = hash(values)
        if item_id not in self.ids:
            self.ids[item_id] = digest
            usual, fields = values[:4], values[4:]
            self._rows.append((item_id, *usual, None, *fields))
            if len(self._rows) == _BATCH:
                self._flush()
        else:
            (self._repeated if self.ids[item_id] == digest else self._conflicting).append(item_id)

    def _flush(self) -> None:
        if self._rows:
            columns = [list(column) for column in zip(*self._rows, strict=True)]
            self._batches.append(pa.table(columns, schema=self._schema))
            self._rows.clear()

    @property
    def _schema(self) -> pa.Schema:
        return catalog_schema(FIELDS[self.year])

    def _fields(self, item_id: str, record: dict[str, Any]) -> tuple[_Value, ...]:
        """The values of the release's ``FIELDS``."""
        brand, price = _text(record.get("brand")), self._price(item_id, record)
        if self.year == 2014:
            # Of several ways through the shop the first, as MMRec reads them (its 3feat-encoder.ipynb).
            ways = _listed(record.get("categories"))
            return brand, _texts(ways[0] if ways else None), price
        if self.year == 2018:
            return brand, _texts(record.get("category")), price, _texts(record.get("feature"))
        return (
            _text(_details(record).get("Brand")) or _text(record.get("store")),
            _texts(record.get("categories")),
            price,
            _texts(record.get("features")),
            _text(_author(record)),
        )

    def _price(self, item_id: str, record: dict[str, Any]) -> float | None:
        said = record.get("price")
        if isinstance(said, str):
            said = said.strip()
            dollars = _DOLLARS.fullmatch(said)
            said = None if said in _NO_PRICE else dollars[1].replace(",", "") if dollars else said
        try:
            return number_in(said)
        except CellTrouble:
            self._odd_prices.append(item_id)
            return None

    def _title(self, item_id: str, record: dict[str, Any]) -> str | None:
        title = _text(record.get("title"))
        # The dataset's own page says to drop these: a page's script was taken for its title.
        if title is not None and "getTime" in title:
            self._script_titles.append(item_id)
            return None
        return title

    def _cover(self, item_id: str, record: dict[str, Any]) -> str | None:
        if self.year == 2014:
            found = [record.get("imUrl")]
        elif self.year == 2018:
            found = [*_listed(record.get("imageURLHighRes")), *_listed(record.get("imageURL"))]
        else:
            images = _objects(record.get("images"))
            images.sort(key=lambda image: image.get("variant") != "MAIN")
            found = [image.get(size) for image in images for size in _SIZES]
        urls = self._urls(item_id, found)
        real = [url for url in urls if not _PLACEHOLDER.search(urlsplit(url).path)]
        if urls and not real:
            self._placeholders.append(item_id)
        return real[0] if real else None

    def _video(self, item_id: str, record: dict[str, Any]) -> str | None:
        if self.year != 2023:
            return None
        urls = self._urls(item_id, [video.get("url") for video in _objects(record.get("videos"))])
        files = [u for u in urls if PurePosixPath(urlsplit(u).path).suffix.lower() in SUFFIXES["video"]]
        if urls and not files:
            self._video_pages.append(item_id)
        return files[0] if files else None

    def _urls(self, item_id: str, values: list[Any]) -> list[str]:
        texts = [value.strip() for value in values if isinstance(value, str) and value.strip()]
        urls = [text for text in texts if _is_url(text)]
        if len(urls) < len(texts):
            self._odd_urls.append(item_id)
        return urls


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc) and not _SURROGATE.search(text)


def _text(value: Any) -> str | None:
    """A text, or the texts of a list one per line, with HTML's entities resolved; None if blank."""
    parts = [html.unescape(part) for part in _listed(value) if isinstance(part, str)]
    text = "\n".join(part for part in parts if text_or_none(part))
    if _SURROGATE.search(text):
        # Python's escapes write an emoji as two halves, which no UTF-8 text can hold.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text_or_none(text)


def _texts(value: Any) -> tuple[str, ...] | None:
    """The texts of a list, blank ones left out; None if none is left."""
    return tuple(text for one in _listed(value) if (text := _text(one))) or None


def _details(record: dict[str, Any]) -> dict[str, Any]:
    """The details of a product of 2023, which Hugging Face tables hold as JSON."""
    details = record.get("details")
    if isinstance(details, str):
        try:
            details = json.loads(details)
        except (ValueError, RecursionError):
            return {}
    return details if isinstance(details, dict) else {}


def _author(record: dict[str, Any]) -> Any:
    author = record.get("author")
    return author.get("name") if isinstance(author, dict) else author


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _objects(value: Any) -> list[dict[str, Any]]:
    """A list of objects, also from an object of lists, which is how Hugging Face tables write it."""
    if isinstance(value, dict):
        lists = [_listed(column) for column in value.values()]
        return [dict(zip(value, row, strict=True)) for row in zip(*lists, strict=False)]
    return [entry for entry in _listed(value) if isinstance(entry, dict)]

"""Reads MicroLens's interactions: ``*_pairs.csv`` with times, or ``*_pairs.tsv`` with an order."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from mmfeat.datasets.base import Note
from mmfeat.schemas.catalog import INTERACTIONS_SCHEMA
from mmfeat.schemas.errors import DatasetError

_COLUMNS = {"user": pa.string(), "item": pa.string(), "timestamp": pa.int64()}


def read_pairs(path: Path) -> tuple[pa.Table, list[Note]]:
    """The interactions in the file's order, and notes.

    Returns:
        INTERACTIONS_SCHEMA table. Ids are kept as written; times of a ``.tsv`` are null.

    Raises:
        DatasetError: a line with another number of columns, a time that is no whole number, or a
            file that is not UTF-8.
    """
    try:
        table = _read_tsv(path) if path.suffix.lower() == ".tsv" else _read_csv(path)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        raise DatasetError(
            f"Cannot read the interactions in {path}: {error}.",
            hint="Expected: user,item,timestamp with that header (.csv, times in milliseconds), "
            "or user<TAB>item item ... (.tsv). A file cut short must be downloaded again.",
        ) from None
    whole = pc.and_(pc.not_equal(table["user_id"], ""), pc.not_equal(table["item_id"], ""))
    kept = table.filter(whole)
    return kept, _notes(path, kept, len(table) - len(kept))


def _read_csv(path: Path) -> pa.Table:
    convert = csv.ConvertOptions(column_types=_COLUMNS, include_columns=list(_COLUMNS))
    return (
        csv.read_csv(path, convert_options=convert)
        .rename_columns(INTERACTIONS_SCHEMA.names)
        .cast(INTERACTIONS_SCHEMA)
    )


def _read_tsv(path: Path) -> pa.Table:
    lines = csv.read_csv(
        path,
        read_options=csv.ReadOptions(column_names=["user", "items"]),
        parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=csv.ConvertOptions(column_types={"user": pa.string(), "items": pa.string()}),
    ).combine_chunks()
    items = pc.ascii_split_whitespace(pc.ascii_trim_whitespace(lines["items"]))
    users = lines["user"].take(pc.list_parent_indices(items))
    flat = pc.list_flatten(items)
    return pa.table([users, flat, pa.nulls(len(flat), pa.int64())], schema=INTERACTIONS_SCHEMA)


def _notes(path: Path, table: pa.Table, incomplete: int) -> list[Note]:
    notes = []
    if incomplete:
        message = f"lines of {path.name} without a user or without an item: left out"
        notes.append(Note("warning", "incomplete_interaction", message, incomplete))
    timeless = table["timestamp"].null_count
    if timeless:
        message = f"interactions in {path.name} with an order but no time"
        notes.append(Note("info", "no_timestamp", message, timeless))
    return notes

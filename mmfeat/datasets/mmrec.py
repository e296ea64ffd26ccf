"""An MMRec dataset folder, to extract the features of an existing benchmark anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.datasets import registry
from mmfeat.datasets.base import MAX_EXAMPLES, Dataset, Note, build_items, existing_folder, note_of
from mmfeat.datasets.delimited import Delimited, first_row, lines_of, repeated
from mmfeat.datasets.interactions import interactions_table, read_interactions
from mmfeat.datasets.layout import unread
from mmfeat.schemas.catalog import ITEM_ID
from mmfeat.schemas.errors import DatasetError

_WHAT = "an MMRec dataset folder with i_id_mapping.csv and one *.inter file"
_ITEM_MAP, _USER_MAP = "i_id_mapping.csv", "u_id_mapping.csv"
_FEATURES = ("image_feat.npy", "text_feat.npy")


def load(root: Path | None, *, items: Path | None = None, items_dataset: str = "amazon") -> Dataset:
    """An MMRec folder by its id maps: its items and interactions, media from another dataset.

    ``i_id_mapping.csv`` (``asin<TAB>itemID``) gives the items: an item's id is the raw one, and the
    catalog is in the order of ``itemID``, so that row k of the benchmark's features is item k here.
    ``{ds}.inter`` gives the interactions, with raw ids again; its split (``x_label``) is not kept.
    Titles, media and fields come from ``items`` by raw id.

    Args:
        root: the folder, such as MMRec's ``data/baby``.
        items: the root of the dataset that has the texts and media.
        items_dataset: the adapter that reads it, with no options of its own.

    Raises:
        DatasetError: a file is missing; ids that are not 0..n-1, repeat, or are in one file and not
            in the other; features with another number of rows; or no item found in ``items``.
    """
    folder = existing_folder(root, "mmrec", _WHAT)
    raw_items = _item_ids(folder / _ITEM_MAP)
    _check_features(folder, len(raw_items))
    inter = _inter_file(folder)
    interactions, notes = _read_inter(inter, folder, raw_items)
    table, found = _with_media(raw_items, items, items_dataset)
    idle = sorted(set(raw_items) - set(pc.unique(interactions["item_id"]).to_pylist()))
    used = {_ITEM_MAP, _USER_MAP, inter.name}
    return Dataset(
        name="mmrec",
        root=str(folder),
        items=table,
        interactions=interactions,
        notes=[
            *notes,
            *note_of("info", "idle_item", f"items of {_ITEM_MAP} without interactions", idle),
            *found,
            *note_of("info", "not_read", "files and folders that are not read", unread(folder, used)),
        ],
    )


def _item_ids(path: Path) -> list[str]:
    """Raw ids in the order of itemID."""
    raw, numbers = _read_map(path, "itemID")
    places = {number: place for place, number in enumerate(numbers)}
    expected = [str(n) for n in range(len(numbers))]
    if lacking := [number for number in expected if number not in places]:
        odd = sorted(places.keys() - set(expected))
        raise DatasetError(
            f"The itemIDs in {path} are not 0 to {len(numbers) - 1}: "
            f"without {_some(lacking)}; instead {_some(odd)}.",
            hint="MMRec takes itemID for the row of the features. Use the map that was written with the "
            ".inter file.",
        )
    return [raw[places[number]] for number in expected]


def _read_map(path: Path, number_column: str) -> tuple[list[str], list[str]]:
    """The columns of raw ids and of numbers, as written."""
    if not path.is_file():
        raise DatasetError(f"There is no {path.name} in {path.parent}.", hint=f"--root must be {_WHAT}.")
    hint = f"Expected two columns with tabs between them, the raw id and {number_column}, with a header."
    rows = Delimited(lines_of(path), path, delimiter="\t", hint=hint)
    if number_column not in rows.names:
        raise DatasetError(f"{path} has no column {number_column}, or no ids.", hint=hint)
    if len(rows.names) != 2:
        raise rows.malformed(rows.header_line, f"it has {len(rows.names)} columns instead of 2")
    number = rows.names.index(number_column)
    cells = [row for _, row in rows]
    if not cells:
        raise DatasetError(f"{path} has no column {number_column}, or no ids.", hint=hint)
    raw, numbers = [row[1 - number] for row in cells], [row[number] for row in cells]
    if twice := repeated(pa.array(raw)) + repeated(pa.array(numbers)):
        raise DatasetError(f"{path} names some ids more than once: {_some(twice)}.", hint=hint)
    return raw, numbers


def _check_features(folder: Path, n_items: int) -> None:
    for name in _FEATURES:
        if (folder / name).is_file():
            try:
                rows = len(np.load(folder / name, mmap_mode="r", allow_pickle=False))
            except (ValueError, OSError, TypeError):
                # Not read otherwise, and no fault of the id map.
                continue
            if rows != n_items:
                raise DatasetError(
                    f"{folder / name} has {rows} rows and {_ITEM_MAP} {n_items} items: "
                    "they do not belong together.",
                    hint=f"Use the {_ITEM_MAP} of these features, or move {name} elsewhere.",
                )


def _inter_file(folder: Path) -> Path:
    found = sorted(path for path in folder.glob("*.inter") if path.is_file())
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DatasetError(
            f"{folder} must hold one .inter file; it holds: {names}.", hint=f"--root must be {_WHAT}."
        )
    return found[0]


def _read_inter(path: Path, folder: Path, raw_items: Sequence[str]) -> tuple[pa.Table, list[Note]]:
    header = first_row(path, "\t")
    timestamp, rating = (name if name in header else None for name in ("timestamp", "rating"))
    table, notes = read_interactions(
        path, user="userID", item="itemID", timestamp=timestamp, rating=rating, delimiter="\t"
    )
    numbers = [str(n) for n in range(len(raw_items))]
    items = _raw(path, table["item_id"], numbers, raw_items, _ITEM_MAP)
    users = table["user_id"]
    if (folder / _USER_MAP).is_file():
        raw_users, user_numbers = _read_map(folder / _USER_MAP, "userID")
        users = _raw(path, users, user_numbers, raw_users, _USER_MAP)
    else:
        notes.append(Note("info", "no_user_map", f"no {_USER_MAP}: users keep their numbers"))
    message = "the split in x_label is not kept: an export splits anew"
    mapped, _ = interactions_table(path.name, users, items, table["timestamp"], table["rating"])
    return mapped, [*notes, Note("info", "no_split", message)]


def _raw(
    path: Path, column: pa.ChunkedArray, numbers: Sequence[str], raw: Sequence[str], map_name: str
) -> pa.ChunkedArray:
    """The raw id of each number."""
    places = pc.index_in(column, value_set=pa.array(numbers, pa.string()))
    if places.null_count:
        unknown = pc.unique(column.filter(pc.is_null(places))).to_pylist()
        raise DatasetError(
            f"{path} holds {len(unknown)} numbers that {map_name} does not: {_some(unknown)}.",
            hint="Use the map that was written with this .inter file.",
        )
    return pa.chunked_array([pa.array(raw, pa.string())]).take(places)


def _with_media(raw_items: list[str], root: Path | None, adapter: str) -> tuple[pa.Table, list[Note]]:
    """The catalog in the order of ``raw_items``, with what the other dataset has of them."""
    if root is None:
        message = "no texts or media: name a dataset that has them with --option items=PATH"
        return build_items(raw_items, {}), [Note("warning", "no_media", message)]
    other = registry.load(adapter, root)
    places = pc.index_in(pa.array(raw_items, pa.string()), value_set=other.items["item_id"].combine_chunks())
    lacking = [item_id for item_id, place in zip(raw_items, places.to_pylist(), strict=True) if place is None]
    if len(lacking) == len(raw_items):
        theirs = other.items["item_id"].slice(0, MAX_EXAMPLES).to_pylist()
        raise DatasetError(
            f"None of the {len(raw_items)} items is in {root}: "
            f"ids here are {_some(raw_items)}, there {_some(theirs)}.",
            hint=f"Name the dataset that the benchmark was made of; it was read as {adapter!r}, "
            "another adapter is chosen with --option items_dataset=NAME.",
        )
    names = [name for name in other.items.column_names if name != ITEM_ID]
    columns = {name: other.items[name].take(places) for name in names}
    table = pa.table({ITEM_ID: raw_items, **columns}, schema=other.items.schema)
    counts = [f"{name}: {n}" for name in names if (n := len(table) - table[name].null_count)]
    matched = len(raw_items) - len(lacking)
    message = f"of {len(raw_items)} items are in {root}; they have {', '.join(counts) or 'nothing to encode'}"
    return table, [
        Note("info", "matched_items", message, matched),
        *note_of("warning", "unmatched_items", f"items that are not in {root}", lacking),
        *(note for note in other.notes if note.level != "info"),
    ]


def _some(things: Sequence[str]) -> str:
    return ", ".join(things[:MAX_EXAMPLES]) + (", ..." if len(things) > MAX_EXAMPLES else "")

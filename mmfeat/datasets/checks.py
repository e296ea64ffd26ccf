"""Counts what a dataset has and lacks, before any model loads. No picture or clip is decoded."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.datasets.base import Cell, Dataset, Note, note_of
from mmfeat.datasets.media_checks import check_media
from mmfeat.schemas.catalog import NUMBER, USUAL_COLUMNS, Column, columns_of
from mmfeat.schemas.notebook import ShortRepr

# Texts of which each item should have its own.
_OWN_TEXTS = {column.name for column in USUAL_COLUMNS if column.modality == "text"}


@dataclass(frozen=True)
class ColumnCount:
    """One column of a dataset. ``found + missing + unreadable`` is the number of items.

    Attributes:
        column: its name.
        modality: ``text``, ``image``, ``video``, ``audio`` or ``number``.
        found: items that have it; a URL counts as found, for it is not asked for.
        missing: items that have none, blank texts included.
        unreadable: items with a file that is not there, is empty, or cannot be opened.
        duplicates: items whose text or content another item before them has; of a list all of it, in
            the same order. 0 for numbers, which say nothing by being the same.
        values: how many texts or files the items have together; more than items where it is a list.
    """

    column: str
    modality: str
    found: int
    missing: int
    unreadable: int
    duplicates: int
    values: int


@dataclass(frozen=True, repr=False)
class CheckReport(ShortRepr):
    """What :func:`check` found.

    Attributes:
        dataset, root: the adapter's name and what it read.
        items: number of items.
        columns: one entry per column that any item has.
        interactions, users: numbers of them; None if the dataset has no interactions.
        notes: what the adapter met while reading, then what the check found.
    """

    dataset: str
    root: str
    items: int
    columns: list[ColumnCount]
    interactions: int | None
    users: int | None
    notes: list[Note]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


def check(dataset: Dataset) -> CheckReport:
    """Looks at every item's texts and files: whether they are there, empty, the same as others'.

    Files are the same where their bytes are: equal size and equal ends first, then SHA-256; in zip
    archives equal size and CRC-32.
    """
    items = dataset.items
    ids = items["item_id"].to_pylist()
    counts, notes = [], _id_notes(ids)
    for column in columns_of(items.schema).values():
        if column.modality == NUMBER:
            counts += _numbers(column, items[column.name])
            continue
        cells = [_listed_cell(cell) for cell in items[column.name].to_pylist()]
        if any(cells):
            count, found = (_media if column.is_media else _texts)(column, ids, cells)
            counts.append(count)
            notes += found
    interactions = dataset.interactions
    return CheckReport(
        dataset=dataset.name,
        root=dataset.root,
        items=len(items),
        columns=counts,
        interactions=None if interactions is None else len(interactions),
        users=None if interactions is None else pc.count_distinct(interactions["user_id"]).as_py(),
        notes=[*dataset.notes, *notes, *_interaction_notes(dataset)],
    )


def _listed_cell(cell: Cell) -> list[str]:
    """What an item has in a column, as a list of any length."""
    if cell is None:
        return []
    return [cell] if isinstance(cell, str) else cell


def _numbers(column: Column, values: pa.ChunkedArray) -> list[ColumnCount]:
    """The count of a column of numbers; none where no item has one."""
    found = len(values) - values.null_count
    count = ColumnCount(column.name, column.modality, found, values.null_count, 0, 0, found)
    return [count] if found else []


def _texts(column: Column, ids: list[str], cells: list[list[str]]) -> tuple[ColumnCount, list[Note]]:
    filled = [[text for text in cell if text.strip()] for cell in cells]
    present = [(tuple(texts), item_id) for item_id, texts in zip(ids, filled, strict=True) if texts]
    same = _groups(present)
    count = ColumnCount(
        column.name,
        column.modality,
        found=len(present),
        missing=len(ids) - len(present),
        unreadable=0,
        duplicates=sum(len(group) - 1 for group in same),
        values=sum(map(len, filled)),
    )
    name = column.name
    # Items share a brand or a category as a matter of course.
    telling = same if name in _OWN_TEXTS else []
    return count, note_of("info", f"same_{name}", f"{name}s that several items have", _listed(telling))


def _media(column: Column, ids: list[str], cells: list[list[str]]) -> tuple[ColumnCount, list[Note]]:
    findings = check_media([place for cell in cells for place in cell])
    # Of each file its item's row, and what it is called in an example.
    rows = [row for row, cell in enumerate(cells) for _ in cell]
    names = [
        f"{item_id} #{n}" if column.several else item_id
        for item_id, cell in zip(ids, cells, strict=True)
        for n, _ in enumerate(cell, start=1)
    ]
    unreadable = {rows[number] for group in findings.unreadable.values() for number in group}
    contents: list[list[Hashable]] = [[] for _ in ids]
    for number, content in sorted(findings.contents.items()):
        contents[rows[number]].append(content)
    # An item that has a file which was not read is the same as no other.
    read = zip(contents, cells, ids, strict=True)
    same = _groups((tuple(own), item_id) for own, cell, item_id in read if own and len(own) == len(cell))
    having = sum(map(bool, cells))
    count = ColumnCount(
        column.name,
        column.modality,
        found=having - len(unreadable),
        missing=len(ids) - having,
        unreadable=len(unreadable),
        duplicates=sum(len(group) - 1 for group in same),
        values=len(rows),
    )
    name = column.name
    notes = [
        note
        for (code, message), group in findings.unreadable.items()
        for note in note_of("warning", code, f"{name} files that {message}", [names[n] for n in group])
    ]
    remote = [names[number] for number in findings.remote]
    return count, [
        *notes,
        *note_of("info", f"same_{name}", f"{name} contents that several items have", _listed(same)),
        *note_of("info", "not_asked", f"{name} URLs: not asked for", remote),
    ]


def _id_notes(ids: list[str]) -> list[Note]:
    clashing = _listed(_groups((_folded(item_id), item_id) for item_id in ids))
    message = (
        "ids that differ only in case, spaces or Unicode form: files named by them may overwrite each other"
    )
    return note_of("warning", "id_clash", message, clashing)


def _folded(item_id: str) -> str:
    return "".join(unicodedata.normalize("NFC", item_id.casefold()).split())


def _interaction_notes(dataset: Dataset) -> list[Note]:
    items, interactions = dataset.items, dataset.interactions
    if interactions is None:
        return []
    counts = _value_counts(interactions["item_id"])
    ids = items["item_id"].to_pylist()
    known = set(ids)
    idle = [item_id for item_id in ids if item_id not in counts]
    told = any(note.code == "unknown_items" for note in dataset.notes)
    unknown = [] if told else [item_id for item_id in counts if item_id not in known]
    lost = sum(counts[item_id] for item_id in unknown)
    return [
        *note_of("info", "no_interactions", "items without interactions", idle),
        *note_of(
            "warning", "unknown_items", f"items of {lost:,} interactions that are not in the catalog", unknown
        ),
    ]


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    counts = pc.value_counts(column)
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))


def _groups(pairs: Iterable[tuple[Hashable, str]]) -> list[list[str]]:
    """Ids by key, where a key has several, in the order of the first."""
    groups: defaultdict[Hashable, list[str]] = defaultdict(list)
    for key, item_id in pairs:
        groups[key].append(item_id)
    return [group for group in groups.values() if len(group) > 1]


def _listed(groups: list[list[str]]) -> list[str]:
    return [" = ".join(group[:3]) + (" = ..." if len(group) > 3 else "") for group in groups]

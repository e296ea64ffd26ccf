"""Counts what a dataset has and lacks, before any model loads. No picture or clip is decoded."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.datasets.base import Dataset, Note, note_of
from mmfeat.datasets.media_checks import check_media
from mmfeat.schemas.catalog import MEDIA_SOURCES, SOURCES


@dataclass(frozen=True)
class SourceCount:
    """One source of a dataset. ``found + missing + unreadable`` is the number of items.

    Attributes:
        source: ``title``, ``description``, ``cover``, ``video`` or ``audio``.
        found: items that have it; a URL counts as found, for it is not asked for.
        missing: items that have none, blank texts included.
        unreadable: items whose file is not there, is empty, or cannot be opened.
        duplicates: items whose text or content another item before them has.
    """

    source: str
    found: int
    missing: int
    unreadable: int
    duplicates: int


@dataclass(frozen=True)
class CheckReport:
    """What :func:`check` found.

    Attributes:
        dataset, root: the adapter's name and what it read.
        items: number of items.
        sources: one entry per source that any item has.
        interactions, users: numbers of them; None where the dataset has no interactions.
        notes: what the adapter met while reading, then what the check found.
    """

    dataset: str
    root: str
    items: int
    sources: list[SourceCount]
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
    sources, notes = [], _id_notes(ids)
    for source in SOURCES:
        values = items[source].to_pylist()
        if any(value is not None for value in values):
            count, found = (_media if source in MEDIA_SOURCES else _texts)(source, ids, values)
            sources.append(count)
            notes += found
    interactions = dataset.interactions
    return CheckReport(
        dataset=dataset.name,
        root=dataset.root,
        items=len(items),
        sources=sources,
        interactions=None if interactions is None else len(interactions),
        users=None if interactions is None else pc.count_distinct(interactions["user_id"]).as_py(),
        notes=[*dataset.notes, *notes, *_interaction_notes(items, interactions)],
    )


def _texts(source: str, ids: list[str], values: list[str | None]) -> tuple[SourceCount, list[Note]]:
    present = [(item_id, text) for item_id, text in zip(ids, values, strict=True) if text and text.strip()]
    same = _groups((text, item_id) for item_id, text in present)
    count = SourceCount(
        source,
        found=len(present),
        missing=len(ids) - len(present),
        unreadable=0,
        duplicates=sum(len(group) - 1 for group in same),
    )
    return count, note_of("info", f"same_{source}", f"{source}s that several items have", _listed(same))


def _media(source: str, ids: list[str], values: list[str | None]) -> tuple[SourceCount, list[Note]]:
    places = {item_id: place for item_id, place in zip(ids, values, strict=True) if place is not None}
    findings = check_media(places)
    unreadable = sum(len(group) for group in findings.unreadable.values())
    count = SourceCount(
        source,
        found=len(places) - unreadable,
        missing=len(ids) - len(places),
        unreadable=unreadable,
        duplicates=sum(len(group) - 1 for group in findings.same),
    )
    notes = [
        note
        for (code, message), group in findings.unreadable.items()
        for note in note_of("warning", code, f"{source} files that {message}", group)
    ]
    return count, [
        *notes,
        *note_of(
            "info", f"same_{source}", f"{source} contents that several items have", _listed(findings.same)
        ),
        *note_of("info", "not_asked", f"{source} URLs: not asked for", findings.remote),
    ]


def _id_notes(ids: list[str]) -> list[Note]:
    clashing = _listed(_groups((_folded(item_id), item_id) for item_id in ids))
    message = (
        "ids that differ only in case, spaces or Unicode form: files named by them may overwrite each other"
    )
    return note_of("warning", "id_clash", message, clashing)


def _folded(item_id: str) -> str:
    return "".join(unicodedata.normalize("NFC", item_id.casefold()).split())


def _interaction_notes(items: pa.Table, interactions: pa.Table | None) -> list[Note]:
    if interactions is None:
        return []
    counts = _value_counts(interactions["item_id"])
    ids = items["item_id"].to_pylist()
    known = set(ids)
    idle = [item_id for item_id in ids if item_id not in counts]
    unknown = [item_id for item_id in counts if item_id not in known]
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


def _groups(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Ids by key, where a key has several, in the order of the first."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for key, item_id in pairs:
        groups[key].append(item_id)
    return [group for group in groups.values() if len(group) > 1]


def _listed(groups: list[list[str]]) -> list[str]:
    return [" = ".join(group[:3]) + (" = ..." if len(group) > 3 else "") for group in groups]

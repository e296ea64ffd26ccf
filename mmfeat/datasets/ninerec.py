"""NineRec: one of its downstream domains, or one of its source datasets."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.datasets.base import Dataset, Note, build_items, existing_folder, note_of
from mmfeat.datasets.delimited import first_row, first_texts, read_delimited, repeated, with_ids
from mmfeat.datasets.interactions import items_in_item_column, read_interactions
from mmfeat.datasets.layout import in_order, unread
from mmfeat.datasets.media_files import MediaFiles
from mmfeat.datasets.pairs import read_pairs
from mmfeat.datasets.parts import named_media, part_notes
from mmfeat.schemas.catalog import usual
from mmfeat.schemas.errors import DatasetError

_WHAT = "the folder of one domain, with files such as QB_item.csv, QB_pair.csv and QB_cover"
_PART = re.compile(r"^(.+)_(item\.csv|pair\.csv|behaviour\.tsv|cover(\.zip)?)$")
# Bili_2M and its part Bili_500K share their covers.
_SHARED_COVERS = "Source_Bili_2M"


def load(root: Path | None, *, domain: str | None = None, language: Literal["en", "zh"] = "en") -> Dataset:
    """NineRec, one domain: covers, titles in English or Chinese, and interactions.

    Read from ``root``, none of the tables having a header: ``{D}_item.csv`` (id, Chinese title,
    English title), ``{D}_pair.csv`` (user, item, time; the releases differ in which of the two ids
    comes first, so the items tell), else ``{D}_behaviour.tsv`` (``user<TAB>item item ...``), and
    ``{item}.jpg`` in ``{D}_cover``, for ``Bili_2M`` and ``Bili_500K`` in ``Source_Bili_2M_cover``.
    Items are those of ``{D}_item.csv`` and of the interactions; without either, those of the covers.

    Args:
        domain: ``QB``, ``TN``, ``Bili_Food``, ...; where the folder holds several.
        language: which of the two titles is read.

    Raises:
        DatasetError: no part is there, several domains, or a table of other columns.
    """
    folder = existing_folder(root, "ninerec", _WHAT)
    domain = _domain(folder, domain)
    item_file = folder / f"{domain}_item.csv"
    covers_name = _covers_name(folder, domain)
    covers = named_media(folder, covers_name, usual("cover"))
    titles, notes = _titles(item_file, language) if item_file.is_file() else (None, [])
    known = titles if titles is not None else (covers.locations if covers else {})
    log = _log(folder, domain)
    interactions, log_notes = _read_log(log, known) if log else (None, [])
    parts = _parts(titles, interactions, covers)
    ids = in_order({i for p in ("titles", "interactions") for i in parts.get(p, ())} or parts["covers"])
    used = {item_file.name, covers_name, f"{covers_name}.zip", *([log.name] if log else [])}
    return Dataset(
        name="ninerec",
        root=str(folder),
        items=build_items(ids, {"title": titles or {}, "cover": covers.locations if covers else {}}),
        interactions=interactions,
        notes=[
            Note("info", "domain", f"the domain {domain} is read"),
            *notes,
            *log_notes,
            *(covers.notes() if covers else []),
            *part_notes(ids, parts),
            *note_of("info", "not_read", "files and folders that are not read", unread(folder, used)),
        ],
    )


def _domain(folder: Path, domain: str | None) -> str:
    found = sorted({match[1] for entry in folder.iterdir() if (match := _PART.match(entry.name))})
    own = [name for name in found if name != _SHARED_COVERS] or found
    if domain is not None:
        if domain not in own:
            raise DatasetError(
                f"There is no domain {domain!r} in {folder}.",
                hint=f"There are: {', '.join(own) or 'none'}.",
            )
        return domain
    if not own:
        raise DatasetError(f"There is nothing of NineRec in {folder}.", hint=f"--root must be {_WHAT}.")
    if len(own) > 1:
        raise DatasetError(
            f"{folder} holds several domains: {', '.join(own)}.",
            hint=f"Choose one: --option domain={own[0]}.",
        )
    return own[0]


def _covers_name(folder: Path, domain: str) -> str:
    own = f"{domain}_cover"
    shared = domain.startswith("Bili_") and domain.removeprefix("Bili_") in ("2M", "500K")
    if shared and not (folder / own).exists() and not (folder / f"{own}.zip").exists():
        return f"{_SHARED_COVERS}_cover"
    return own


def _titles(path: Path, language: str) -> tuple[dict[str, str | None], list[Note]]:
    names = ["item", "zh", "en"][: len(first_row(path, ","))]
    if language not in names:
        raise DatasetError(
            f"{path} has no title in the language {language!r}.",
            hint="Expected: item id, Chinese title, English title, without a header. "
            "Where there are only Chinese titles: --option language=zh.",
        )
    table, odd = read_delimited(path, {"item": pa.string(), language: pa.string()}, names)
    named, lacking = with_ids(table, "item", path.name)
    message = f"items that {path.name} names again: first taken"
    titles = first_texts(named, "item", language)
    return titles, [*odd, *lacking, *note_of("warning", "repeated_item", message, repeated(named["item"]))]


def _log(folder: Path, domain: str) -> Path | None:
    """The interactions; where the pairs have no times, the file that has their order."""
    pairs, sequences = folder / f"{domain}_pair.csv", folder / f"{domain}_behaviour.tsv"
    if pairs.is_file() and (not sequences.is_file() or len(first_row(pairs, ",")) > 2):
        return pairs
    return sequences if sequences.is_file() else None


def _read_log(path: Path, known: Collection[str]) -> tuple[pa.Table, list[Note]]:
    if path.suffix == ".tsv":
        return read_pairs(path)
    names = ["user", "item", "timestamp"][: len(first_row(path, ","))]
    timestamp = "timestamp" if "timestamp" in names else None
    table, notes = read_interactions(path, user="user", item="item", timestamp=timestamp, names=names)
    table, more = items_in_item_column(table, pa.array(known, pa.string()), path.name)
    return table, [*notes, *more]


def _parts(
    titles: dict[str, str | None] | None, interactions: pa.Table | None, covers: MediaFiles | None
) -> dict[str, Collection[str]]:
    """The ids that each part names."""
    parts: dict[str, Collection[str]] = {}
    if titles is not None:
        parts["titles"] = titles.keys()
    if interactions is not None:
        parts["interactions"] = set(pc.unique(interactions["item_id"]).to_pylist())
    if covers is not None:
        parts["covers"] = covers.locations.keys()
    return parts

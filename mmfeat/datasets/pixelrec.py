"""PixelRec: covers, item information and interactions, in its four sizes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.datasets.base import Dataset, Note, Value, build_items, existing_folder, note_of
from mmfeat.datasets.delimited import first_row, first_values, read_delimited, repeated, with_ids
from mmfeat.datasets.interactions import read_interactions
from mmfeat.datasets.layout import in_order, media_parts
from mmfeat.datasets.parts import part_notes
from mmfeat.schemas.catalog import NUMBER, Column
from mmfeat.schemas.errors import DatasetError

_WHAT = "a folder with PixelRec's interactions, item information and cover, in subfolders or not"

# Beside title and description, as dataset/readme.md of westlake-repl/PixelRec lists them.
_FIELDS = (
    Column("tag", "text"),
    Column("title_en", "text"),
    *(
        Column(f"{counted}_number", NUMBER)
        for counted in ("view", "comment", "thumbup", "share", "coin", "favorite", "barrage")
    ),
)


def load(root: Path | None, *, size: str | None = None, title: str = "title") -> Dataset:
    """PixelRec in any of its sizes: covers, titles, descriptions and interactions.

    Read from ``root`` and its subfolders, told apart by their header: the interactions
    (``item_id,user_id,timestamp``) and the item information (``item_id,...,title,tag,description``),
    which have the same file names upstream; and ``{item_id}.jpg`` in ``cover`` or ``covers``, or a
    plain zip of that name. Covers and information are shared by all sizes, so the interactions say
    which items there are; without them the information does, else the covers. Fields are ``tag``,
    ``title_en`` and the counts of views, likes and the like, as far as the information has them.

    Args:
        size: what the files to read are called without ``.csv``, such as ``Pixel200K``, where there
            are several of a kind.
        title: the column that holds the title; an early release has English ones in ``title_en``.

    Raises:
        DatasetError: no part is there, several files of one kind, or a file that is not CSV.
    """
    folder = existing_folder(root, "pixelrec", _WHAT)
    log, info = _tables(folder, size)
    covers = media_parts(folder).files.get("cover")
    if log is None and info is None and covers is None:
        raise DatasetError(f"There is nothing of PixelRec in {folder}.", hint=f"--root must be {_WHAT}.")
    interactions, notes = (
        read_interactions(log, user="user_id", item="item_id", timestamp="timestamp") if log else (None, [])
    )
    texts, text_notes = _texts(info, title) if info else ({}, [])
    parts: dict[str, Collection[str]] = {}
    if interactions is not None:
        parts["interactions"] = set(pc.unique(interactions["item_id"]).to_pylist())
    if info is not None:
        parts["item information"] = texts["title"].keys()
    if covers is not None:
        parts["covers"] = covers.locations.keys()
    ids = in_order(next(iter(parts.values())))
    return Dataset(
        name="pixelrec",
        root=str(folder),
        items=build_items(
            ids,
            {**texts, "cover": covers.locations if covers else {}},
            [one for one in _FIELDS if one.name in texts],
        ),
        interactions=interactions,
        notes=[*notes, *text_notes, *(covers.notes() if covers else []), *part_notes(ids, parts)],
    )


def _tables(folder: Path, size: str | None) -> tuple[Path | None, Path | None]:
    """The interactions and the item information, by their columns."""
    paths = sorted(path for path in [*folder.glob("*.csv"), *folder.glob("*/*.csv")] if path.is_file())
    headers = {path: set(first_row(path)) for path in paths}
    logs = [path for path, header in headers.items() if {"item_id", "user_id"} <= header]
    infos = [path for path, header in headers.items() if "item_id" in header and path not in logs]
    return _only(logs, size, "interactions"), _only(infos, size, "item information")


def _only(paths: list[Path], size: str | None, kind: str) -> Path | None:
    """The one file of a kind; that of ``size`` where there are several."""
    chosen = paths if len(paths) < 2 else [path for path in paths if path.stem == size]
    if len(chosen) == 1 or not paths:
        return chosen[0] if chosen else None
    raise DatasetError(
        f"There are several files of {kind} and not one of the size {size!r}: {', '.join(map(str, paths))}.",
        hint=f"Choose by name: --option size={paths[0].stem}.",
    )


def _texts(path: Path, title: str) -> tuple[dict[str, dict[str, Value]], list[Note]]:
    """Titles, descriptions and fields by item."""
    header = first_row(path)
    if title not in header:
        raise DatasetError(
            f"{path} has no column {title!r}; its columns are: {', '.join(header)}.",
            hint="Name the one that holds the title: --option title=COLUMN.",
        )
    fields = {one.name: one for one in _FIELDS if one.name in header and one.name != title}
    others = [name for name in ("description", *fields) if name in header]
    columns = {"title": title, **{name: name for name in others}}
    table, odd = read_delimited(path, dict.fromkeys(["item_id", *columns.values()], pa.string()))
    named, lacking = with_ids(table, "item_id", path.name)
    texts: dict[str, dict[str, Value]] = {}
    unusable: list[str] = []
    for source, column in columns.items():
        is_number = source in fields and fields[source].modality == NUMBER
        texts[source], bad = first_values(named, "item_id", column, is_number)
        unusable += bad
    message = f"items that {path.name} names again: first taken"
    again = note_of("warning", "repeated_item", message, repeated(named["item_id"]))
    no_number = note_of("warning", "unusable_cell", f"cells of {path.name} that hold no number", unusable)
    return texts, [*odd, *lacking, *again, *no_number]

"""What a dataset adapter hands over: items, interactions and notes on what it met."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa

from mmfeat.schemas.catalog import Column, catalog_schema, columns_of
from mmfeat.schemas.errors import DatasetError

MAX_EXAMPLES = 5

# What an item has in a column of texts or media: a text or location, or several of them.
Cell = str | list[str] | None
# What it has in any column.
Value = Cell | float


@dataclass(frozen=True)
class Note:
    """Something an adapter or a check met that a person should know of.

    Attributes:
        level: ``info`` (how something was read), ``warning`` (something was left out or looks
            wrong) or ``error`` (something was refused).
        code: stable name of the kind of finding, e.g. ``media_clash``.
        message: what it means, in one sentence.
        count: how many things it concerns.
        examples: a few of them, at most ``MAX_EXAMPLES``.
    """

    level: Literal["info", "warning", "error"]
    code: str
    message: str
    count: int = 1
    examples: tuple[str, ...] = ()


@dataclass
class Dataset:
    """A dataset as its adapter read it.

    Attributes:
        name: the adapter's registry name.
        root: the folder or file that was read.
        items: one row per item, ``item_id`` unique; the schema says what the columns are, see
            :func:`mmfeat.schemas.catalog.columns_of`.
        interactions: INTERACTIONS_SCHEMA in the file's order, None if the dataset has none.
        notes: what the adapter met while reading.
    """

    name: str
    root: str
    items: pa.Table
    interactions: pa.Table | None = None
    notes: list[Note] = field(default_factory=list)


def note_of(
    level: Literal["info", "warning", "error"], code: str, message: str, things: Sequence[str]
) -> list[Note]:
    """A note on ``things``, counted and with the first few as examples; no note when there are none."""
    if not things:
        return []
    return [Note(level, code, message, len(things), tuple(things[:MAX_EXAMPLES]))]


def refusals(notes: Iterable[Note]) -> str:
    """What was refused, in sentences that each begin with a blank; empty if nothing was."""
    refused = (note for note in notes if note.level == "error")
    return "".join(f" {note.count} {note.message}: {', '.join(note.examples)}." for note in refused)


def build_items(
    ids: Iterable[str], values: Mapping[str, Mapping[str, Value]], columns: Iterable[Column] = ()
) -> pa.Table:
    """The catalog of ``ids`` in their order.

    Args:
        values: a column's name to a map from item id to text, number or media location, or to a list of
            texts or locations where the column holds several; an id that a map lacks has no such value, and
            NaN is none.
        columns: those beside the usual ones.

    Returns:
        One row per id, :func:`~mmfeat.schemas.catalog.catalog_schema` of ``columns``.
    """
    ids = list(ids)
    schema = catalog_schema(columns)
    cells = {name: [values.get(name, {}).get(item_id) for item_id in ids] for name in columns_of(schema)}
    # From Pandas: NaN is null.
    arrays = [pa.array(cells[name], schema.field(name).type, from_pandas=True) for name in cells]
    return pa.table([pa.array(ids, pa.string()), *arrays], schema=schema)


def existing_root(root: Path | None, adapter: str, what: str) -> Path:
    """``root`` as an absolute path that exists; DatasetError that names ``what`` was expected."""
    if root is None:
        raise DatasetError(f"The dataset {adapter!r} needs a root.", hint=f"Give --root PATH: {what}.")
    path = root.expanduser().absolute()
    if not path.exists():
        raise DatasetError(f"There is no {root}.", hint=f"--root must be {what}.")
    return path


def existing_folder(root: Path | None, adapter: str, what: str) -> Path:
    """Like :func:`existing_root`, and the path is a folder with something in it."""
    path = existing_root(root, adapter, what)
    if not path.is_dir():
        raise DatasetError(f"{root} is a file, not a folder.", hint=f"--root must be {what}.")
    if next(path.iterdir(), None) is None:
        raise DatasetError(f"The folder {root} is empty.", hint=f"--root must be {what}.")
    return path

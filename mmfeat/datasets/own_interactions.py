"""A person's own file of interactions beside any dataset: its columns by usual name or as they are named.

Columns are read and converted whole, by Arrow and numpy: a million interactions have no Python object each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.datasets.base import MAX_EXAMPLES, Dataset, Note, note_of
from mmfeat.datasets.interactions import interactions_table
from mmfeat.datasets.log_columns import LogColumns
from mmfeat.datasets.log_files import LogFile, open_log
from mmfeat.schemas.errors import DatasetError
from mmfeat.schemas.interactions import NEEDED, PARTS, InteractionsConfig, Part
from mmfeat.schemas.validation import near

# Column names that are looked for if none is given; case does not matter, the first one wins.
_USUAL: dict[Part, tuple[str, ...]] = {
    "user": ("user_id", "user", "userid", "uid", "reviewerid", "visitor_id"),
    "item": ("item_id", "item", "itemid", "iid", "parent_asin", "asin", "product_id", "productid"),
    "time": ("timestamp", "time", "datetime", "date", "unixreviewtime", "ts"),
    "order": ("order", "sequence", "seq"),
    "rating": ("rating", "ratings", "overall", "stars"),
    "event": ("event", "event_type", "action", "behavior", "behaviour"),
}


@dataclass(frozen=True)
class OwnInteractions:
    """What a file of interactions holds.

    Attributes:
        table: INTERACTIONS_SCHEMA. The file's order of rows; where it has a column of positions, each user's
            in that order, and users in that of their first row.
        columns: what was read from which column.
        notes: how it was read, and what was left out.
    """

    table: pa.Table
    columns: dict[Part, str]
    notes: list[Note]


def with_interactions(dataset: Dataset, config: InteractionsConfig | None) -> Dataset:
    """A dataset with the interactions of a person's own file; as it is if there is none.

    Raises:
        DatasetError: as :func:`read_own`.
    """
    if config is None:
        return dataset
    own = read_own(config)
    unknown = unknown_items(own.table, dataset.items["item_id"], Path(config.file).name)
    return replace(dataset, interactions=own.table, notes=[*dataset.notes, *own.notes, *unknown])


def unknown_items(interactions: pa.Table, known: pa.ChunkedArray, name: str) -> list[Note]:
    """A note that counts the interactions of a file whose item is not among ``known``, with some items."""
    items = interactions["item_id"]
    others = items.filter(pc.invert(pc.is_in(items, value_set=known.combine_chunks())))
    if not len(others):
        return []
    unknown = pc.unique(others)
    message = f"interactions in {name} with {len(unknown):,} items that are not in the catalog"
    examples = tuple(unknown.slice(0, MAX_EXAMPLES).to_pylist())
    return [Note("warning", "unknown_items", message, len(others), examples)]


def read_own(config: InteractionsConfig) -> OwnInteractions:
    """The interactions of a file.

    Ids are strings exactly as written, whole numbers in decimal. A time is a number of seconds or
    milliseconds since 1970-01-01 UTC (the largest says which), an ISO 8601 text, or a date or timestamp of
    Parquet; without a zone it is UTC. Lines without a user or an item are left out and noted.

    Raises:
        DatasetError: there is no such file, it is of another kind or damaged, a column is not there, or a
            value is not what its column holds; names the line.
    """
    path = Path(config.file).expanduser().absolute()
    if not path.is_file():
        raise DatasetError(f"There is no file of interactions {path}.", hint="Check its path.")
    log = open_log(path)
    chosen, table, notes = _read(path, log, config)
    found = LogColumns(path, log, table, chosen).converted()
    order = found.pop("order", None)
    if order is not None:
        taken = _in_order(found["user"], order)
        found = {part: column.take(taken) for part, column in found.items()}
    columns = (found.get(part) for part in ("time", "rating", "event"))
    interactions, odd = interactions_table(path.name, found["user"], found["item"], *columns)
    read = [f"{part} from {name}" for part, name in chosen.items()]
    how = note_of("info", "interaction_columns", f"columns of {path.name} that are read", read)
    return OwnInteractions(interactions, chosen, [*how, *notes, *odd])


def _read(
    path: Path, log: LogFile, config: InteractionsConfig
) -> tuple[dict[Part, str], pa.Table, list[Note]]:
    """The column of each part, the columns as the file has them, and notes."""
    chosen = _chosen(path, log, config)
    later = _perhaps_later(log, config, chosen)
    names = [*chosen.values(), *(name for usual in later.values() for name in usual)]
    table, notes = log.read(list(dict.fromkeys(names)), {chosen[part] for part in NEEDED})
    there = [name for name in table.column_names if table[name].null_count < len(table)]
    for part, usual in later.items():
        if found := [name for name in usual if name in there]:
            chosen[part] = found[0]
    for part, name in chosen.items():
        if name not in log.names and name not in there:
            raise _no_column(path, log, name, part)
    return chosen, table, notes


def _chosen(path: Path, log: LogFile, config: InteractionsConfig) -> dict[Part, str]:
    """The column of each part that has one."""
    by_lower = {name.strip().lower(): name for name in reversed(log.names)}
    chosen: dict[Part, str] = {}
    for part in PARTS:
        name = config.named(part)
        if name is None:
            # What a column of positions is called is called so in other tables too; times need none.
            if part != "order" or "time" not in chosen:
                found = [by_lower[usual] for usual in _USUAL[part] if usual in by_lower]
                if found:
                    chosen[part] = found[0]
        elif name in log.names or (name and log.open):
            chosen[part] = name
        elif name:
            raise _no_column(path, log, name, part)
    for part in NEEDED:
        if part not in chosen:
            raise DatasetError(
                f"{path} has no column of {part}s; its columns are: {', '.join(log.names) or 'none'}.",
                hint=f"Name it: {part} = 'COLUMN' under [dataset.interactions], --option "
                f"interactions.{part}=COLUMN, or for an export --interactions-column {part}=COLUMN.",
            )
    if chosen["user"] == chosen["item"]:
        raise DatasetError(
            f"{path}: the column {chosen['user']!r} cannot be both the users and the items.",
            hint=f"Name another for one of them. It has: {', '.join(log.names)}.",
        )
    return chosen


def _perhaps_later(
    log: LogFile, config: InteractionsConfig, chosen: Mapping[Part, str]
) -> dict[Part, list[str]]:
    """The usual names of parts that have no column so far, where the file may have further columns."""
    if not log.open:
        return {}
    return {part: [*_USUAL[part]] for part in PARTS if part not in chosen and config.named(part) is None}


def _no_column(path: Path, log: LogFile, name: str, part: Part) -> DatasetError:
    return DatasetError(
        f"{path} has no column {name!r} for {part}.",
        hint=f"{near(name, log.names)}It has: {', '.join(log.names)}.",
    )


def _in_order(users: pa.ChunkedArray, positions: pa.ChunkedArray) -> pa.Array:
    """``[n]`` the rows: users by their first one, each one's by position; equal ones stay as they are."""
    codes = pc.dictionary_encode(users.combine_chunks()).indices
    return pa.array(np.lexsort((positions.to_numpy(), codes.to_numpy())))

"""The last number that a collision level gave out for each code, by the fingerprint of the codes.

So no number is given twice, whatever became of the item that had it: numbers of rows alone would come again
once the item with the largest is forgotten. No item is named here, and what is kept does not tell whether a
code's items are still there. A snapshot has none: nobody gives out numbers in one.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from mmfeat.store.database import Database, quoted
from mmfeat.store.schema import COLLISIONS_SCHEMA

TABLE = "_collisions"


def put(database: Database, fingerprint: str, table: str, before: np.ndarray, last: np.ndarray) -> None:
    """Keep what is given out by the next commit of rows.

    A commit that never comes gave out nothing: :func:`get` tells by the state of the table.

    Args:
        table: of the rows.
        before: int32 ``[m, levels + 1]``: codes, and the last number given out before; ``last`` with it.
    """
    row = {
        "fingerprint": fingerprint,
        "table_version": _version(database, table),
        "levels": last.shape[1],
        "before": before.astype(np.int32).tobytes(),
        "last": last.astype(np.int32).tobytes(),
    }
    database.upsert(TABLE, pa.Table.from_pylist([row], schema=COLLISIONS_SCHEMA), ["fingerprint"])
    database.tidy(TABLE)


def get(database: Database, fingerprint: str, table: str) -> np.ndarray | None:
    """int32 ``[m, levels + 1]``: codes, and the last number given out; None if nothing was kept."""
    kept = database.table(TABLE)
    if kept is None:
        return None
    with database.errors("read the numbers of collisions"):
        found = kept.to_table(filter=f"fingerprint = {quoted(fingerprint)}").to_pylist()
    if not found:
        return None
    row = found[0]
    was_committed = row["table_version"] != _version(database, table)
    numbers = np.frombuffer(row["last" if was_committed else "before"], np.int32)
    return numbers.reshape(-1, row["levels"])


def remove(database: Database, fingerprint: str) -> None:
    """Remove what was kept of a version, by its fingerprint or the first digits of it.

    Does nothing if nothing was kept.
    """
    database.delete(TABLE, f"starts_with(fingerprint, {quoted(fingerprint)})")


def _version(database: Database, table: str) -> int:
    found = database.table(table)
    return 0 if found is None else int(found.version)

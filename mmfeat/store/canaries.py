"""What models gave for inputs that are the same every time, by the fingerprint of the version.

They are made up, so that nothing of an item is in it. A snapshot has none: nobody computes rows of one.
"""

from __future__ import annotations

import pyarrow as pa

from mmfeat.store.database import Database, quoted
from mmfeat.store.schema import CANARIES_SCHEMA

TABLE = "_canaries"


def put(database: Database, fingerprint: str, canary: str) -> None:
    """Keep a version's canary, in the place of the one that it has."""
    row = {"fingerprint": fingerprint, "canary": canary}
    database.upsert(TABLE, pa.Table.from_pylist([row], schema=CANARIES_SCHEMA), ["fingerprint"])
    database.tidy(TABLE)


def get(database: Database, fingerprint: str) -> str | None:
    """A version's canary; None if it has none, as in a store from before there were any."""
    table = database.table(TABLE)
    if table is None:
        return None
    with database.errors("read canaries"):
        found = table.to_table(filter=f"fingerprint = {quoted(fingerprint)}").to_pylist()
    return found[0]["canary"] if found else None


def remove(database: Database, fingerprint: str) -> None:
    """Remove a version's canary, by its fingerprint or the first digits of it.

    Does nothing if it has none.
    """
    database.delete(TABLE, f"starts_with(fingerprint, {quoted(fingerprint)})")

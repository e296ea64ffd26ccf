"""What evaluations found, so that nothing is judged twice by the same vectors and interactions.

They hold means over users and nothing of an item. The newest one of each subject is kept.
"""

from __future__ import annotations

import json
from collections.abc import Collection

import pyarrow as pa

from mmfeat.store.database import Database, quoted
from mmfeat.store.schema import EVALUATIONS_SCHEMA

TABLE = "_evaluations"


def put(database: Database, subject: str, digest: str, evaluation: str) -> None:
    """Keep what was found of a subject, in the place of what is kept of it."""
    row = {"subject": subject, "digest": digest, "evaluation": evaluation}
    database.upsert(TABLE, pa.Table.from_pylist([row], schema=EVALUATIONS_SCHEMA), ["subject"])
    database.tidy(TABLE)


def get(database: Database, subject: str, digest: str) -> str | None:
    """What was found of a subject; None if nothing was, or of something else."""
    table = database.table(TABLE)
    if table is None:
        return None
    with database.errors("read evaluations"):
        found = table.to_table(filter=f"subject = {quoted(subject)}").to_pylist()
    return found[0]["evaluation"] if found and found[0]["digest"] == digest else None


def remove_others(database: Database, versions: Collection[str]) -> None:
    """Forget those of other versions than these (``name@fingerprint``), which are no more.

    Nobody asks for them again: whatever is made later has another fingerprint, or other rows.
    """
    for row in database.read_small(TABLE, EVALUATIONS_SCHEMA).to_pylist():
        judged = {feature["version"] for feature in json.loads(row["evaluation"])["features"]}
        if not judged <= set(versions):
            database.delete(TABLE, f"subject = {quoted(row['subject'])}")
    database.tidy(TABLE)


def clear(database: Database) -> None:
    """Forget all of them: what they were made from is no more."""
    database.delete(TABLE, "true")

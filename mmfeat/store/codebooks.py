"""What quantizers fitted, by the fingerprint of the codes that were made with it."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from mmfeat.store.database import Database, quoted
from mmfeat.store.schema import CODEBOOKS_SCHEMA

TABLE = "_codebooks"
TABLES = (TABLE,)


def put(database: Database, fingerprint: str, state: bytes, quality: dict[str, Any]) -> None:
    """Keep a quantizer's fitted arrays (a safetensors file's bytes) and how good it is."""
    row = {"fingerprint": fingerprint, "state": state, "quality": json.dumps(quality)}
    database.upsert(TABLE, pa.Table.from_pylist([row], schema=CODEBOOKS_SCHEMA), ["fingerprint"])
    database.tidy(TABLE)


def get(database: Database, fingerprint: str) -> tuple[bytes, dict[str, Any]] | None:
    """``(state, quality)``, or None if there is none."""
    table = database.table(TABLE)
    if table is None:
        return None
    with database.errors("read codebooks"):
        found = table.to_table(filter=f"fingerprint = {quoted(fingerprint)}").to_pylist()
    return (found[0]["state"], json.loads(found[0]["quality"])) if found else None


def remove(database: Database, fingerprint: str) -> None:
    """Remove what was kept of a quantizer, by its fingerprint or the first digits of it.

    Does nothing if nothing was kept.
    """
    database.delete(TABLE, f"starts_with(fingerprint, {quoted(fingerprint)})")

"""Tables of interactions for tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from mmfeat.schemas.catalog import INTERACTIONS_SCHEMA


def interactions_of(rows: Iterable[Iterable[Any]]) -> pa.Table:
    """INTERACTIONS_SCHEMA of rows of user and item, and perhaps milliseconds, rating and event."""
    named = [dict(zip(INTERACTIONS_SCHEMA.names, row, strict=False)) for row in rows]
    return pa.Table.from_pylist(named, schema=INTERACTIONS_SCHEMA)

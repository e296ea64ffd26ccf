"""Work items as a plan hands them to the stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from mmfeat.pipelines.planning.work import PAYLOAD, STAMP, WORK_SCHEMA


def work_items(
    rows: Sequence[Mapping[str, str | Path | None]], features: Sequence[int] = (0,), group: str = ""
) -> pa.Table:
    """A work item for each row of columns, all of which want the same features.

    A value that is a path is a file's, and has a stamp; others are texts.
    """
    columns: dict[str, pa.Array] = {
        "work": pa.array(range(len(rows)), pa.int64()),
        "item_id": pa.array([f"item-{n}" for n in range(len(rows))]),
        "group": pa.array([group or "+".join(rows[0])] * len(rows)),
        "features": pa.array([list(features)] * len(rows), pa.list_(pa.int32())),
    }
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        columns[PAYLOAD + name] = pa.array([None if v is None else str(v) for v in values], pa.string())
        if any(isinstance(value, Path) for value in values):
            stamps = [None if value is None else "planned" for value in values]
            columns[STAMP + name] = pa.array(stamps, pa.string())
    table = pa.table(columns)
    assert table.schema.names[: len(WORK_SCHEMA)] == WORK_SCHEMA.names
    return table

"""The logs of runs: a few lines each, in a table, so that they are kept wherever the store is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.store.database import Database, quoted
from mmfeat.store.schema import LOGS_SCHEMA

# Records of runs stay; what they said on the way is of use for as long as somebody may ask.
KEEP_LOGS = timedelta(days=90)

TABLE = "_logs"


class Logs:
    """What runs said, in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, run_id: str, lines: Sequence[tuple[datetime, str]]) -> None:
        """Append ``(time, message)`` lines of a run."""
        rows = [{"run_id": run_id, "time": time, "message": message} for time, message in lines]
        self._database.append(TABLE, pa.Table.from_pylist(rows, schema=LOGS_SCHEMA))
        self._database.tidy(TABLE)

    def remove_old(self) -> None:
        """Remove lines that are older than ``KEEP_LOGS``; writes nothing if there are none."""
        oldest = pc.min(self._database.read(TABLE, LOGS_SCHEMA)["time"]).as_py()
        until = datetime.now(UTC) - KEEP_LOGS
        if oldest is not None and oldest < until:
            self._database.delete(TABLE, f"time < timestamp '{until:%Y-%m-%d %H:%M:%S}'")

    def of(self, run_id: str) -> list[tuple[datetime, str]]:
        """``(time, message)`` of every line of a run, oldest first."""
        table = self._database.table(TABLE)
        if table is None:
            return []
        with self._database.errors("read the log of a run"):
            rows = table.to_table(columns=["time", "message"], filter=f"run_id = {quoted(run_id)}")
        # By time alone, and stable: lines of one moment stay in the order in which they were written.
        lines = [(row["time"].astimezone(UTC), row["message"]) for row in rows.to_pylist()]
        return sorted(lines, key=lambda line: line[0])

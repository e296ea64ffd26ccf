"""What computed the features of a run, as the results tell it."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc


class Runtimes:
    """Collects what each feature's models ran in, and what was to be said of them, over all processes."""

    def __init__(self) -> None:
        self._of: dict[int, set[str]] = {}
        self._notes: set[str] = set()

    def add(self, results: pa.Table) -> Iterator[str]:
        """Take in RESULTS_SCHEMA rows; yields each note once."""
        seen = results.select(["feature", "runtime"]).group_by(["feature", "runtime"]).aggregate([])
        for row in seen.to_pylist():
            if row["runtime"] is not None:
                self._of.setdefault(row["feature"], set()).add(row["runtime"])
        for note in pc.unique(results["note"].drop_null()).to_pylist():
            if note not in self._notes:
                self._notes.add(note)
                yield note

    def of(self, feature: int) -> list[str]:
        """By alphabet; none if nothing was computed."""
        return sorted(self._of.get(feature, ()))

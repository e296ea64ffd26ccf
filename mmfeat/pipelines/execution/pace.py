"""When results came: how soon the first, and how many a second after that."""

from __future__ import annotations

import time


class Pace:
    """Counts results. Every worker's first ones wait for it and the models: they say nothing of speed.

    Attributes:
        workers: processes of each pool that computes.
        tables: how many tables of results came.
        first: when the first came, by the monotonic clock.
    """

    def __init__(self) -> None:
        self.workers = 1
        self.tables = 0
        self.first = self._steady = self._last = 0.0
        self._rows = 0

    def count(self, rows: int) -> None:
        """Results that came now, as one table."""
        self._last = time.monotonic()
        self.tables += 1
        if self.tables == 1:
            self.first = self._last
        if self.tables <= self.workers:
            self._steady = self._last
        else:
            self._rows += rows

    @property
    def rows_per_second(self) -> float | None:
        """After every worker's first results; None if there were no more."""
        return round(self._rows / (self._last - self._steady), 2) if self._rows else None

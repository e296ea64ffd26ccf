"""How a long run shows itself: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_LINE_SECONDS = 10.0
# After the first batch, so much says how fast the rest will be.
_ENOUGH_BATCHES, _ENOUGH_ROWS, _ENOUGH_SHARE = 3, 100, 0.1


class Reporter(Protocol):
    """What a run tells while it works."""

    def say(self, message: str) -> None:
        """One thing that happened."""

    def start(self, total: int) -> None:
        """``total`` rows are to be computed."""

    def advance(self, rows: int) -> None:
        """``rows`` more came out of the models."""

    def stop(self) -> None:
        """The work is over, whether or not it was finished."""


class Silent:
    """Says nothing: for callers from Python and for ``--json``."""

    def say(self, message: str) -> None:
        """Nothing."""

    def start(self, total: int) -> None:
        """Nothing."""

    def advance(self, rows: int) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class Logged:
    """Shows what it is told by another reporter, and writes what is said into a log.

    Attributes:
        log: takes a line; does nothing until the run has a log.
    """

    def __init__(self, shown: Reporter) -> None:
        self.log: Callable[[str], None] = lambda message: None
        self._shown = shown

    def say(self, message: str) -> None:
        """Show the message and log it."""
        self.log(message)
        self._shown.say(message)

    def start(self, total: int) -> None:
        """Log how much there is to compute, and show it."""
        self.log(f"{total:,} rows to compute")
        self._shown.start(total)

    def advance(self, rows: int) -> None:
        """Show the progress."""
        self._shown.advance(rows)

    def stop(self) -> None:
        """Pass on that the work is over."""
        self._shown.stop()


class _Rate:
    """Rows per second since the first ones, whose time is the start-up's; unknown until there are enough.

    What is said of the time left after a batch or two is off by any factor.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.first = self.counted = self.batches = 0
        self.begun = self.now = 0.0

    def add(self, rows: int) -> None:
        """Count rows that came just now."""
        self.done += rows
        self.now = time.monotonic()
        if not self.begun:
            self.begun = self.now
            return
        self.counted += rows
        self.batches += 1

    @property
    def known(self) -> tuple[float, float] | None:
        """``(rows per second, seconds left)``; None as long as it would be a guess."""
        enough = min(_ENOUGH_ROWS, self.total * _ENOUGH_SHARE)
        if self.batches < _ENOUGH_BATCHES or self.counted < enough or self.now == self.begun:
            return None
        rate = self.counted / (self.now - self.begun)
        return rate, max(0, self.total - self.done) / rate


class Lines:
    """A line now and then on standard error: for logs and schedulers.

    Args:
        every: seconds between two lines at least.
    """

    def __init__(self, every: float = _LINE_SECONDS) -> None:
        self.every = every
        self.rate = _Rate(0)
        self.last = time.monotonic()

    def say(self, message: str) -> None:
        """Print the message at once."""
        print(message, file=sys.stderr, flush=True)

    def start(self, total: int) -> None:
        """Begin counting towards ``total`` rows."""
        self.rate = _Rate(total)
        self.last = time.monotonic()

    def advance(self, rows: int) -> None:
        """Count rows; print a line at most every ten seconds."""
        self.rate.add(rows)
        if self.rate.now - self.last >= self.every:
            self.last = self.rate.now
            known = self.rate.known
            pace = "" if known is None else f", {known[0]:,.1f} rows/s, {known[1]:,.0f} s left"
            self.say(f"{self.rate.done:,} of {self.rate.total:,} rows{pace}")

    def stop(self) -> None:
        """Nothing more to print: the run's summary follows."""


class Bar:
    """A live bar with the time since its start, rows per second and time left."""

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn("[progress.description]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[pace]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self.task: TaskID | None = None
        self.rate = _Rate(0)

    def say(self, message: str) -> None:
        """Print above the bar."""
        self.progress.console.print(message, highlight=False, markup=False)

    def start(self, total: int) -> None:
        """Show the bar."""
        self.task = self.progress.add_task("starting models", total=total, pace="")
        self.rate = _Rate(total)
        self.progress.start()

    def advance(self, rows: int) -> None:
        """Move the bar."""
        assert self.task is not None
        self.rate.add(rows)
        known = self.rate.known
        pace = "" if known is None else f"{known[0]:,.1f} rows/s, {known[1]:,.0f} s left"
        self.progress.update(self.task, advance=rows, pace=pace, description="encoding")

    def stop(self) -> None:
        """Take the bar away."""
        self.progress.stop()


def for_stream() -> Reporter:
    """A bar when standard error is a terminal, lines otherwise."""
    return Bar() if sys.stderr.isatty() else Lines()

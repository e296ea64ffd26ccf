"""How a long run shows itself: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_SECONDS = 10.0


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


class Lines:
    """A line now and then on standard error: for logs and schedulers."""

    def __init__(self) -> None:
        self.total = self.done = 0
        self.begun = self.last = time.monotonic()

    def say(self, message: str) -> None:
        """Print the message at once."""
        print(message, file=sys.stderr, flush=True)

    def start(self, total: int) -> None:
        """Begin counting towards ``total`` rows."""
        self.total, self.done = total, 0
        self.begun = self.last = time.monotonic()

    def advance(self, rows: int) -> None:
        """Count rows; print a line at most every ten seconds."""
        self.done += rows
        now = time.monotonic()
        if now - self.last >= _LINE_SECONDS:
            self.last = now
            rate = self.done / (now - self.begun)
            left = (self.total - self.done) / rate
            self.say(f"{self.done:,} of {self.total:,} rows, {rate:,.1f} rows/s, {left:,.0f} s left")

    def stop(self) -> None:
        """Nothing more to print: the run's summary follows."""


class Bar:
    """A live bar with rows per second and time left."""

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn("[progress.description]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self.task: int | None = None
        self.begun = 0.0
        self.done = 0

    def say(self, message: str) -> None:
        """Print above the bar."""
        self.progress.console.print(message, highlight=False)

    def start(self, total: int) -> None:
        """Show the bar."""
        self.task = self.progress.add_task("starting models", total=total, rate="")
        self.begun, self.done = 0.0, 0
        self.progress.start()

    def advance(self, rows: int) -> None:
        """Move the bar; the clock for the rate starts at the first rows, after start-up."""
        assert self.task is not None
        self.begun = self.begun or time.monotonic()
        self.done += rows
        seconds = time.monotonic() - self.begun
        rate = f"{self.done / seconds:,.1f} rows/s" if seconds > 1 else ""
        self.progress.update(self.task, advance=rows, rate=rate, description="encoding")  # type: ignore[arg-type]

    def stop(self) -> None:
        """Take the bar away."""
        self.progress.stop()


def for_stream() -> Reporter:
    """A bar when standard error is a terminal, lines otherwise."""
    return Bar() if sys.stderr.isatty() else Lines()

"""How commands speak: tables for people, one JSON value for machines, errors that say what to do."""

from __future__ import annotations

import json
import math
import sys
import textwrap
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table

from mmfeat.schemas.errors import MmfeatError
from mmfeat.schemas.visible import visible

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value for machines.")]
StoreUri = Annotated[
    str, typer.Option("--store", envvar="MMFEAT_STORE", help="Local folder or object-store URI.")
]
SnapshotName = Annotated[
    str | None, typer.Option("--snapshot", help="Read the store as it was when this was created.")
]

# Counts and seeds that are given as options: more than anything has, and less than what integers take.
MOST, MOST_SEED = 10**15, 2**63 - 1

STOPPED = "What was committed is kept; the same command goes on from there."

# What is not a terminal gets every column at full width, so that nothing is cut in a log.
_LOG_WIDTH = 250
_PARAGRAPH_WIDTH = 80
# A column of texts that is narrower cannot be read.
_LEAST_COLUMN = 12

_out = Console(highlight=False, width=None if sys.stdout.isatty() else _LOG_WIDTH)
_err = Console(stderr=True, highlight=False)


def say(text: str = "") -> None:
    """A line for people."""
    _out.print(visible(text), markup=False, soft_wrap=True)


def paragraph(text: str) -> None:
    """Lines for people, of at most 80 characters."""
    for line in textwrap.wrap(text, _PARAGRAPH_WIDTH, break_long_words=False, break_on_hyphens=False):
        say(line)


def heading(text: str) -> None:
    """A line that starts a part of the output."""
    _out.print(f"\n[bold]{escape(visible(text))}[/bold]")


def no_nan(value: float | None) -> float | None:
    """What an option was given, which lies within its bounds: NaN lies outside of none."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is no number.")
    return value


def names(words: Sequence[str] | None) -> list[str] | None:
    """What ``--features a,b --features c`` names, each once; None if the option was not given."""
    if words is None:
        return None
    return list(dict.fromkeys(name for word in words for part in word.split(",") if (name := part.strip())))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Rows under headings; numbers with thousands separators, columns named in ``right`` to the right.

    What names a row, in the first column, and what is to the right is never broken. Where the terminal has
    no room for that each row is a paragraph instead.
    """
    kept = (*columns[:1], *right)
    cells = [[_cell(value) for value in row] for row in rows]
    if _least_width(columns, cells, kept) > _out.width:
        for row in cells:
            _paragraph_of(columns, row)
        return
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        side: JustifyMethod = "right" if column in right else "left"
        drawn.add_column(column, justify=side, overflow="fold", no_wrap=column in kept)
    for row in cells:
        drawn.add_row(*map(escape, row))
    _out.print(drawn)


def _least_width(columns: Sequence[str], cells: Sequence[Sequence[str]], kept: Sequence[str]) -> int:
    """Characters that a table takes at least, so that what is broken can still be read."""
    width = 0
    for k, column in enumerate(columns):
        longest = max((cell_len(part) for part in (column, *(row[k] for row in cells))), default=0)
        width += 2 + (longest if column in kept else min(longest, _LEAST_COLUMN))
    return width - 2


def _paragraph_of(columns: Sequence[str], row: Sequence[str]) -> None:
    """The first cell on a line of its own, and below it what the others are, where they are anything."""
    say(row[0])
    facts = [f"{column} {cell}" for column, cell in zip(columns[1:], row[1:], strict=True) if cell]
    line = " "
    for fact in facts:
        if len(line) > 1 and cell_len(f"{line} {fact},") > _out.width:
            say(line)
            line = " "
        line += f" {fact}{',' if fact is not facts[-1] else ''}"
    say(line)


def dims(length: int | None, vectors: int | None) -> str:
    """Length of an item's vector, ``13x768`` where it has 13 of them; nothing for a text."""
    return "x".join(str(n) for n in (vectors, length) if n is not None)


def print_json(value: Any) -> None:
    """One JSON value on standard output; NaN, which JSON lacks, becomes null."""
    sys.stdout.write(json.dumps(_plain(value), ensure_ascii=False, default=str) + "\n")


def print_error(error: MmfeatError, as_json: bool) -> None:
    """An error for people on standard error; for machines as JSON on standard output too."""
    if as_json:
        body = {"error": {"type": type(error).__name__, "message": error.message, "hint": error.hint}}
        report = getattr(error, "report", None)
        print_json(body if report is None else {**body, "report": report.to_dict()})
    _err.print(f"[bold red]Error:[/bold red] {escape(visible(error.message))}", soft_wrap=True)
    if error.hint:
        _err.print(escape(visible(error.hint)), soft_wrap=True)


def print_interrupted(report: Any) -> None:
    """What a run had committed when it was stopped, as JSON; in the form of :func:`print_error`."""
    error = {"type": "Interrupted", "message": "Stopped by Ctrl-C or SIGTERM.", "hint": STOPPED}
    print_json({"error": error, "report": None if report is None else report.to_dict()})


def note(text: str) -> None:
    """A line for people on standard error, beside the output."""
    _err.print(visible(text), markup=False, soft_wrap=True)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return visible(str(value))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

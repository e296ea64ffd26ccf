"""Cells of tables that may hold several values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from mmfeat.datasets.base import Cell
from mmfeat.datasets.textfile import text_or_none


def parsed(text: str | None) -> Cell:
    """A cell of a text file: a list where it is a JSON array of texts or whole numbers, else the text."""
    if text is None or not text.startswith("["):
        return text_or_none(text)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return text  # a text may well begin with a bracket
    plain = isinstance(values, list) and all(is_plain(value) for value in values)
    return listed(values) if plain else text


def is_plain(value: Any) -> bool:
    """Whether a value of JSON is a text, a whole number or null."""
    return value is None or (isinstance(value, str | int) and not isinstance(value, bool))


def listed(values: Iterable[str | int | None]) -> list[str] | None:
    """The texts of a list, blank ones left out; None where none is left."""
    return [str(value) for value in values if value is not None and text_or_none(str(value))] or None


def uniform(cells: Sequence[Cell]) -> tuple[list[Cell], bool]:
    """``(cells, whether they are lists)``: lists all of them where one is."""
    several = any(isinstance(cell, list) for cell in cells)
    return [[cell] if several and isinstance(cell, str) else cell for cell in cells], several

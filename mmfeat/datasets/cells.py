"""Cells of tables: texts, numbers, and lists of texts."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from pyarrow import csv as arrow_csv

from mmfeat.datasets.base import Cell, Value
from mmfeat.datasets.textfile import text_or_none

# Python's own float also takes 1_000 and digits of other scripts.
_NUMBER = re.compile(r"[+-]?(?P<whole>[0-9]*)(?P<rest>\.[0-9]*)?(?P<power>[eE][+-]?[0-9]+)?")
# What the writers of tables put if there is nothing.
_NOTHING = frozenset(arrow_csv.ConvertOptions().null_values)


# Of a number so many digits are sure to be kept by 64 bits of floating point.
_KEPT_DIGITS = 15
# Beyond it no whole number is finite, and Python takes ever longer to read one.
_MOST_DIGITS = 400


class CellTrouble(Exception):
    """A cell holds what its column cannot; says what."""


def number_in(value: Any) -> float | None:
    """The number that a cell holds; None if it is null, NaN, blank or one of the marks for nothing.

    Raises:
        CellTrouble: it holds anything else that is no finite number, or a whole number that 64 bits of
            floating point cannot hold.
    """
    if isinstance(value, str):
        value = _written(value.strip())
    if value is None or value != value:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise CellTrouble(f"holds {str(value)[:40]!r}, no number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if math.isinf(found):
        raise CellTrouble(f"holds {str(value)[:40]}, no finite number")
    if isinstance(value, int) and int(found) != value:
        raise CellTrouble(f"holds {value}, which a number column would round: read it as text")
    return found


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


def is_plain_number(text: str) -> bool:
    """Whether a text writes a number that keeps all its digits: not ``007``, which may name something."""
    found = _NUMBER.fullmatch(text)
    digits = found["whole"] if found else ""
    return bool(digits) and len(digits) <= _KEPT_DIGITS and (digits == "0" or digits[0] != "0")


def _written(text: str) -> int | float | str | None:
    """The number that a text writes; the text itself if it writes none."""
    if text in _NOTHING:
        return None
    found = _NUMBER.fullmatch(text)
    if found is None or not any(mark.isdigit() for mark in f"{found['whole']}{found['rest']}"):
        return text
    return float(text) if found["rest"] or found["power"] or len(text) > _MOST_DIGITS else int(text)


def is_plain(value: Any) -> bool:
    """Whether a value of JSON is a text, a whole number or null."""
    return value is None or (isinstance(value, str | int) and not isinstance(value, bool))


def listed(values: Iterable[str | int | None]) -> list[str] | None:
    """The texts of a list, blank ones left out; None if none is left."""
    return [str(value) for value in values if value is not None and text_or_none(str(value))] or None


def uniform(cells: Sequence[Value]) -> tuple[list[Value], bool]:
    """``(cells, whether they are lists)``: lists all of them where one is."""
    several = any(isinstance(cell, list) for cell in cells)
    return [[cell] if several and isinstance(cell, str) else cell for cell in cells], several

"""Ids that a target cannot hold are refused by name, never changed; or numbered, when asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from mmfeat.export.content import ItemMap
from mmfeat.schemas.errors import UsageError

# A file's name may have 255 bytes, its extension included.
MAX_NAME_BYTES = 250

# What pandas reads as "no value" unless it is told otherwise, which loaders seldom do.
PANDAS_NULLS = frozenset(
    (
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
        *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    )
)

NUMBER_THEM = "Number them instead: --option ids=index; id_map.parquet says which is which."


class IdOptions(BaseModel):
    """Options of a format that goes by the items' own ids.

    Attributes:
        ids: ``raw``: the dataset's own ids. ``index``: items (and users) are numbered from 0, as the
            id maps say, for ids that the target's files cannot hold.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ids: Literal["raw", "index"] = "raw"

    def tokens(self, ids: Sequence[str]) -> list[str]:
        """What the target calls the items, or users, at these positions."""
        return [str(k) for k in range(len(ids))] if self.ids == "index" else list(ids)


class NumberOptions(BaseModel):
    """Options of a format whose target goes by integers above 0.

    Attributes:
        ids: ``raw``: the dataset's own ids, which must be such integers. ``index``: items are numbered
            from 1 in the order of ``id_map.parquet``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ids: Literal["raw", "index"] = "raw"

    def numbers(self, ids: Sequence[str]) -> np.ndarray:
        """The items' integers, int64 ``[n]``; UsageError for ids that are none."""
        if self.ids == "index":
            return np.arange(1, len(ids) + 1)
        refuse_ids(ids, lambda i: not is_number(i), "are no integers from 1 on", NUMBER_THEM)
        return np.array([int(i) for i in ids], np.int64)


def numbered_id(number: int, items: ItemMap, kind: str) -> str:
    """The item that a target calls ``number``; ``kind`` is the option ``ids`` of :class:`NumberOptions`."""
    return items.ids[number - 1] if kind == "index" else str(number)


def is_number(item_id: str) -> bool:
    """Whether an id is an int64 above 0 as Python writes it: ``7``, and not ``07`` or ``7.0``."""
    digits = item_id.isascii() and item_id.isdigit() and not item_id.startswith("0")
    return digits and len(item_id) < 20 and int(item_id) < 2**63


def raw_id(token: str, items: ItemMap, kind: str) -> str:
    """The item that a target calls ``token``, with ``kind`` = the option ``ids``."""
    return items.ids[int(token)] if kind == "index" else token


def refuse_ids(ids: Sequence[str], bad: Callable[[str], bool], why: str, hint: str) -> None:
    """UsageError that names the ids for which ``bad`` holds, says ``why`` and what to do."""
    found = [i for i in ids if bad(i)]
    if found:
        shown = ", ".join(repr(i) for i in found[:5]) + (", ..." if len(found) > 5 else "")
        raise UsageError(f"{len(found):,} ids {why}: {shown}.", hint=hint)


def breaks_lines(text: str) -> bool:
    """Whether a text cannot be a field of an unquoted tab-separated line: it holds a control character."""
    return any(c < " " or c in "\x7f\x85\u2028\u2029" for c in text)


def case_clashes(ids: Sequence[str]) -> list[str]:
    """The ids that differ from an earlier one only in case: one file for both on many systems."""
    folded: dict[str, str] = {}
    return [i for i in ids if folded.setdefault(i.casefold(), i) != i]


def is_no_file_name(item_id: str) -> bool:
    """Whether an id cannot name a file on common systems."""
    unsafe = item_id in ("", ".", "..") or any(c in '/\\:*?"<>|' or c < " " for c in item_id)
    return unsafe or len(item_id.encode()) > MAX_NAME_BYTES

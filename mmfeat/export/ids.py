"""Ids that a target cannot hold are refused by name, never changed; or numbered, when asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from mmfeat.export.base import Exporter
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


class OwnIds(BaseModel):
    """Options of a format that goes by the items' own ids, or numbers them.

    Attributes:
        first: the number of the first item, and of the first user, with ``index``.
        ids: ``raw``: the dataset's own ids. ``index``: items (and users) are numbered, as
            ``internal_id`` of the id maps says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: ClassVar[int] = 0
    ids: Literal["raw", "index"] = "raw"


class IdOptions(OwnIds):
    """Options of a format whose target goes by texts; numbers are for ids that its files cannot hold."""

    def tokens(self, ids: Sequence[str]) -> list[str]:
        """What the target calls the items, or users, at these positions."""
        return [str(self.first + k) for k in range(len(ids))] if self.ids == "index" else list(ids)


class NumberOptions(OwnIds):
    """Options of a format whose target goes by integers above 0, which raw ids must be."""

    first: ClassVar[int] = 1

    def numbers(self, ids: Sequence[str]) -> np.ndarray:
        """The items' integers, int64 ``[n]``; UsageError for ids that are none."""
        if self.ids == "index":
            return np.arange(self.first, self.first + len(ids))
        refuse_ids(ids, lambda i: not is_number(i), "are no integers from 1 on", NUMBER_THEM)
        return np.array([int(i) for i in ids], np.int64)


def bases(exporter: Exporter, options: BaseModel) -> tuple[int | None, int | None]:
    """First number of items and of users: the format's own, or those that ``ids=index`` gives them.

    None if the target goes by raw ids.
    """
    if isinstance(options, OwnIds) and options.ids == "index":
        return options.first, options.first
    return exporter.id_base, exporter.user_base


def numbered_id(number: int, items: ItemMap, kind: str) -> str:
    """The item that a target calls ``number``; ``kind`` is the option ``ids`` of :class:`NumberOptions`."""
    return items.ids[number - 1] if kind == "index" else str(number)


def is_number(item_id: str) -> bool:
    """Whether an id is an int64 above 0 as Python writes it: ``7``, and not ``07`` or ``7.0``."""
    digits = item_id.isascii() and item_id.isdigit() and not item_id.startswith("0")
    return digits and len(item_id) < 20 and int(item_id) < 2**63


def raw_id(token: str, items: ItemMap, kind: str) -> str:
    """The item that a target calls ``token``, with ``kind`` = the option ``ids``."""
    if kind == "raw":
        return token
    # Exports of earlier versions have no numbers in their map; they counted from 0.
    place = int(token) - (items.internal[0] if items.internal else 0)
    if place < 0:
        raise ValueError(f"there is no item {token}")
    return items.ids[place]


def refuse_ids(ids: Sequence[str], bad: Callable[[str], bool], why: str, hint: str) -> None:
    """UsageError that names the ids for which ``bad`` holds, says ``why`` and what to do."""
    found = [i for i in ids if bad(i)]
    if found:
        shown = ", ".join(repr(i) for i in found[:5]) + (", ..." if len(found) > 5 else "")
        raise UsageError(f"{len(found):,} ids {why}: {shown}.", hint=hint)


def refuse_gaps(ids: Sequence[str], numbers: np.ndarray, target: str, instead: str = NUMBER_THEM) -> None:
    """UsageError where ``numbers`` are not 1 to N: ``target`` finds an item's row by its number."""
    # Ids are unique and above 0, so all are there when none is above their count.
    beyond = {i for i, number in zip(ids, numbers, strict=True) if number > len(numbers)}
    refuse_ids(
        ids,
        beyond.__contains__,
        f"are beyond {len(numbers):,}, the number of items; others are absent, and {target} finds an item by"
        " its position",
        f"Export all items from 1 on (--missing mean, not drop). {instead}",
    )


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

"""Ids that a target cannot hold are refused by name, never changed; or numbered, when asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

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


def is_no_file_name(item_id: str) -> bool:
    """Whether an id cannot name a file on common systems."""
    unsafe = item_id in ("", ".", "..") or any(c in '/\\:*?"<>|' or c < " " for c in item_id)
    return unsafe or len(item_id.encode()) > MAX_NAME_BYTES

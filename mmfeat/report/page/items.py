"""All items as data inside the page, from which its script draws the rows that are looked at."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mmfeat.schemas.visible import visible

COLUMNS = ("id", "title", "caption", "status", "reason", "suspects", "words", "grounding")

# An id is never cut.
_TEXTS = tuple(COLUMNS.index(name) for name in ("title", "caption", "reason"))

# With pictures and sections the page stays below 15 MB.
_MOST_BYTES = 10_000_000
_SHORTEST = 120

# What could end the script element or open a comment in it (HTML, "restrictions for contents of script").
_ESCAPED = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Item:
    """A row of the table.

    Args:
        id: of the item.
        title: of the item, or nothing.
        caption: what was said of it, or nothing.
        status: ``ok``, ``missing``, ``failed`` or ``absent``.
        reason: why it is not ok.
        suspects: numbers of the kinds of suspect it is.
        words: length of the caption.
        grounding: similarity of picture and caption; None if it was not scored.
    """

    id: str
    title: str
    caption: str
    status: str
    reason: str
    suspects: tuple[int, ...]
    words: int | None
    grounding: float | None


@dataclass(frozen=True)
class Embedded:
    """What the template needs of all items."""

    json: Markup
    total: int
    notice: str
    statuses: tuple[str, ...]
    kinds: tuple[str, ...]


def embed(items: Sequence[Item], kinds: Sequence[str], most_bytes: int = _MOST_BYTES) -> Embedded:
    """The items as JSON that is safe inside a script element, and cut to fit where they are very many.

    Long texts are cut first; where that is not enough, items that are ok and no suspect are left out from
    the end. ``notice`` says so.

    Args:
        items: in the order they are listed.
        kinds: names of the kinds of suspect; ``Item.suspects`` counts in it.
        most_bytes: what the data may take of the page.
    """
    kept, notice = _fitting([_row(item) for item in items], most_bytes)
    value = {"columns": COLUMNS, "kinds": [visible(kind) for kind in kinds], "rows": kept}
    return Embedded(
        json=Markup(safe_json(value)),
        total=len(items),
        notice=notice,
        statuses=tuple(sorted({item.status for item in items})),
        kinds=tuple(kinds),
    )


Row = list[object]


def _row(item: Item) -> Row:
    grounding = item.grounding
    return [
        visible(item.id),
        visible(item.title),
        visible(item.caption),
        item.status,
        visible(item.reason),
        list(item.suspects),
        item.words,
        None if grounding is None or not math.isfinite(grounding) else round(grounding, 4),
    ]


def _fitting(rows: list[Row], most_bytes: int) -> tuple[list[Row], str]:
    total = len(rows)
    if _size(rows) <= most_bytes:
        return rows, f"All {total:,} items; search and filters run in this page."
    longest = 4000
    while _size(rows) > most_bytes and longest >= _SHORTEST:
        rows = [_cut(row, longest) for row in rows]
        longest //= 2
    notice = f"All {total:,} items, texts cut at {longest * 2:,} characters to keep the page small"
    if _size(rows) > most_bytes:
        rows = _most_telling(rows, most_bytes)
        notice = f"{len(rows):,} of {total:,} items, those with findings first, to keep the page small"
    return rows, notice + "; the JSON of the report has all in full."


def _most_telling(rows: list[Row], most_bytes: int) -> list[Row]:
    status, suspects = COLUMNS.index("status"), COLUMNS.index("suspects")
    left, kept = most_bytes, []
    for row in sorted(rows, key=lambda row: row[status] == "ok" and not row[suspects]):
        left -= _size(row) + len(",")
        if left < 0:
            break
        kept.append(row)
    return kept


def _cut(row: Row, longest: int) -> Row:
    cut = list(row)
    for at in _TEXTS:
        text = str(row[at])
        if len(text) > longest + 1:
            cut[at] = text[:longest] + "…"
    return cut


def _size(value: object) -> int:
    return len(safe_json(value).encode())


def safe_json(value: object) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate(_ESCAPED)

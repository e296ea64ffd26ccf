"""Why items failed, told apart by kind: what differs from item to item within one kind is left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

# Of a status its number is the kind.
_STATUS = re.compile(r"\b(?:answered|status|HTTP|error)[ :=]*\d{3}\b", re.IGNORECASE)
_VARIES = re.compile(
    r"'[^']*'|\"[^\"]*\""  # names of items, files and keys
    r"|\b[a-z][a-z0-9+.-]*://\S+"  # addresses
    r"|(?<![\w.])/?(?:[\w.@%+-]+/)+[\w.@%+-]+"  # paths
    r"|\b(?=\w*\d)(?=\w*[a-z])[\w-]{10,}\b"  # ids of requests and the like
    r"|\b[a-z]+[-_]\d+\b"  # ids of items
    r"|\b0x[0-9a-f]+\b"
    r"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"
    r"|(?<![\w.-])[-+]?\d+(?:[.,:x]\d+)*(?:e[-+]?\d+)?(?=(?:x|\b)|[A-Za-z%]{1,3}\b)",
    re.IGNORECASE,
)
_SHOWN = "\u2026"

# Of servers and engines: what they say when they are in trouble themselves.
_PASSING = re.compile(
    r"the server answered (?:408|425|429|5\d\d)|no answer within|the connection broke|no connection"
    r"|connection attempts failed|no chat completion|no list of vectors|the vLLM engine died"
    # Of the servers of pictures, clips and sounds.
    r"|cannot reach the server|the server did not answer in time|the answer was (?:cut short|still coming)"
    r"|not fetched within",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ReasonCount:
    """Failures of one kind.

    Attributes:
        stage: where they failed.
        reason: in the words of the first of them.
        items: how many there are.
        first: the id of the first.
    """

    stage: str
    reason: str
    items: int
    first: str


def kind_of(reason: str) -> str:
    """A reason without the names, numbers, ids, paths and addresses that differ from item to item."""
    parts, at = [], 0
    for status in _STATUS.finditer(reason):
        parts += [_VARIES.sub(_SHOWN, reason[at : status.start()]), status[0]]
        at = status.end()
    return "".join([*parts, _VARIES.sub(_SHOWN, reason[at:])])


def distinct(failures: pa.Table) -> pa.Table:
    """A row for each stage and reason in their own words: ``stage, reason, items`` and a first ``item_id``.

    A version may have failed for millions of items.
    """
    groups = failures.group_by(["stage", "reason"], use_threads=False)
    found = groups.aggregate([("item_id", "count"), ("item_id", "first")])
    return found.rename_columns({"item_id_count": "items", "item_id_first": "item_id"})


def counted(failures: Iterable[Mapping[str, Any]]) -> list[ReasonCount]:
    """Failures by stage and kind of reason, the commonest first.

    Args:
        failures: rows of ``item_id``, ``stage`` and ``reason``; one with ``items`` stands for so many.
    """
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in failures:
        kind = (row["stage"] or "", kind_of(row["reason"] or ""))
        counts[kind] += row.get("items", 1)
        first.setdefault(kind, row)
    return [
        ReasonCount(kind[0], first[kind]["reason"] or "", items, first[kind]["item_id"])
        for kind, items in counts.most_common()
    ]


def grouped(reasons: Mapping[str, int]) -> dict[str, int]:
    """Reasons to how many, those of one kind as one line, the commonest first.

    A kind that has one reason is shown by it in full.
    """
    kinds: dict[str, dict[str, int]] = {}
    for reason, count in reasons.items():
        kinds.setdefault(kind_of(reason), {})[reason] = count
    lines = {(next(iter(of)) if len(of) == 1 else kind): sum(of.values()) for kind, of in kinds.items()}
    return dict(sorted(lines.items(), key=lambda line: -line[1]))


def may_pass(reasons: Iterable[str]) -> bool:
    """Whether one of the reasons says nothing of its item, so that another try may go well."""
    return any(_PASSING.search(reason) for reason in reasons)

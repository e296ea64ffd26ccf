"""Failures counted by their reason: what a person looks at first, before any item."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# What differs from item to item: texts in quotes, paths and addresses, hexadecimal and other numbers.
_OWN = re.compile(
    r"""'[^']*'|"[^"]*"|\b\w+://\S+|(?<![\w.])(?:/[^\s/:,;]+){2,}|\b0x[0-9a-fA-F]+\b|\b\d[\d,.]*(?<=\d)"""
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


def counted(failures: Iterable[Mapping[str, Any]]) -> list[ReasonCount]:
    """Failures by stage and reason, the commonest first; reasons that differ in a number or a name are one.

    Args:
        failures: rows of ``item_id``, ``stage`` and ``reason``.
    """
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in failures:
        kind = (row["stage"] or "", _OWN.sub("...", row["reason"] or ""))
        counts[kind] += 1
        first.setdefault(kind, row)
    return [
        ReasonCount(kind[0], first[kind]["reason"] or "", items, first[kind]["item_id"])
        for kind, items in counts.most_common()
    ]

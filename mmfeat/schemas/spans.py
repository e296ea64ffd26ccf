"""What each of an item's vectors was made from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

#: The fact of a row that holds the spans of its vectors, in their order.
SPANS = "spans"


@dataclass(frozen=True)
class Span:
    """What one vector was made from.

    Attributes:
        modality: ``video``: a frame or a scene of a clip; ``image``: a picture of a list; or another one.
        start, end: seconds after a clip's first frame, equal for a frame; of a list's pictures the place of
            the first one, from 0, and that behind the last one.
    """

    modality: str
    start: float
    end: float


Spans = tuple[Span, ...]


def written(spans: Iterable[Span]) -> dict[str, Any]:
    """The fact that says it, as plain JSON types."""
    return {SPANS: [asdict(span) for span in spans]}


def plain(spans: Iterable[Spans | None]) -> list[list[dict[str, Any]] | None]:
    """The spans of items as plain JSON types."""
    return [None if own is None else [asdict(span) for span in own] for own in spans]


def read(facts: str | None) -> Spans | None:
    """The spans in the JSON of a row's facts; None if it has none."""
    found = json.loads(facts or "{}").get(SPANS)
    return None if found is None else tuple(Span(**span) for span in found)

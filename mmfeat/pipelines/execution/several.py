"""Several pictures of one item on their way through the stages: each decoded alone, then taken together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa

from mmfeat.extract.fence.decode import Decoded
from mmfeat.pipelines.planning.several import joined_hash, joined_stamps, stamps_of
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.media import Pictures


def together(files: Sequence[str], outcomes: Sequence[Decoded], planned: str | None) -> Decoded:
    """What became of an item's files as if they were one.

    Args:
        planned: their joined stamp when the run was planned.

    Returns:
        Per way that is wanted, a tuple with the value or the ItemError of each file; a failure only where no
        file has a value.
    """
    if not outcomes:
        return Decoded()
    stamps = zip(outcomes, stamps_of(planned, len(files)), strict=True)
    stamp = joined_stamps(files, [found.stamp or before for found, before in stamps])
    content_hash = joined_hash(found.content_hash for found in outcomes)
    seconds = sum(found.seconds for found in outcomes)
    failures = [found.failure for found in outcomes if found.failure is not None]
    if len(failures) == len(outcomes):
        return Decoded(content_hash, stamp, failure=_for_all(failures), seconds=seconds)
    ways = max(len(found.values) for found in outcomes)
    values = [tuple(found.failure or found.values[way] for found in outcomes) for way in range(ways)]
    return Decoded(content_hash, stamp, tuple(map(_or_failure, values)), seconds=seconds)


def _or_failure(values: tuple[Any, ...]) -> Any:
    """The values of one way, or one failure if there are none."""
    failures = [value for value in values if isinstance(value, ItemError)]
    return _for_all(failures) if len(failures) == len(values) else values


def _for_all(failures: Sequence[ItemError]) -> ItemError:
    """The failure that stands for all of an item: one of reading, which may pass, before one of decoding."""
    return next((failure for failure in failures if failure.stage == "read"), failures[0])


def pictures_of(facts: Sequence[Mapping[str, Any]], cell: pa.Buffer) -> Pictures:
    """The pictures of one way, their arrays without a copy.

    Args:
        facts: of each file, the shape of its array, or why there is none.
        cell: the arrays that there are, one after the other.
    """
    data = np.frombuffer(cell, np.uint8)
    pixels: list[np.ndarray] = []
    lost: list[tuple[int, str, str]] = []
    start = 0
    for number, one in enumerate(facts, start=1):
        if "failure" in one:
            stage, reason = one["failure"]
            lost.append((number, stage, reason))
            continue
        size = prod(one["shape"])
        pixels.append(data[start : start + size].reshape(one["shape"])[0])
        start += size
    return Pictures(tuple(pixels), tuple(lost))

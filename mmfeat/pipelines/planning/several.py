"""Several files of one item that are read as one: a list column's first pictures.

What one file has in a column of text (a location, a stamp) several have joined, and their content hash is
that of their hashes. A file that cannot be read has the hash of zeros there: it costs itself alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract.media.read import location_stamp
from mmfeat.pipelines.planning.hashes import ABSENT
from mmfeat.schemas.inputs import column_of
from mmfeat.schemas.spec import FeatureSpec, text_hash
from mmfeat.schemas.templates import END

# Before each stamp. No file stamp and no address holds it, and no joined stamp reads like one file's.
_BEFORE = "\x1d"
# What rows say of a picture that they lack: see :func:`lost_reason`.
_UNREAD = r"(^|; )picture \d+: read: "


def joined_file_stamps(lists: pa.ListArray, stamps: pa.Array) -> pa.Array:
    """``[n]`` :func:`joined_stamps` of each list of locations.

    Args:
        stamps: of the files of all lists, one after the other; null of a file that has none.
    """
    offsets = _offsets(lists)
    # stamped[k]: how many of the first k files have a stamp.
    stamped = np.r_[0, np.cumsum(stamps.is_valid().to_numpy(zero_copy_only=False))]
    places = pc.binary_join_element_wise(location_stamp(""), lists.flatten(), "")
    joined = pc.binary_join(_like(lists, pc.coalesce(stamps.cast(pa.string()), places)), _BEFORE)
    whole = pc.binary_join_element_wise("", joined, _BEFORE)
    any_stamp = pa.array(stamped[offsets[1:]] > stamped[offsets[:-1]])
    return pc.if_else(any_stamp, whole, pa.scalar(None, pa.string())).cast(pa.large_string())


def _like(lists: pa.ListArray, values: pa.Array) -> pa.ListArray:
    """Lists of the same lengths with other values."""
    return pa.ListArray.from_arrays(pa.array(_offsets(lists)), values, mask=lists.is_null())


def _offsets(lists: pa.ListArray) -> np.ndarray:
    """``[n + 1]`` int32: where each list begins in the values of all."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return np.asarray(np.r_[0, np.cumsum(lengths)], dtype=np.int32)


def joined_places(locations: pa.Array) -> pa.Array:
    """``[n]`` what stands for the stamps of joined locations, none of which has one: as of URLs, the places.

    Equal to what :func:`joined_stamps` makes of some that have a stamp beside such.
    """
    before = _BEFORE + location_stamp("")
    places = pc.replace_substring(pc.utf8_rtrim(locations, END), END, before)
    return pc.binary_join_element_wise(before, places, "")


def joined_stamps(locations: Sequence[str], stamps: Iterable[str | None]) -> str | None:
    """The stamps of an item's files; None if no file has one. Of one without, its location stands."""
    known = list(stamps)
    if not any(known):
        return None
    both = zip(locations, known, strict=True)
    return "".join(_BEFORE + (stamp or location_stamp(location)) for location, stamp in both)


def each_stamp(stamp: str) -> list[str]:
    """The stamps that a joined one is of; a file's own alone."""
    return stamp.split(_BEFORE)[1:] if stamp.startswith(_BEFORE) else [stamp]


def stamps_of(joined: str | None, n: int) -> list[str | None]:
    """The ``n`` stamps that :func:`joined_stamps` joined; None of each where these are others."""
    parts = (joined or "").split(_BEFORE)[1:]
    return [*parts] if len(parts) == n else [None] * n


def joined_hash(hashes: Iterable[str | None]) -> str | None:
    """The content hash of an item's files; None if no file could be read."""
    known = list(hashes)
    return text_hash("+".join(one or ABSENT for one in known)) if any(known) else None


def lost_reason(lost: Iterable[tuple[int, str, str]]) -> str:
    """What a row says of pictures that it lacks: the number, stage and reason of each."""
    return "; ".join(f"picture {number}: {stage}: {reason}" for number, stage, reason in lost)


def lack_unread(reasons: pa.Array) -> np.ndarray:
    """``[n]`` bool: which rows lack pictures that could not be read, by what they say. What could be read and
    not decoded says all of its content."""
    found = pc.match_substring_regex(reasons, _UNREAD)
    return np.asarray(found.fill_null(False).to_numpy(zero_copy_only=False))


def reads_several(spec: FeatureSpec) -> bool:
    """Whether a feature reads several pictures of an item."""
    return any(column_of(one.key)[1] is not None for one in spec.inputs)

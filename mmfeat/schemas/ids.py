"""Item ids by their hashes: 12 bytes an item, where a dictionary of strings takes more than 100."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# So many Python objects exist at a time on the way from Arrow to NumPy.
SLICE_ROWS = 16_384


def whole(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array, which is a copy only where the column is in pieces."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def slices(
    array: pa.Array | pa.ChunkedArray, rows: int = SLICE_ROWS
) -> Iterator[tuple[int, pa.Array | pa.ChunkedArray]]:
    """Slices of at most ``rows``, each with the position of its first."""
    for start in range(0, len(array), rows):
        yield start, array.slice(start, rows)


def id_hashes(ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """``[n]`` int64; equal ids have equal ones in the same process, and so may different ids."""
    hashes = np.empty(len(ids), dtype=np.int64)
    for start, some in slices(ids):
        hashes[start : start + len(some)] = np.fromiter(map(hash, some.to_pylist()), np.int64, len(some))
    return hashes


class Places:
    """Where ids stand in a column.

    Args:
        ids: the column; no id comes twice.
    """

    def __init__(self, ids: pa.Array) -> None:
        self._ids = ids
        hashes = id_hashes(ids)
        self._order = np.argsort(hashes, kind="stable").astype(np.uint32)
        self._hashes = hashes[self._order]

    def of(self, ids: pa.Array) -> np.ndarray:
        """``[n]`` int64: the place of each of ``ids``, -1 if it has none."""
        hashes = id_hashes(ids)
        place = np.full(len(ids), -1, dtype=np.int64)
        # In the order of their hashes, so that one search looks near where the last one did.
        left = np.argsort(hashes)
        at = np.searchsorted(self._hashes, hashes[left])
        # One round, but for different ids that have one hash: these stand beside each other.
        while len(left):
            inside = at < len(self._hashes)
            left, at = left[inside], at[inside]
            alike = self._hashes[at] == hashes[left]
            left, at = left[alike], at[alike]
            found = self._order[at]
            equal = pc.equal(self._ids.take(pa.array(found)), ids.take(pa.array(left)))
            same = equal.to_numpy(zero_copy_only=False)
            place[left[same]] = found[same]
            left, at = left[~same], at[~same] + 1
        return place

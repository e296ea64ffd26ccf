"""Content hashes as rows of numbers: a SHA-256 is four uint64, half of what its text takes in memory.

A joint hash (:func:`mmfeat.pipelines.planning.contents.joint_hash`) is the hashes of what is read
together, such as media and then the item's texts; each part of it is a row of its own here.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

WORDS = 4
_HEX = 64
#: The hash of what an item may lack and lacks.
ABSENT = "0" * _HEX


def none_yet(n: int) -> np.ndarray:
    """``[n, 4]`` uint64 to be filled; what is never written takes no memory."""
    return np.zeros((n, WORDS), dtype=np.uint64)


def of_texts(texts: pa.Array) -> np.ndarray:
    """``[n, 4]`` uint64: :func:`mmfeat.schemas.spec.text_hash` of each of ``texts``, none of them null."""
    digests = (hashlib.sha256(text).digest() for text in texts.cast(pa.binary()).to_pylist())
    return np.frombuffer(b"".join(digests), dtype=np.uint64).reshape(-1, WORDS)


def from_hex(column: pa.Array, part: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """One part of each of a column's joint hashes.

    Returns:
        ``[m, 4]`` uint64, of the rows that have the part; ``[n]`` bool, which these are.
    """
    start = part * (_HEX + len("+"))
    there = pc.greater_equal(pc.binary_length(column), start + _HEX).fill_null(False)
    texts = pc.utf8_slice_codeunits(column.filter(there), start, start + _HEX)
    _, offsets, characters = texts.buffers()
    first = np.frombuffer(offsets, np.int32, count=1, offset=4 * texts.offset)[0] if len(texts) else 0
    digits = np.frombuffer(characters or b"", np.uint8, count=_HEX * len(texts), offset=first)
    # The lower half of "0" to "9" is their value, and that of "a" to "f" is 9 less than theirs.
    digits = (digits & 15) + 9 * (digits >> 6)
    numbers = (digits[0::2] << 4) | digits[1::2]
    return numbers.view(np.uint64).reshape(-1, WORDS), there.to_numpy(zero_copy_only=False)


def joint_from_hex(column: pa.Array, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`from_hex`: ``[m, 4 * parts]`` uint64, and which rows have so many parts."""
    last, there = from_hex(column, parts - 1)
    whole = column.filter(pa.array(there))
    return np.hstack([*(from_hex(whole, part)[0] for part in range(parts - 1)), last]), there


def to_hex(hashes: np.ndarray) -> pa.StringArray:
    """The hashes as they are written: 64 hex digits."""
    offsets = np.arange(0, _HEX * (len(hashes) + 1), _HEX, dtype=np.int32)
    characters = np.ascontiguousarray(hashes).tobytes().hex().encode()
    return pa.StringArray.from_buffers(len(hashes), pa.py_buffer(offsets), pa.py_buffer(characters))


def same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``[n]`` bool: where the rows of two arrays are equal."""
    return np.asarray(np.logical_and.reduce([a[:, k] == b[:, k] for k in range(a.shape[1])]))


def first_equal(rows: np.ndarray) -> np.ndarray:
    """``[n]`` int64: for each row of ``[n, any]`` numbers, the position of the first row that equals it."""
    first = np.arange(len(rows))
    ordered = np.sort(rows[:, 0])
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(repeated):
        return first
    some = np.flatnonzero(np.isin(rows[:, 0], repeated))
    some = some[np.lexsort(rows[some].T)]
    begins = np.r_[True, ~same(rows[some[1:]], rows[some[:-1]])]
    # The sort is stable: of equal rows the first one stands first.
    first[some] = some[begins][np.cumsum(begins) - 1]
    return first


class Finder:
    """Looks hashes up among ``[n, any]`` uint64 rows, no two of them equal."""

    def __init__(self, rows: np.ndarray) -> None:
        keys = _mixed(rows)
        self._order = np.argsort(keys)
        self._keys, self._rows = keys[self._order], rows

    def find(self, rows: np.ndarray) -> np.ndarray:
        """``[m]`` int64: the position of an equal row, -1 if there is none.

        Should two rows have one key, which is as likely as equal hashes of 64 bits, one is never found.
        """
        at = np.minimum(np.searchsorted(self._keys, _mixed(rows)), len(self._keys) - 1)
        found = self._order[at]
        return np.where(same(self._rows[found], rows), found, -1)


def _mixed(rows: np.ndarray) -> np.ndarray:
    keys = np.zeros(len(rows), dtype=np.uint64)
    for k in range(rows.shape[1]):
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + rows[:, k]
    return keys

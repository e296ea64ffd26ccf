"""Finding files with the same bytes without reading every file.

Equal files have equal sizes, and files of equal size that start and end alike are rarely different:
only those are read in full for their hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from mmfeat.extract.media.read import read_media, size_of_stamp
from mmfeat.pipelines.planning import hashes
from mmfeat.pipelines.planning.several import each_stamp, joined_hash
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.ids import slices
from mmfeat.schemas.media import FetchOptions
from mmfeat.schemas.templates import values_of

# Hashing is bound by the disk and releases the interpreter lock.
_THREADS = 8
_WAITING = 1024
_EDGE_BYTES = 4096

_Read = TypeVar("_Read")


def hash_contents(
    locations: pa.Array, max_bytes: int, fetch: FetchOptions, *, several: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """SHA-256 of the files' contents.

    Args:
        several: whether each location is several joined ones, whose hash is a joined one.

    Returns:
        ``[m, 4]`` uint64, of the files that could be read; ``[n]`` bool, which these are (of the others
        the run will say why).
    """
    hashed = _hash_of_several if several else _hash
    read = list(_each(locations, lambda location: hashed(location, max_bytes, fetch)))
    raw = b"".join(content for content in read if content is not None)
    there = np.array([content is not None for content in read], dtype=bool)
    return np.frombuffer(raw, np.uint64).reshape(-1, hashes.WORDS), there


def sizes_of(stamps: pa.Array) -> np.ndarray:
    """``[n]`` int64: the file sizes in bytes that stamps name, of joined ones their sum; 0 for a URL's, and
    for an empty file."""
    named = (_size(stamp) for _, some in slices(stamps) for stamp in some.to_pylist())
    return np.fromiter(named, np.int64, len(stamps))


def _size(stamp: str) -> int:
    return sum(size_of_stamp(one) or 0 for one in each_stamp(stamp))


def likely_copies(
    locations: pa.Array, rows: np.ndarray, sizes: np.ndarray, known: np.ndarray, *, several: bool = False
) -> np.ndarray:
    """Positions in ``rows`` of files that may hold the same bytes as another, or as a known content.

    Args:
        several: whether each location is several joined ones.
        locations, rows: of all media, and which of them to look at.
        sizes: ``[len(rows)]`` int64, in bytes; 0 for those that have no duplicate.
        known: sizes of files whose content is known.
    """
    found, often = np.unique(sizes, return_counts=True)
    alike = (sizes > 0) & (np.isin(sizes, found[often > 1]) | np.isin(sizes, known))
    some = np.flatnonzero(alike)
    # Of the edges their hash alone is kept: should two be equal by chance, a file more is read.
    edges_of = _edges_of_several if several else _edges
    edges = np.fromiter(_each(locations.take(pa.array(rows[some])), edges_of), np.int64, len(some))
    _, group, repeated = np.unique(sizes[some] ^ edges, return_inverse=True, return_counts=True)
    return np.asarray(some[(repeated[group] > 1) | np.isin(sizes[some], known)])


def _each(locations: pa.Array, read: Callable[[str], _Read]) -> Iterator[_Read]:
    """What ``read`` gives for each location, several of which are read at a time."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for _, some in slices(locations, _WAITING):
            yield from pool.map(read, some.to_pylist())


def _hash(location: str, max_bytes: int, fetch: FetchOptions) -> bytes | None:
    try:
        return bytes.fromhex(read_media(location, max_bytes, fetch).content_hash)
    except ItemError:
        return None


def _hash_of_several(locations: str, max_bytes: int, fetch: FetchOptions) -> bytes | None:
    each = [_hash(location, max_bytes, fetch) for location in values_of(locations)]
    joined = joined_hash(None if one is None else one.hex() for one in each)
    return None if joined is None else bytes.fromhex(joined)


def _edges_of_several(locations: str) -> int:
    return hash(tuple(map(_edges, values_of(locations))))


def _edges(location: str) -> int:
    """A hash of the first and last bytes of a local file; 0 if they can't be had cheaply."""
    if "://" in location:
        return 0
    try:
        with Path(location).open("rb") as file:
            head = file.read(_EDGE_BYTES)
            file.seek(max(0, file.seek(0, 2) - _EDGE_BYTES))
            return hash(head + file.read(_EDGE_BYTES))
    except OSError:
        return 0

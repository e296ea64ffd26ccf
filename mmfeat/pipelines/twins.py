"""Finding files with the same bytes without reading every file.

Equal files have equal sizes, and files of equal size that start and end alike are rarely different:
only those are read in full for their hash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmfeat.extract.media.read import read_media, size_of_stamp
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.media import FetchOptions

# Hashing is bound by the disk and releases the interpreter lock.
_THREADS = 8
_EDGE_BYTES = 4096


def hash_contents(locations: Sequence[str], max_bytes: int, fetch: FetchOptions) -> list[str | None]:
    """SHA-256 of each file's content; None where it can't be read (the run will say why)."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda location: _hash(location, max_bytes, fetch), locations))


def likely_copies(locations: Sequence[str], stamps: Sequence[str], committed: set[str]) -> list[int]:
    """Positions of files that may hold the same bytes as another, or as a committed one.

    Args:
        locations, stamps: the files and their stamps.
        committed: stamps of files whose features are in the store.
    """
    sizes = [size_of_stamp(stamp) for stamp in stamps]
    often = Counter(size for size in sizes if size is not None)
    stored = {size_of_stamp(stamp) for stamp in committed if stamp}
    same_size = [k for k, size in enumerate(sizes) if size and (often[size] > 1 or size in stored)]
    with ThreadPoolExecutor(_THREADS) as pool:
        edges = list(pool.map(lambda k: _edges(locations[k]), same_size))
    repeated = Counter(zip((sizes[k] for k in same_size), edges, strict=True))
    return [
        k
        for k, edge in zip(same_size, edges, strict=True)
        if repeated[(sizes[k], edge)] > 1 or sizes[k] in stored
    ]


def _hash(location: str, max_bytes: int, fetch: FetchOptions) -> str | None:
    try:
        return read_media(location, max_bytes, fetch).content_hash
    except ItemError:
        return None


def _edges(location: str) -> bytes | None:
    """The first and last bytes of a local file; None where they can't be had cheaply."""
    if "://" in location:
        return None
    try:
        with Path(location).open("rb") as file:
            head = file.read(_EDGE_BYTES)
            file.seek(max(0, file.seek(0, 2) - _EDGE_BYTES))
            return head + file.read(_EDGE_BYTES)
    except OSError:
        return None

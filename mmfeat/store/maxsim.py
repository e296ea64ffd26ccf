"""Searches of features that hold any number of vectors per item, by MaxSim.

An item's score is the sum, over the vectors of the query, of the highest cosine to any of the item's vectors,
as ColBERT scores a passage (arXiv 2004.12832). Of a query of one vector it is the highest cosine.

Without an index every vector is compared, a few MiB of them at a time, in a precision that bounds what a
score can be off. The items that this leaves in doubt are scored again in float64, so that rounding decides
neither rank nor membership. With one, what Lance's index finds is scored in float64.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import OK
from mmfeat.schemas.int8 import numbers_of
from mmfeat.store.database import READ_AHEAD_BYTES, Database
from mmfeat.store.rows import matrix_of, table_of
from mmfeat.store.vector_index import VectorIndex, index_of
from mmfeat.store.versions import FeatureVersion

# What is compared at a time: enough for a matrix product to be quick, and little memory.
_BLOCK_BYTES = 4 << 20
_MOST_ROWS = 8192
# What float32 holds of the squares of float16 numbers is exact enough, and of int8 ones exact; those of
# float32 could overflow.
_FIRST_LOOK = {pa.int8(): np.float32, pa.float16(): np.float32, pa.float32(): np.float64}
# Sums of one and the same terms in another order differ by less.
_DECIMALS = 12


@dataclass(frozen=True)
class Chosen:
    """Which items a search is among.

    Attributes:
        without: ids that are left out.
        among: ids to choose from; None for all.
    """

    without: Collection[str] = ()
    among: Collection[str] | None = None

    def of(self, ids: pa.Array) -> np.ndarray:
        """``[n]`` bool: which of these ids may be found."""
        chosen = pc.invert(pc.is_in(ids, value_set=pa.array(list(self.without), pa.string())))
        if self.among is not None:
            among = pc.is_in(ids, value_set=pa.array(list(self.among), pa.string()))
            chosen = pc.and_(chosen, among)
        return np.asarray(chosen.to_numpy(zero_copy_only=False), dtype=bool)


def directions(version: FeatureVersion, query: np.ndarray) -> np.ndarray:
    """A query's vectors ``[m, dims]``, or its one ``[dims]``, scaled to length 1 in float64.

    Raises:
        UsageError: the shape is not the feature's, or a vector has no direction.
    """
    vectors = np.atleast_2d(np.asarray(query, dtype=np.float64))
    if vectors.ndim != 2 or vectors.shape[1] != version.spec.dims or not len(vectors):
        raise UsageError(
            f"{version.version} has vectors of {version.spec.dims} dims; "
            f"the query has the shape {np.shape(query)}.",
            hint="A query is one vector, or a list of them.",
        )
    norms = np.linalg.norm(vectors, axis=1)
    if not np.isfinite(norms).all() or not norms.all():
        raise UsageError("A query vector has no direction: it is all zero, or holds NaN or infinity.")
    return np.asarray(vectors / norms[:, None])


def nearest(
    database: Database, version: FeatureVersion, query: np.ndarray, k: int, chosen: Chosen, exact: bool
) -> list[tuple[str, float]]:
    """The ``k`` items with the highest scores, the highest first, equal ones by id, with their scores.

    Args:
        query: ``[m, dims]`` of length 1, float64.
        exact: compare with every vector, even where there is an index.
    """
    table = table_of(database, version)
    with database.errors(f"search {version.version}"):
        # An index knows nothing of what may be found, and a choice may be of few items.
        index = None if exact or chosen.among is not None else index_of(table)
        if index is not None:
            found = candidates(table, query, k + len(chosen.without), index)
            found = [hit for hit in found if hit[0] not in chosen.without]
            if len(found) >= k:
                return found[:k]
        places, scores = _first_look(table, query, chosen)
        in_doubt = _in_doubt(table, scores, len(query), k)
        return _in_order(_scored_again(table, places[in_doubt], query))[:k]


def candidates(
    table: lance.LanceDataset, query: np.ndarray, wanted: int, index: VectorIndex
) -> list[tuple[str, float]]:
    """The items that the index finds, scored exactly and in their order: more than are wanted."""
    found = table.to_table(
        columns=["item_id", "tokens"],
        nearest={
            "column": "tokens",
            "q": query.astype(np.float32),
            "metric": "cosine",
            **index.nearest_tokens(wanted),
        },
        disable_scoring_autoprojection=True,
    )
    return _in_order(hit for batch in found.to_batches() for hit in _exact(batch, query))


def _in_order(hits: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """Without items none of whose vectors has a direction."""
    return sorted((hit for hit in hits if np.isfinite(hit[1])), key=lambda hit: (-hit[1], hit[0]))


def _first_look(
    table: lance.LanceDataset, query: np.ndarray, chosen: Chosen
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the items that may be found, and about their scores."""
    first = query.astype(_FIRST_LOOK[_numbers(table)])
    places, scores, start = [np.empty(0, np.int64)], [np.empty(0, first.dtype)], 0
    batches = table.to_batches(
        columns=["item_id", "tokens"],
        batch_size=_rows_at_a_time(table),
        batch_readahead=2,
        io_buffer_size=READ_AHEAD_BYTES,
    )
    for batch in batches:
        counts = pc.fill_null(pc.list_value_length(batch["tokens"]), 0).to_numpy(zero_copy_only=False)
        wanted = chosen.of(batch["item_id"]) & (counts > 0)
        found = scores_of(batch["tokens"].filter(pa.array(wanted)), first)
        there = np.isfinite(found)
        places.append(start + np.flatnonzero(wanted)[there])
        scores.append(found[there])
        start += len(batch)
    return np.concatenate(places), np.concatenate(scores)


def scores_of(lists: pa.ListArray, query: np.ndarray) -> np.ndarray:
    """``[n]`` scores of items in the query's number type; -inf where no vector of an item has a direction.

    Args: see :func:`maxima_of`.
    """
    return np.asarray(maxima_of(lists, query).sum(axis=1))


def maxima_of(lists: pa.ListArray, query: np.ndarray) -> np.ndarray:
    """``[n, m]``: the highest cosine of each item's vectors to each of the query's.

    Args:
        lists: the vectors of each item; none is null.
        query: ``[m, dims]`` of length 1.
    """
    ends = np.cumsum(pc.list_value_length(lists).to_numpy(zero_copy_only=False), dtype=np.int64)
    flat = _numbers_of(lists)
    found = [np.empty((0, len(query)), query.dtype)]
    done = 0
    for rows in _blocks(ends, flat.shape[1] * query.itemsize):
        last = int(ends[rows.stop - 1])
        cosines = _cosines(flat[done:last], query)
        starts = np.concatenate([[done], ends[rows.start : rows.stop - 1]]) - done
        found.append(np.maximum.reduceat(cosines, starts, axis=0))
        done = last
    return np.concatenate(found)


def _numbers_of(lists: pa.ListArray) -> np.ndarray:
    """``[all vectors, dims]`` of lists; of int8 ones without their scales, which a cosine does without."""
    flat = matrix_of(lists.flatten())
    return numbers_of(flat) if flat.dtype == np.int8 else flat


def _blocks(ends: np.ndarray, vector_bytes: int) -> Iterator[slice]:
    """Items whose vectors are compared together: as many as fill a block, or one that alone is larger."""
    most = max(1, _BLOCK_BYTES // vector_bytes)
    start, done = 0, 0
    while start < len(ends):
        stop = max(start + 1, int(np.searchsorted(ends, done + most, side="right")))
        yield slice(start, stop)
        start, done = stop, int(ends[stop - 1])


def _cosines(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """``[n, m]`` cosines; -inf for a vector that is all zero."""
    exact = vectors.astype(query.dtype)
    norms = np.sqrt(np.einsum("nd,nd->n", exact, exact))
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = exact @ query.T / norms[:, None]
    cosines[norms == 0] = -np.inf
    return np.asarray(cosines)


def _in_doubt(table: lance.LanceDataset, scores: np.ndarray, vectors: int, k: int) -> np.ndarray:
    """Places in ``scores`` of all items that may be among the ``k`` nearest."""
    if len(scores) <= k:
        return np.arange(len(scores))
    dims = table.schema.field("tokens").type.value_type.list_size
    # A sum of n products is off by n roundings of its terms at most, and so are both lengths.
    off = vectors * 2 * (dims + 4) * np.finfo(scores.dtype).eps
    return np.flatnonzero(scores >= np.partition(scores, -k)[-k] - 2 * off)


def _scored_again(
    table: lance.LanceDataset, places: np.ndarray, query: np.ndarray
) -> Iterator[tuple[str, float]]:
    """Ids and float64 scores of the items at ``places``."""
    rows = _rows_at_a_time(table)
    for start in range(0, len(places), rows):
        some = table.take(places[start : start + rows].tolist(), columns=["item_id", "tokens"])
        for batch in some.to_batches():
            yield from _exact(batch, query)


def _exact(batch: pa.RecordBatch, query: np.ndarray) -> Iterator[tuple[str, float]]:
    """Ids and float64 scores: equal ones where the vectors are the same, whatever is beside them."""
    for row, item_id in enumerate(batch["item_id"].to_pylist()):
        # Item by item: what a matrix product rounds may depend on what else is in it.
        score = float(scores_of(batch["tokens"].slice(row, 1), query)[0])
        within = score if score == -np.inf else min(max(score, -len(query)), len(query))
        yield item_id, round(within, _DECIMALS)


def _rows_at_a_time(table: lance.LanceDataset) -> int:
    """Rows whose vectors fill a block, as far as the first ones tell."""
    first = table.to_table(columns=["tokens"], filter=f"status = '{OK}'", limit=64)["tokens"]
    vectors = pc.sum(pc.list_value_length(first)).as_py() or 0
    width = table.schema.field("tokens").type.value_type
    of_item: int = vectors * width.list_size * width.value_type.bit_width // 8 // max(1, len(first))
    return min(_MOST_ROWS, max(1, _BLOCK_BYTES // max(1, of_item)))


def _numbers(table: lance.LanceDataset) -> pa.DataType:
    return table.schema.field("tokens").type.value_type.value_type

"""Building a vector index, and measuring on the store's own vectors how much of it a search needs."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import lance
import numpy as np
import pyarrow.compute as pc

from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import OK
from mmfeat.schemas.featureset.arrow import token_arrays
from mmfeat.store import maxsim
from mmfeat.store.database import READ_AHEAD_BYTES, Database
from mmfeat.store.rows import matrix_of, table_of
from mmfeat.store.search import candidates
from mmfeat.store.vector_index import MEASURED_K, NAME, ROWS_PER_PARTITION, VectorIndex, index_of, record
from mmfeat.store.versions import FeatureVersion

TARGET_RECALL = 0.98

# IVF_SQ takes any number of dims (product quantisation wants a divisor) and is quickest to build.
_TYPE = "IVF_SQ"
# What quantisation loses no number of probes finds again.
_REFINES = (8, 32, 128)
_SAMPLE = 200
_BATCH_ROWS = 8192
# Of any number of vectors per item.
_SAMPLE_OF_TOKENS, _WORDS, _FEW_ROWS = 50, 32, 256
# Cosines in float64 that differ by less are of vectors that are equally near.
_TIE = 1e-9


@dataclass(frozen=True)
class _Sample:
    """Items that are searched by their own vectors.

    Attributes:
        ids: of the items.
        queries: ``[n, dims]`` float64 of length 1; ``[m, dims]`` each where items have any number of vectors.
        least: ``[n]``, cosine of the last of the true nearest, of which the item itself is none.
        true: ``[n]``, how many of these there are: ten, if there are as many other items.
    """

    ids: list[str]
    queries: np.ndarray | list[np.ndarray]
    least: np.ndarray
    true: np.ndarray


def build_vector_index(
    database: Database, version: FeatureVersion, target_recall: float = TARGET_RECALL
) -> VectorIndex:
    """Build (or build anew) the index that search then uses; see the Store's method."""
    if not 0 < target_recall <= 1:
        raise UsageError(
            f"A target recall of {target_recall}: it is a share above 0 and at most 1.",
            hint=f"{TARGET_RECALL} if left out.",
        )
    if version.spec.kind not in ("vector", "tokens"):
        raise UsageError(f"{version.version} is no vector feature: only vector features have an index.")
    if version.spec.store_dtype == "int8":
        raise UsageError(
            f"{version.version} is stored as int8, whose bytes Lance's index cannot read.",
            hint='Searches compare every vector. An index needs store_dtype = "float16".',
        )
    column = version.spec.form
    table = table_of(database, version)
    rows = table.count_rows(f"status = '{OK}'")
    if not rows:
        raise UsageError(f"{version.version} has no vector yet: there is nothing to index.")
    partitions = max(1, _vectors_in(table, column, rows) // ROWS_PER_PARTITION)
    with database.errors(f"index {version.version}"):
        # Cut short, this leaves an index of which nothing is said, and nothing that is wrong.
        record(table, None)
        table.create_index(column, _TYPE, name=NAME, metric="cosine", num_partitions=partitions, replace=True)
        sample = _sample(table) if column == "vector" else _sample_of_tokens(table)
        index = _measured(table, sample, partitions, target_recall, rows)
        record(table, index)
    return index


def rebuild_vector_index(database: Database, version: FeatureVersion) -> None:
    """Build the vector index anew if there is one; without it where no vector is left."""
    table = table_of(database, version)
    index = index_of(table)
    if index is None:
        return
    if table.count_rows(f"status = '{OK}'"):
        build_vector_index(database, version, index.target_recall or TARGET_RECALL)
    else:
        with database.errors(f"index {version.version}"):
            table.drop_index(NAME)


def _vectors_in(table: lance.LanceDataset, column: str, rows: int) -> int:
    if column == "vector":
        return rows
    counts = (
        pc.sum(pc.list_value_length(batch[column])).as_py() or 0
        for batch in table.to_batches(columns=[column], batch_size=_FEW_ROWS, io_buffer_size=READ_AHEAD_BYTES)
    )
    return sum(counts)


def _measured(
    table: lance.LanceDataset, sample: _Sample, partitions: int, target: float, rows: int
) -> VectorIndex:
    """The cheapest settings that reach ``target``, or those that find most if none does."""

    def with_recall(probes: int, refine: int) -> VectorIndex:
        recall = _recall(table, sample, VectorIndex(probes, refine))
        return VectorIndex(probes, refine, recall, target, rows)

    def recall_of(probes: int) -> float:
        return with_recall(probes, refine).recall or 0.0

    tried: list[VectorIndex] = []
    for refine in _REFINES:
        tried.append(with_recall(partitions, refine))
        if (tried[-1].recall or 0.0) >= target:
            break
    else:
        return max(tried, key=lambda index: index.recall or 0.0)
    # It rises with the probes.
    probes = 1 + bisect_left(range(1, partitions), target, key=recall_of)
    return tried[-1] if probes == partitions else with_recall(probes, refine)


def _sample(table: lance.LanceDataset) -> _Sample:
    """The same items each time, as long as the table's rows are the same."""
    status = table.to_table(columns=["status"])["status"]
    there = np.flatnonzero(pc.equal(status, OK).to_numpy())
    chosen = np.random.default_rng(0).choice(there, min(len(there), _SAMPLE), replace=False)
    rows = table.take(np.sort(chosen).tolist(), columns=["item_id", "vector"]).combine_chunks()
    queries, directed = _directions(matrix_of(rows["vector"].chunk(0)))
    ids = [item_id for item_id, kept in zip(rows["item_id"].to_pylist(), directed, strict=True) if kept]
    nearest = _nearest(table, queries)
    return _Sample(ids, queries, *_counted(nearest))


def _counted(nearest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The last of the true nearest of each item, and how many of them are others."""
    least = np.where(np.isfinite(nearest), nearest, np.inf).min(axis=1)
    return least, np.isfinite(nearest).sum(axis=1) - 1


def _sample_of_tokens(table: lance.LanceDataset) -> _Sample:
    """Items that are searched by some of their own vectors, as many as a question has words."""
    status = table.to_table(columns=["status"])["status"]
    there = np.flatnonzero(pc.equal(status, OK).to_numpy())
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(there, min(len(there), _SAMPLE_OF_TOKENS), replace=False))
    rows = table.take(chosen.tolist(), columns=["item_id", "tokens"]).combine_chunks()
    ids, queries = [], []
    for item_id, own in zip(rows["item_id"].to_pylist(), token_arrays(rows["tokens"].chunk(0)), strict=True):
        vectors, _ = _directions(own)
        if len(vectors):
            some = np.sort(rng.choice(len(vectors), min(len(vectors), _WORDS), replace=False))
            ids.append(item_id)
            queries.append(vectors[some])
    return _Sample(ids, queries, *_counted(_nearest_of_tokens(table, queries)))


def _nearest_of_tokens(table: lance.LanceDataset, queries: list[np.ndarray]) -> np.ndarray:
    """``[n, 11]``: the highest scores of each query, with all items; -inf where there are fewer."""
    best = np.full((len(queries), MEASURED_K + 1), -np.inf)
    if not queries:
        return best
    together, starts = np.concatenate(queries), np.cumsum([0, *map(len, queries[:-1])])
    batches = table.to_batches(
        columns=["tokens"],
        filter=f"status = '{OK}'",
        batch_size=_FEW_ROWS,
        io_buffer_size=READ_AHEAD_BYTES,
    )
    for batch in batches:
        scores = np.add.reduceat(maxsim.maxima_of(batch["tokens"], together), starts, axis=1).T
        best = np.partition(np.hstack([best, scores]), -best.shape[1])[:, -best.shape[1] :]
    return best


def _nearest(table: lance.LanceDataset, queries: np.ndarray) -> np.ndarray:
    """``[n, 11]``: the highest cosines of each query, with all vectors; -inf where there are fewer."""
    best = np.full((len(queries), MEASURED_K + 1), -np.inf)
    for batch in table.to_batches(
        columns=["vector"],
        filter=f"status = '{OK}'",
        batch_size=_BATCH_ROWS,
        io_buffer_size=READ_AHEAD_BYTES,
    ):
        vectors, _ = _directions(matrix_of(batch["vector"]))
        best = np.partition(np.hstack([best, queries @ vectors.T]), -best.shape[1])[:, -best.shape[1] :]
    return best


def _directions(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows scaled to length 1, without those that are all zero; and which rows those are that are left."""
    exact = matrix.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1)
    directed = norms > 0
    return exact[directed] / norms[directed, None], directed


def _found(table: lance.LanceDataset, query: np.ndarray, index: VectorIndex) -> tuple[list[str], np.ndarray]:
    """Ids and scores of what a search for eleven items finds."""
    if query.ndim == 1:
        return candidates(table, query, MEASURED_K + 1, index)
    hits = maxsim.candidates(table, query, MEASURED_K + 1, index)
    return [item_id for item_id, _ in hits], np.array([score for _, score in hits])


def _recall(table: lance.LanceDataset, sample: _Sample, index: VectorIndex) -> float:
    """Share of the true nearest that searches find; 1 if there is none to find."""
    found = 0
    for item_id, query, least in zip(sample.ids, sample.queries, sample.least, strict=True):
        ids, scores = _found(table, query, index)
        others = scores[[other != item_id for other in ids]][:MEASURED_K]
        found += int((others >= least - _TIE).sum())
    true = int(sample.true.sum())
    return found / true if true else 1.0

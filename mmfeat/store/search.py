"""Nearest vectors by cosine: exact, or through a vector index where one was built.

Features with any number of vectors per item are searched by :mod:`mmfeat.store.maxsim`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from mmfeat.schemas.errors import UsageError
from mmfeat.store import maxsim
from mmfeat.store.database import Database
from mmfeat.store.rows import matrix_of, table_of
from mmfeat.store.vector_index import VectorIndex, index_of
from mmfeat.store.versions import FeatureVersion

# Lance ranks in the precision of the stored vectors. Candidates within this cosine of the k-th are
# all fetched and ranked again in float64, so that rounding decides neither rank nor membership.
_RANK_TOLERANCE = {pa.float16(): 5e-4, pa.float32(): 1e-5}
_SPARE = 32


@dataclass(frozen=True)
class Hit:
    """One search result.

    Attributes:
        item_id: the item.
        score: cosine similarity to the query, -1 to 1; of a feature with any number of vectors per item the
            sum, over the query's vectors, of the highest cosine to one of the item's.
    """

    item_id: str
    score: float


def search(
    database: Database,
    version: FeatureVersion,
    vector: np.ndarray,
    k: int,
    exclude: Collection[str],
    exact: bool,
) -> list[Hit]:
    """The ``k`` nearest items; see :meth:`mmfeat.store.Store.search`."""
    query = _direction(version, vector)
    table = table_of(database, version)
    with database.errors(f"search {version.version}"):
        index = None if exact else index_of(table)
        ids, scores = candidates(table, query, k + len(exclude), index)
    hits = (Hit(i, float(s)) for i, s in zip(ids, scores, strict=True) if i not in exclude)
    return list(islice(hits, k))


def search_tokens(
    database: Database,
    version: FeatureVersion,
    query: np.ndarray,
    k: int,
    chosen: maxsim.Chosen,
    exact: bool,
) -> list[Hit]:
    """The same of a feature with any number of vectors per item."""
    directed = maxsim.directions(version, query)
    return [Hit(*found) for found in maxsim.nearest(database, version, directed, k, chosen, exact)]


def refuse_unsearchable(version: FeatureVersion) -> None:
    """UsageError unless the feature holds one vector per item, or any number of them."""
    kind = version.spec.kind
    if kind not in ("vector", "tokens"):
        held = {"vectors": "several vectors per item", "codes": "codes"}.get(kind, "texts")
        raise UsageError(
            f"{version.version} holds {held}, which have no distance.",
            hint="Search a feature of kind 'vector' or 'tokens': `mmfeat status` lists them.",
        )


def candidates(
    table: lance.LanceDataset, query: np.ndarray, wanted: int, index: VectorIndex | None
) -> tuple[list[str], np.ndarray]:
    """At least the ``wanted`` nearest items, ranked, and every item that equals the last of them.

    Args:
        query: of length 1.
        index: None compares with every vector.

    Returns:
        Item ids, and their cosines in float64.
    """
    most = table.count_rows()
    if not most:
        return [], np.empty(0)
    fetch = wanted + _SPARE
    tolerance = _RANK_TOLERANCE[table.schema.field("vector").type.value_type]
    how = {"use_index": False} if index is None else index.nearest(wanted)
    while True:
        ids, scores = _ranked(table, query, min(fetch, most), how)
        if len(ids) < wanted and index is not None:
            # The partitions that were looked into hold no more.
            return candidates(table, query, wanted, None)
        if len(ids) < fetch or scores[-1] < scores[wanted - 1] - tolerance:
            return ids, scores
        fetch *= 4


def _ranked(
    table: lance.LanceDataset, query: np.ndarray, fetch: int, how: dict[str, Any]
) -> tuple[list[str], np.ndarray]:
    """``fetch`` nearest items by descending score in float64, equal ones by item id."""
    nearest = {"column": "vector", "q": query, "k": fetch, "metric": "cosine", **how}
    # Rows without a vector are never candidates: only "ok" rows have one.
    found = table.to_table(
        columns=["item_id", "vector"], nearest=nearest, disable_scoring_autoprojection=True
    )
    parts = [_cosines(batch["vector"], query) for batch in found.to_batches(max_chunksize=8192)]
    scores = np.concatenate([np.empty(0), *parts])
    ids = found["item_id"].to_pylist()
    order = sorted(range(len(ids)), key=lambda i: (-scores[i], ids[i]))
    return [ids[i] for i in order], scores[order]


def _cosines(vectors: pa.FixedSizeListArray, query: np.ndarray) -> np.ndarray:
    matrix = matrix_of(vectors).astype(np.float64)
    # Summed row by row in one order (matmul does not), so that equal vectors get equal scores.
    dots, squares = (matrix * query).sum(axis=1), (matrix * matrix).sum(axis=1)
    return np.asarray(np.clip(dots / np.sqrt(squares), -1.0, 1.0))


def _direction(version: FeatureVersion, vector: np.ndarray) -> np.ndarray:
    """The query scaled to length 1 (float16 tables would overflow on large ones)."""
    query = np.asarray(vector, dtype=np.float64)
    if query.shape != (version.spec.dims,):
        raise UsageError(
            f"{version.version} has vectors of {version.spec.dims} dims; "
            f"the query has the shape {query.shape}."
        )
    norm = float(np.linalg.norm(query))
    if not np.isfinite(norm) or norm == 0.0:
        raise UsageError("The query vector has no direction: it is all zero, or holds NaN or infinity.")
    return query / norm

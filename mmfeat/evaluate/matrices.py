"""Interactions as sparse matrices, and what of them a few factors hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmfeat.evaluate.log import Log

_MORE, _PASSES = 8, 4


def matrix_of(log: Log) -> Any:
    """scipy CSR float32 ``[users, items]``: 1 if a user took an item."""
    from scipy.sparse import csr_matrix

    ones = np.ones(len(log), np.float32)
    return csr_matrix((ones, log.items, log.starts), shape=(log.n_users, log.n_items))


def taken_by(log: Log) -> Any:
    """CSR ``[items, users]`` with rows of length 1: the product of two is the cosine of who took them."""
    from scipy.sparse import diags

    lengths = np.sqrt(np.maximum(log.popularity, 1)).astype(np.float32)
    return (diags(1 / lengths) @ matrix_of(log).T).tocsr()


def balanced(log: Log) -> Any:
    """CSR ``[users, items]``: each interaction over the roots of how much its user and its item have, so that
    neither busy users nor popular items make up all factors."""
    from scipy.sparse import diags

    matrix = matrix_of(log)
    users, items = (np.asarray(matrix.sum(axis=axis)).ravel() for axis in (1, 0))
    left, right = (diags(1 / np.sqrt(np.maximum(sums, 1)).astype(np.float32)) for sums in (users, items))
    return (left @ matrix @ right).tocsr()


def user_factors(matrix: Any, count: int, rng: np.random.Generator) -> np.ndarray:
    """float32 ``[users, count]``: the first left singular vectors, by randomised subspace iteration.

    After Halko, Martinsson and Tropp, "Finding structure with randomness" (2011), algorithms 4.4 and 5.1.
    """
    across = matrix.T.tocsr()
    width = min(count + _MORE, *matrix.shape)
    start = rng.standard_normal((matrix.shape[1], width), np.float32)
    basis = np.linalg.qr(matrix @ start)[0]
    for _ in range(_PASSES):
        basis = np.linalg.qr(matrix @ np.linalg.qr(across @ basis)[0])[0]
    # The small matrix's own vectors turn the basis to the singular ones.
    turned = np.linalg.svd((across @ basis).T, full_matrices=False)[0]
    factors: np.ndarray = (basis @ turned)[:, : min(count, width)]
    return factors

"""Where items lie, so that one question can be compared with all of them in blocks.

A space never holds the scores of everybody with everything: of 10,000 users and a million items these would
be 40 GB. It counts how many items lie above those that are sought.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from mmfeat.evaluate.cases import Cases, Places, Ragged

# Scores of a block: 64 MiB.
_ROWS, _ITEMS = 1024, 16_384
#: Two ways to add up the same products in float32 differ by less, and equal scores are to stay equal.
SLACK = 2e-6


class Space(ABC):
    """Items at places. ``rows`` are questions, one a row, of the same dimensions."""

    n_items: int

    @abstractmethod
    def questions(self, known: Ragged) -> Any:
        """Rows made of the places of known items."""

    @abstractmethod
    def scores(self, rows: Any, owners: np.ndarray, items: np.ndarray) -> np.ndarray:
        """float32: the score of each item for its row, ``owners[k]``."""

    @abstractmethod
    def block(self, rows: Any, items: np.ndarray) -> np.ndarray:
        """float32 ``[rows, items]``: the score of each of some items for each row; an array of its own."""

    @abstractmethod
    def counts(self, rows: Any, bounds: np.ndarray) -> np.ndarray:
        """float64 ``[2, rows, m]``: among all items, how many score higher than each bound, and how many as
        high or higher.

        Args:
            bounds: ``[rows, m]``; NaN if a row has fewer.
        """


class Dense(Space):
    """Places by vectors; the score is the product, which of unit vectors is the cosine.

    Args:
        vectors: float32 ``[items, dims]``.
        slack: scores that differ by no more are equal.
    """

    def __init__(self, vectors: np.ndarray, slack: float = SLACK) -> None:
        self.vectors, self.n_items, self._slack = vectors, len(vectors), np.float32(slack)

    def questions(self, known: Ragged) -> np.ndarray:
        """See :meth:`Space.questions`: the mean of the known items' vectors."""
        rows: np.ndarray = _averaging(known, self.n_items) @ self.vectors
        return rows

    def scores(self, rows: np.ndarray, owners: np.ndarray, items: np.ndarray) -> np.ndarray:
        """See :meth:`Space.scores`."""
        found = np.empty(len(owners), np.float32)
        for at in range(0, len(owners), _ITEMS):
            part = slice(at, at + _ITEMS)
            found[part] = np.einsum("kd,kd->k", rows[owners[part]], self.vectors[items[part]])
        return found

    def block(self, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """See :meth:`Space.block`."""
        found: np.ndarray = rows @ self.vectors[items].T
        return found

    def counts(self, rows: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """See :meth:`Space.counts`."""
        found = np.zeros((2, *bounds.shape))
        for at in range(0, len(rows), _ROWS):
            mine = slice(at, at + _ROWS)
            for start in range(0, self.n_items, _ITEMS):
                block = rows[mine] @ self.vectors[start : start + _ITEMS].T
                found[:, mine] += counts_of(block, bounds[mine], self._slack)
        return found


class Sparse(Space):
    """Places by few entries of many, such as who took an item: one row of a matrix each; the score is the
    product.

    Args:
        places: scipy CSR float32 ``[items, dims]``.
    """

    def __init__(self, places: Any) -> None:
        self.places, self.n_items = places.tocsr(), places.shape[0]
        self._across = self.places.T.tocsr()

    def questions(self, known: Ragged) -> Any:
        """See :meth:`Space.questions`: the mean of the known items' rows."""
        return (_averaging(known, self.n_items) @ self.places).tocsr()

    def scores(self, rows: Any, owners: np.ndarray, items: np.ndarray) -> np.ndarray:
        """See :meth:`Space.scores`."""
        found = np.empty(len(owners), np.float32)
        for at in range(0, len(owners), _ITEMS):
            part = slice(at, at + _ITEMS)
            product = rows[owners[part]].multiply(self.places[items[part]])
            found[part] = np.asarray(product.sum(axis=1)).ravel()
        return found

    def block(self, rows: Any, items: np.ndarray) -> np.ndarray:
        """See :meth:`Space.block`."""
        found: np.ndarray = (rows @ self.places[items].T).toarray()
        return found

    def counts(self, rows: Any, bounds: np.ndarray) -> np.ndarray:
        """See :meth:`Space.counts`: all scores of few rows at a time."""
        found = np.zeros((2, *bounds.shape))
        step = max(1, _ROWS * _ITEMS // max(self.n_items, 1))
        for at in range(0, rows.shape[0], step):
            block = (rows[at : at + step] @ self._across).toarray()
            found[:, at : at + step] += counts_of(block, bounds[at : at + step], np.float32(SLACK))
        return found


class Ordered(Space):
    """One order of the items for everybody.

    Args:
        strength: ``[items]``, higher is earlier.
    """

    def __init__(self, strength: np.ndarray) -> None:
        self.n_items = len(strength)
        self._strength = np.unique(strength, return_inverse=True)[1].astype(np.float32)
        self._sorted = np.sort(self._strength)

    def questions(self, known: Ragged) -> np.ndarray:
        """See :meth:`Space.questions`: nothing is asked."""
        return np.zeros((len(known), 0), np.float32)

    def scores(self, rows: np.ndarray, owners: np.ndarray, items: np.ndarray) -> np.ndarray:
        """See :meth:`Space.scores`."""
        found: np.ndarray = self._strength[items]
        return found

    def block(self, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """See :meth:`Space.block`."""
        return np.tile(self._strength[items], (len(rows), 1))

    def counts(self, rows: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """See :meth:`Space.counts`."""
        below = [np.searchsorted(self._sorted, bounds, side=side) for side in ("right", "left")]
        return self.n_items - np.stack(below).astype(np.float64)


def _averaging(known: Ragged, n_items: int) -> Any:
    """CSR ``[rows, items]``, whose product with the items' places is the mean of each row's known ones."""
    from scipy.sparse import csr_matrix

    weights = np.repeat(1 / np.maximum(known.counts, 1), known.counts).astype(np.float32)
    return csr_matrix((weights, known.values, known.starts), shape=(len(known), n_items))


def counts_of(block: np.ndarray, bounds: np.ndarray, slack: np.float32) -> np.ndarray:
    """How many of each row's scores are higher than each of its bounds, and how many as high or higher.

    Args:
        block: float32 ``[rows, n]``; bounds: ``[rows, m]``, NaN if a row has fewer.

    Returns:
        float64 ``[2, rows, m]``.
    """
    found = np.zeros((2, *bounds.shape))
    lower, upper = bounds.astype(np.float32) - slack, bounds.astype(np.float32) + slack
    # Row by row: a row stays in the processor's cache for all of its bounds.
    for row, k in zip(*np.nonzero(~np.isnan(bounds)), strict=True):
        scores = block[row]
        found[0, row, k] = np.count_nonzero(scores > upper[row, k])
        found[1, row, k] = np.count_nonzero(scores >= lower[row, k])
    return found


def places(space: Space, cases: Cases) -> Places:
    """Where every item that is sought lies among all items but those that are excluded.

    Of equal scores it tells how many there are: an order that a space does not make is no merit of it, and
    :mod:`mmfeat.evaluate.metrics` takes all orders as equally likely.
    """
    return places_of(space, space.questions(cases.known), cases.sought, cases.excluded)


def places_of(space: Space, rows: Any, sought: Ragged, excluded: Ragged) -> Places:
    """As :func:`places`, for questions that are there already."""
    owners = sought.owners
    slots = np.arange(len(owners)) - np.repeat(sought.starts[:-1], sought.counts)
    bounds = np.full((len(sought), int(sought.counts.max(initial=0))), np.nan)
    bounds[owners, slots] = space.scores(rows, owners, sought.values)
    found = space.counts(rows, bounds)
    left_out = excluded.owners
    unasked = space.scores(rows, left_out, excluded.values)
    for k in range(bounds.shape[1]):
        bound = bounds[left_out, k]
        # A comparison with NaN, where a row has fewer bounds, is false.
        for side, taken in enumerate((unasked > bound + SLACK, unasked >= bound - SLACK)):
            found[side, :, k] -= np.bincount(left_out, taken, len(sought))
    above, not_below = found[:, owners, slots]
    return Places(above, np.maximum(not_below - above, 1))

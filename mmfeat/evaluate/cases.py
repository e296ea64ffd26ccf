"""What is to be ranked: rows of items that are known, to be found, and left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ragged:
    """Rows of any number of positions: row ``k`` is ``values[starts[k]:starts[k + 1]]``."""

    values: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def counts(self) -> np.ndarray:
        """int64 ``[rows]``: how many each row has."""
        return np.diff(self.starts)

    @property
    def owners(self) -> np.ndarray:
        """int64 ``[values]``: the row of each value."""
        return np.repeat(np.arange(len(self)), self.counts)

    def take(self, rows: np.ndarray) -> Ragged:
        """Some rows, in the order asked."""
        counts = self.counts[rows]
        starts = np.concatenate([[0], np.cumsum(counts)])
        places = np.arange(starts[-1]) - np.repeat(starts[:-1], counts) + np.repeat(self.starts[rows], counts)
        return Ragged(self.values[places], starts)

    def last(self, most: int) -> Ragged:
        """Of each row at most the last values."""
        counts = np.minimum(self.counts, most)
        starts = np.concatenate([[0], np.cumsum(counts)])
        ends = np.repeat(self.starts[1:], counts)
        places = ends - np.repeat(starts[1:], counts) + np.arange(starts[-1])
        return Ragged(self.values[places], starts)

    @classmethod
    def grouped(cls, owners: np.ndarray, values: np.ndarray, rows: int) -> Ragged:
        """Values by the row that each belongs to, in their order."""
        order = np.argsort(owners, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=rows))])
        return cls(values[order], starts.astype(np.int64))


@dataclass(frozen=True)
class Places:
    """Where what is sought lies among the items that could be offered. Scores that are equal make no order:
    every order of theirs is as likely.

    Attributes:
        above: float64 ``[values]``: how many items score higher.
        equal: float64 ``[values]``: how many score the same, itself among them: 1 or more.
    """

    above: np.ndarray
    equal: np.ndarray

    def __len__(self) -> int:
        return len(self.above)

    @property
    def ranks(self) -> np.ndarray:
        """float64 ``[values]``: the mean rank, the first is 1."""
        mean: np.ndarray = self.above + (self.equal + 1) / 2
        return mean

    def where(self, kept: np.ndarray) -> Places:
        """Some of the values, by a mask or by positions."""
        return Places(self.above[kept], self.equal[kept])

    def split(self, count: int) -> list[Places]:
        """As many pieces of one length."""
        pieces = zip(np.split(self.above, count), np.split(self.equal, count), strict=True)
        return [Places(*one) for one in pieces]


@dataclass(frozen=True)
class Cases:
    """What is judged, one row per user or per query item.

    Attributes:
        known: items that the question is made of.
        sought: items that are to be found: at least one a row, each once.
        excluded: items that no answer may be.
    """

    known: Ragged
    sought: Ragged
    excluded: Ragged

    def __len__(self) -> int:
        return len(self.sought)

    def take(self, rows: np.ndarray) -> Cases:
        """Some of the cases."""
        return Cases(self.known.take(rows), self.sought.take(rows), self.excluded.take(rows))

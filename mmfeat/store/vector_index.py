"""A vector index: how a search uses it, and which share of the nearest it was measured to find.

The record of that is in the table's own configuration, so that a snapshot has the one of its day.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import lance

NAME = "vector_idx"
ROWS_PER_PARTITION = 1024
#: Recall is measured of so many nearest.
MEASURED_K = 10

_RECORD = "mmfeat.vector_index"
# How an index without a record is used: nobody measured it.
_PROBED_SHARE = 0.1
_LEAST_PROBES = 32
_REFINE = 8


@dataclass(frozen=True)
class VectorIndex:
    """How a feature's index is searched, and what such a search finds.

    Attributes:
        probes: partitions that a search for ten looks into.
        refine: how many times the items asked for are ranked again by their exact vectors.
        recall: share of the true ten nearest that a search finds, 0 to 1, as measured with a sample of the
            store's own vectors; None if it is unknown: an earlier mmfeat built the index.
        target_recall: what was asked for. ``recall`` is below it where no setting reaches it.
        rows: vectors that there were when it was measured.
    """

    probes: int
    refine: int
    recall: float | None = None
    target_recall: float | None = None
    rows: int | None = None

    def __str__(self) -> str:
        share = "an unknown share" if self.recall is None else percent(self.recall)
        return f"approximate, with {share} of the true ten nearest found"

    @property
    def missed(self) -> str | None:
        """The target, for people, where no setting reaches it."""
        if self.recall is None or self.target_recall is None or self.recall >= self.target_recall:
            return None
        return f"the {percent(self.target_recall)} asked for"

    def nearest(self, wanted: int) -> dict[str, Any]:
        """Lance's settings of a search for ``wanted`` items."""
        return {"nprobes": self._probes(wanted), "refine_factor": self.refine}

    def nearest_tokens(self, wanted: int) -> dict[str, Any]:
        """The same where items have any number of vectors: those that Lance finds are ranked again by us."""
        return {"nprobes": self._probes(wanted), "k": wanted * self.refine}

    def _probes(self, wanted: int) -> int:
        # Ten times as many items lie in at most about ten times as many partitions.
        return self.probes * (1 if self.recall is None else max(1, wanted // MEASURED_K))


def index_of(table: lance.LanceDataset) -> VectorIndex | None:
    """The table's vector index; None if it has none."""
    if all(index.name != NAME for index in table.describe_indices()):
        return None
    record = table.config().get(_RECORD)
    if record is not None:
        return VectorIndex(**json.loads(record))
    partitions = table.count_rows() // ROWS_PER_PARTITION
    return VectorIndex(max(_LEAST_PROBES, int(partitions * _PROBED_SHARE)), _REFINE)


def record(table: lance.LanceDataset, index: VectorIndex | None) -> None:
    """Write down what is known of the table's index; None: nothing any more."""
    table.update_config({_RECORD: None if index is None else json.dumps(asdict(index))})


def percent(share: float) -> str:
    """A share for people, rounded down: ``98.4 %``."""
    return f"{math.floor(round(1000 * share, 6)) / 10:g} %"

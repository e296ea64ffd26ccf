"""TIGER (arXiv 2305.05065): a table of semantic ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import BLOCK_ROWS, Content, Entry, ItemMap

FILE = "semantic_ids.parquet"


class Tiger(Exporter):
    """``semantic_ids.parquet``: ``item_id`` and int32 ``code_0``, ``code_1``, ..., coarse to fine.

    Without a collision level several items may have the same codes: ``mmfeat quantize`` reports how
    many do.
    """

    name = "tiger"
    title = "TIGER"
    systems = ("TIGER", "generative retrieval")
    roles = (Role("codes", kind="codes", dtype="int32", what="semantic ids"),)
    missing: ClassVar[tuple[Policy, ...]] = ("error", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {
        "mean": "codes are names, and names have no mean",
        "zero": "code 0 is a code like any other",
        "mask": "every item must be named by its codes",
    }
    id_base = None

    def write(self, out: Path, content: Content) -> None:
        """One row per item."""
        rows = content.features["codes"]
        matrix = np.concatenate(list(rows.item_blocks()))
        columns = {f"code_{level}": pa.array(codes) for level, codes in enumerate(matrix.T)}
        pq.write_table(pa.table({"item_id": pa.array(content.ids, pa.string()), **columns}), out / FILE)

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """By the ``item_id`` of each row."""
        with pq.ParquetFile(out / FILE) as file:
            for batch in file.iter_batches(batch_size=BLOCK_ROWS):
                matrix = np.column_stack([batch[name].to_numpy() for name in batch.schema.names[1:]])
                for item_id, codes in zip(batch["item_id"].to_pylist(), matrix, strict=True):
                    yield Entry("codes", item_id, codes)

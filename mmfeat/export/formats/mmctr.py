"""The table of the MM-CTR challenge (https://github.com/reczoo/WWW2025_MMCTR_Challenge), for FuxiCTR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import BLOCK_ROWS, Content, Entry, ItemMap
from mmfeat.export.ids import NumberOptions, numbered_id, refuse_gaps
from mmfeat.schemas.errors import UsageError

FILE = "item_info.parquet"
DIMS, TAGS = 128, 5
_SCHEMA = pa.schema(
    [
        ("item_id", pa.int64()),
        ("item_tags", pa.list_(pa.int64())),
        ("item_emb_d128", pa.list_(pa.float32())),
    ]
)


class MMCTR(Exporter):
    """``item_info.parquet``: ``item_id`` int64, ``item_tags`` 5 int64, ``item_emb_d128`` 128 float32.

    The challenge's ``BatchCollator`` looks rows up by position (``item_info.iloc[item_id]``), so row
    ``k`` is item ``k`` and row 0 is the pad item. The items' own ids must therefore be 1 to N without
    a gap, or are numbered so (``ids=index``), which the interactions must then follow.

    ``item_tags`` are all 0, the pad tag: mmfeat has no such tags. Take the column of the challenge's
    own file where the model reads it.
    """

    name = "mmctr"
    title = "MM-CTR"
    systems = ("FuxiCTR's DIN, TransAct, Transformer-DCN, ... in the MM-CTR challenge",)
    roles = (Role("item", dims=(DIMS,), what="item_emb_d128"),)
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {"mask": "it has a row for every item and no mask"}
    id_base = None
    pad_row = True
    options = NumberOptions

    def check(self, content: Content) -> None:
        """Ids must be positions."""
        refuse_gaps(content.ids, content.options.numbers(content.ids), self.title)

    def write(self, out: Path, content: Content) -> None:
        """The table, in the order of the ids."""
        order = np.argsort(content.options.numbers(content.ids))
        start = 0
        with pq.ParquetWriter(out / FILE, _SCHEMA) as writer:
            for block in content.features["item"].take(order).blocks():
                n = len(block)
                ends = np.arange(n + 1, dtype=np.int32)
                columns = [
                    pa.array(np.arange(start, start + n)),
                    pa.ListArray.from_arrays(ends * TAGS, pa.array(np.zeros(n * TAGS, np.int64))),
                    pa.ListArray.from_arrays(ends * DIMS, pa.array(block.reshape(-1))),
                ]
                writer.write_table(pa.table(columns, schema=_SCHEMA))
                start += n

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = item id; row 0 is no item."""
        number = 0
        with pq.ParquetFile(out / FILE) as file:
            for batch in file.iter_batches(batch_size=BLOCK_ROWS):
                matrix = batch["item_emb_d128"].flatten().to_numpy().reshape(len(batch), -1)
                for item_id, values in zip(batch["item_id"].to_pylist(), matrix, strict=True):
                    if item_id != number:
                        raise UsageError(f"Row {number} is of item {item_id}.")
                    if number:
                        own = numbered_id(number, items, manifest["options"]["ids"])
                        yield Entry("item", own, values)
                    number += 1

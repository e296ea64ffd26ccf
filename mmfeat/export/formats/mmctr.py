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
from mmfeat.export.files import write_json
from mmfeat.export.ids import NumberOptions, numbered_id, refuse_gaps
from mmfeat.item_fields import lists_of
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


class Options(NumberOptions):
    """MM-CTR's options.

    Attributes:
        tags: the field of the catalog, a text or a list, that ``item_tags`` are made of; all 0 when empty.
    """

    tags: str = ""


class MMCTR(Exporter):
    """``item_info.parquet``: ``item_id`` int64, ``item_tags`` 5 int64, ``item_emb_d128`` 128 float32.

    The challenge's ``BatchCollator`` looks rows up by position (``item_info.iloc[item_id]``), so row
    ``k`` is item ``k`` and row 0 is the pad item. The items' own ids must therefore be 1 to N without
    a gap, or are numbered so (``ids=index``), which the interactions must then follow.

    With ``tags=FIELD`` the texts of that field are numbered from 1 as ``tags.json`` says, and the first five
    of an item stand behind zeros, the pad tag, as in the challenge's own file. ``vocab_size`` of
    ``item_tags`` (``config/DIN_microlens_mmctr_tuner_config_01.yaml:20``) is then one more than their number.
    Without it ``item_tags`` are all 0.
    """

    name = "mmctr"
    title = "MM-CTR"
    systems = ("FuxiCTR's DIN, TransAct, Transformer-DCN, ... in the MM-CTR challenge",)
    roles = (Role("item", dims=(DIMS,), what="item_emb_d128"),)
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {"mask": "it has a row for every item and no mask"}
    id_base = None
    pad_row = True
    options = Options

    def check(self, content: Content) -> None:
        """Ids must be positions, and tags texts."""
        refuse_gaps(content.ids, content.options.numbers(content.ids), self.title)
        _tags(content)

    def write(self, out: Path, content: Content) -> None:
        """The table, in the order of the ids."""
        order = np.argsort(content.options.numbers(content.ids))
        numbers, rows = _tags(content)
        if content.options.tags:
            write_json(out / "tags.json", numbers)
        tags, start = np.concatenate([np.zeros((1, TAGS), np.int64), rows[order]]), 0
        with pq.ParquetWriter(out / FILE, _SCHEMA) as writer:
            for block in content.features["item"].take(order).blocks():
                n = len(block)
                ends = np.arange(n + 1, dtype=np.int32)
                columns = [
                    pa.array(np.arange(start, start + n)),
                    pa.ListArray.from_arrays(ends * TAGS, pa.array(tags[start : start + n].reshape(-1))),
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


def _tags(content: Content) -> tuple[dict[str, int], np.ndarray]:
    """The number of every tag, and the items' first five, int64 ``[n, 5]``, zeros before them."""
    rows = np.zeros((len(content.ids), TAGS), np.int64)
    numbers: dict[str, int] = {}
    if content.options.tags:
        for row, own in zip(rows, lists_of(content.fields, content.options.tags), strict=True):
            found = [numbers.setdefault(tag, len(numbers) + 1) for tag in dict.fromkeys(own)][:TAGS]
            row[TAGS - len(found) :] = found
    return numbers, rows

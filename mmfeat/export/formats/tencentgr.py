"""TencentGR, the data of the Tencent advertising algorithm competition 2025 (generative recommendation)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import BLOCK_ROWS, Content, Entry, ItemMap
from mmfeat.export.ids import is_number, refuse_ids
from mmfeat.schemas.errors import UsageError

# The numbers of the competition's embeddings and the dims that its loaders expect of each.
SLOTS = {"81": 32, "82": 1024, "83": 3584, "84": 4096, "85": 3584, "86": 3584}
FILE = "part-00000.parquet"
_SCHEMA = pa.schema([("anonymous_cid", pa.string()), ("emb", pa.list_(pa.float32()))])


class Options(BaseModel):
    """TencentGR's options.

    Attributes:
        slot: which of the competition's embeddings this takes the place of; ``auto``: the one with as
            many dims.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slot: Literal["auto", "81", "82", "83", "84", "85", "86"] = "auto"

    def folder(self, dims: int) -> str:
        """``emb_{slot}_{dims}_parquet``; UsageError where dims and slot do not go together."""
        fitting = [s for s, size in SLOTS.items() if size == dims and self.slot in ("auto", s)]
        if len(fitting) == 1:
            return f"emb_{fitting[0]}_{dims}_parquet"
        if fitting:
            raise UsageError(
                f"TencentGR has several embeddings of {dims} dims.",
                hint=f"Choose one: --option slot={fitting[0]}. There are: {', '.join(fitting)}.",
            )
        raise UsageError(
            f"TencentGR's embedding {self.slot} has {SLOTS[self.slot]} dims, and these vectors {dims}.",
            hint="Choose a slot of that size, or bring the feature to the slot's (--project).",
        )


class TencentGR(Exporter):
    """``mm_emb/emb_{slot}_{dims}_parquet/*.parquet``: ``anonymous_cid`` text, ``emb`` list of float32.

    ``anonymous_cid`` is the item's own id, a decimal integer: the loaders look it up as the text of
    ``indexer.pkl``'s original id (not of the renumbered one that sequences hold). An item without a
    line gets their vector of zeros for items that have none.
    """

    name = "tencentgr"
    title = "TencentGR"
    systems = ("the competition's baseline and its successors",)
    roles = (Role("item", dims=tuple(dict.fromkeys(SLOTS.values())), what="emb"),)
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mask", "mean", "zero", "drop")
    id_base = None
    options = Options

    def check(self, content: Content) -> None:
        """Ids are the competition's, and the slot is one."""
        content.options.folder(content.features["item"].shape[1])
        refuse_ids(
            content.ids,
            lambda i: not is_number(i),
            "are no integers from 1 on, as TencentGR's item ids are",
            "Give the items the ids of TencentGR (the keys of indexer.pkl's 'i').",
        )

    def write(self, out: Path, content: Content) -> None:
        """One table with a line per item that has a vector."""
        rows = content.features["item"]
        kept = np.flatnonzero(rows.present)
        dims = rows.shape[1]
        folder = out / "mm_emb" / content.options.folder(dims)
        folder.mkdir(parents=True)
        start = 0
        # A dictionary of numbers that hardly ever repeat takes several times as long and saves nothing.
        with pq.ParquetWriter(folder / FILE, _SCHEMA, use_dictionary=False) as writer:
            for block in rows.take(kept).blocks():
                ids = [content.ids[k] for k in kept[start : start + len(block)]]
                ends = np.arange(len(block) + 1, dtype=np.int32) * dims
                vectors = pa.ListArray.from_arrays(ends, pa.array(block.reshape(-1)))
                writer.write_table(pa.table([pa.array(ids, pa.string()), vectors], schema=_SCHEMA))
                start += len(block)

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """By ``anonymous_cid``."""
        (folder,) = (out / "mm_emb").iterdir()
        for path in sorted(folder.glob("*.parquet")):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=BLOCK_ROWS):
                    matrix = batch["emb"].flatten().to_numpy().reshape(len(batch), -1)
                    for item_id, values in zip(batch["anonymous_cid"].to_pylist(), matrix, strict=True):
                        yield Entry("item", item_id, values)

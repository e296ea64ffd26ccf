"""TIGER by XiaoLongtaoo (https://github.com/XiaoLongtaoo/TIGER): RQ-VAE codes and a T5 over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import BLOCK_ROWS, Content, Entry, Interactions, ItemMap, Rows
from mmfeat.export.files import read_npy, write_npy
from mmfeat.export.interactions import MIN_TO_SPLIT, refuse_short
from mmfeat.schemas.errors import UsageError

EMBEDDINGS = "item_emb.parquet"
LEVELS, CODEBOOK = 4, 256


class XiaoLongtaooTiger(Exporter):
    """``item_emb.parquet``, ``NAME_t5_rqvae.npy`` and ``train.parquet``, ``valid.parquet``, ``test.parquet``.

    ``item_emb.parquet`` has ``ItemID`` and ``embedding``: ``rqvae/datasets.py`` (line 12) takes the
    vectors in the order of the rows. ``NAME_t5_rqvae.npy`` is int64 ``[items, 4]``: ``item2code``
    (``model/dataset.py:77-89``) gives row ``k - 1`` to item ``k`` and counts a level's codes from 256 times
    its number, so no code may be above 255, and an unknown item stands for four codes (line 124).

    The three histories have ``user``, ``history`` and ``target``, as ``data/process.ipynb`` writes them:
    all but the last two interactions of a user for training, all but the last for validation, all for
    testing; the last one left is the target. Items and users count from 1. Of what a user has for
    training, ``process_data`` (``model/dataset.py:25-33``) makes a sample for every beginning.
    """

    name = "xiaolongtaoo-tiger"
    title = "TIGER by XiaoLongtaoo"
    systems = ("TIGER (XiaoLongtaoo's T5)",)
    roles = (
        Role("embedding", required=False, what="item_emb.parquet: what its RQ-VAE is trained on"),
        Role("codes", kind="codes", required=False, dtype="int64", what="code_path: 4 levels"),
    )
    interactions = "optional"
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {"mask": "it has a row for every item and no mask"}
    id_base = 1
    user_base = 1

    def check(self, content: Content) -> None:
        """Codes fit into its vocabulary, and every user has enough to take two away."""
        if "codes" in content.features:
            _refuse_other_codes(content.features["codes"])
        if content.interactions is not None:
            refuse_short(content.interactions, MIN_TO_SPLIT, self.title)

    def write(self, out: Path, content: Content) -> None:
        """Vectors, codes and histories."""
        if "embedding" in content.features:
            _write_vectors(out / EMBEDDINGS, content.features["embedding"])
        if "codes" in content.features:
            write_npy(out / f"{content.name}_t5_rqvae.npy", content.features["codes"])
        if content.interactions is not None:
            for part, held_back in {"train": 2, "valid": 1, "test": 0}.items():
                pq.write_table(_histories(content.interactions, held_back), out / f"{part}.parquet")

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = item - 1, of vectors and of codes."""
        if "embedding" in manifest["features"]:
            yield from (Entry("embedding", i, row) for i, row in zip(items.ids, _vectors(out), strict=True))
        if "codes" in manifest["features"]:
            codes = read_npy(out / f"{manifest['name']}_t5_rqvae.npy", len(items.ids))
            yield from (Entry("codes", i, row) for i, row in zip(items.ids, codes, strict=True))


def _refuse_other_codes(rows: Rows) -> None:
    """UsageError for codes that it has no tokens for."""
    levels, largest = rows.shape[1], max(int(block.max()) for block in rows.blocks())
    version = rows.column.spec.version
    if levels != LEVELS:
        raise UsageError(
            f"TIGER by XiaoLongtaoo reads {LEVELS} codes per item, and {version} has {levels}.",
            hint="Quantise with levels = 3 and collision_level = true, or with levels = 4.",
        )
    if largest >= CODEBOOK:
        raise UsageError(
            f"TIGER by XiaoLongtaoo has {CODEBOOK} codes per level, and {version} goes up to {largest:,}.",
            hint=f"Quantise with codebook_size = {CODEBOOK} or less. Where the collision level is above"
            " that, too many items share all their other codes: add a level.",
        )


def _write_vectors(path: Path, rows: Rows) -> None:
    dims = rows.shape[1]
    schema = pa.schema([("ItemID", pa.int64()), ("embedding", pa.list_(pa.float32()))])
    start = 1
    with pq.ParquetWriter(path, schema) as writer:
        for block in rows.blocks():
            ends = pa.array(np.arange(len(block) + 1, dtype=np.int32) * dims)
            vectors = pa.ListArray.from_arrays(ends, pa.array(block.reshape(-1)))
            numbers = np.arange(start, start + len(block))
            writer.write_table(pa.table({"ItemID": numbers, "embedding": vectors}, schema=schema))
            start += len(block)


def _vectors(out: Path) -> Iterator[np.ndarray]:
    with pq.ParquetFile(out / EMBEDDINGS) as file:
        for batch in file.iter_batches(batch_size=BLOCK_ROWS):
            yield from batch["embedding"].flatten().to_numpy().reshape(len(batch), -1)


def _histories(inter: Interactions, held_back: int) -> pa.Table:
    """Every user's interactions but the last ``held_back``, the last of these as target."""
    histories, targets = [], []
    for _, positions in inter.sequences():
        *history, target = (positions[: len(positions) - held_back] + 1).tolist()
        histories.append(history)
        targets.append(target)
    return pa.table(
        {
            "user": np.arange(1, len(histories) + 1),
            "history": pa.array(histories, pa.list_(pa.int64())),
            "target": pa.array(targets, pa.int64()),
        }
    )

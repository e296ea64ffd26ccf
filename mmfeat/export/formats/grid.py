"""GRID (https://github.com/snap-research/GRID): generative recommendation with semantic ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, Interactions, ItemMap
from mmfeat.export.interactions import MIN_TO_SPLIT, refuse_short
from mmfeat.export.tensors import need_torch, read_tensor, write_array, write_tensor

EMBEDDINGS, CODES, SEQUENCES = "embeddings.pt", "semantic_ids.pt", "sequences.parquet"


class GRID(Exporter):
    """``embeddings.pt``, ``semantic_ids.pt`` and ``sequences.parquet``.

    ``embeddings.pt`` (``embedding_path``) is a float32 tensor ``[items, dims]``, row = item id, from 0.
    ``semantic_ids.pt`` (``semantic_id_path``) is an int64 tensor ``[levels, items]``: a column is an item.
    The rule is that of ``src/data/loading/components/pre_processing.py``: ``map_sparse_id_to_embedding``
    (lines 274-291) indexes rows by ``id``, ``map_sparse_id_to_semantic_id`` (lines 120-149) takes
    ``id_map.t()[ids]``. ``num_hierarchies`` is the number of levels.

    GRID reads who met what, and the list of items, from gzipped TFRecord files, which TensorFlow writes.
    ``sequences.parquet`` has what goes into them: ``user_id`` and ``sequence_data``, each user's items in
    time order (the fields of ``configs/experiment/tiger_train_flat.yaml``, lines 17-41).
    """

    name = "grid"
    title = "GRID"
    systems = ("GRID", "TIGER in GRID")
    roles = (
        Role("embedding", required=False, what="embedding_path: what semantic ids are made from"),
        Role("codes", kind="codes", required=False, dtype="int64", what="semantic_id_path"),
    )
    interactions = "optional"
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {"mask": "it has a row for every item and no mask"}

    def check(self, content: Content) -> None:
        """Every user has enough to take two away."""
        need_torch(self.name)
        if content.interactions is not None:
            refuse_short(content.interactions, MIN_TO_SPLIT, self.title)

    def write(self, out: Path, content: Content) -> None:
        """Tensors and sequences."""
        if "embedding" in content.features:
            write_tensor(out / EMBEDDINGS, content.features["embedding"])
        if "codes" in content.features:
            codes = np.concatenate(list(content.features["codes"].blocks()))
            write_array(out / CODES, codes.T)
        if content.interactions is not None:
            pq.write_table(_sequences(content.interactions), out / SEQUENCES)

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row of the embeddings, or column of the codes, = item id."""
        for role in manifest["features"]:
            matrix = read_tensor(out / EMBEDDINGS) if role == "embedding" else read_tensor(out / CODES).T
            for item_id, row in zip(items.ids, matrix, strict=True):
                yield Entry(role, item_id, row)


def _sequences(inter: Interactions) -> pa.Table:
    """A row per user, as GRID numbers users and items."""
    counts = np.bincount(inter.users, minlength=len(inter.user_ids))
    ends = pa.array(np.concatenate([[0], counts.cumsum()]), pa.int32())
    return pa.table(
        {
            "user_id": np.arange(len(inter.user_ids)),
            "sequence_data": pa.ListArray.from_arrays(ends, pa.array(inter.items)),
        }
    )

"""MUSE on TAOBAO-MM (https://taobao-mm.github.io): item vectors as sorted keys and int8 values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import BLOCK_ROWS, Content, Entry, ItemMap
from mmfeat.export.files import read_npy, write_blocks, write_npy
from mmfeat.export.ids import NumberOptions, numbered_id
from mmfeat.extract.fitted.vectors import truncated
from mmfeat.schemas.errors import UsageError

DIMS = 128
KEYS, VALUES = "scl_emb_int8_p90_keys.npy", "scl_emb_int8_p90_values.npy"


class Muse(Exporter):
    """``scl_emb_int8_p90_keys.npy`` int64 ``[n]`` and ``scl_emb_int8_p90_values.npy`` int8 ``[n, 128]``.

    Values are ``trunc(127 * clip(v, -1, 1))`` of L2-normalised vectors, the released data's rule. The
    loader (``FeatureEmbeddingDict``) finds an item by ``searchsorted`` in the keys, so they are sorted,
    puts a row of zeros before the values for items that are not there, and counts how many are. Keys
    are integers above 0, which is the padding of its sequences.
    """

    name = "muse"
    title = "MUSE"
    systems = ("MUSE", "other models on TAOBAO-MM")
    roles = (Role("item", dtype="int8", dims=(DIMS,), what="scl_emb"),)
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mask", "mean", "zero", "drop")
    id_base = None
    options = NumberOptions

    def check(self, content: Content) -> None:
        """Ids are keys; values are finite, which int8 could not show."""
        content.options.numbers(content.ids)
        rows = content.features["item"]
        for start in range(0, len(rows.index), BLOCK_ROWS):
            index = rows.index[start : start + BLOCK_ROWS]
            finite = np.isfinite(rows.column.matrix[index]).all(axis=1) | ~rows.column.mask[index]
            if not finite.all():
                item_id = content.ids[start + int(np.flatnonzero(~finite)[0])]
                raise UsageError(
                    f"Rows of item hold NaN or infinity. The first such item: {item_id!r}.",
                    hint="Re-extract it, or export without it.",
                )

    def convert(self, role: str, rows: np.ndarray) -> np.ndarray:
        """int8 of unit vectors; a vector of zeros stays one."""
        return truncated(np.nan_to_num(rows.astype(np.float32)))

    def write(self, out: Path, content: Content) -> None:
        """Keys and values of the items that have one, by key."""
        keys = content.options.numbers(content.ids)
        rows = content.features["item"]
        order = np.argsort(keys)
        kept = order[rows.present[order]]
        write_blocks(out / KEYS, (len(kept),), keys.dtype, [keys[kept]])
        write_npy(out / VALUES, rows.take(kept))

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = the key's place among the keys."""
        keys = np.load(out / KEYS, allow_pickle=False)
        if (np.diff(keys) <= 0).any():
            raise UsageError("The keys are not sorted.")
        for key, row in zip(keys.tolist(), read_npy(out / VALUES, len(keys)), strict=True):
            yield Entry("item", numbered_id(key, items, manifest["options"]["ids"]), row)

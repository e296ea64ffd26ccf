"""RLMRec (https://github.com/HKUDS/RLMRec)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmfeat.export import pickles
from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import BLOCK_ROWS, Content, Entry, Interactions, ItemMap
from mmfeat.export.interactions import TRAIN, refuse_untrained

_PARTS = ("trn", "val", "tst")


class RLMRec(Exporter):
    """The dataset's folder, ``data/NAME``: everything RLMRec opens, which is pickles all through.

    ``itm_emb_np.pkl`` and ``usr_emb_np.pkl`` (float32 arrays ``[items, dims]`` and ``[users, dims]``,
    row = id, from 0) and ``trn_mat.pkl``, ``val_mat.pkl``, ``tst_mat.pkl`` (SciPy COO matrices
    ``[users, items]`` of ones). RLMRec embeds a profile of each user that an LLM wrote; here a user's
    vector is the mean of the vectors of their training items, each as often as they met it.

    The rule is that of ``encoder/config/configurator.py`` (the arrays) and
    ``encoder/data_utils/data_handler_general_cf.py`` (users and items are counted by the shape of
    ``trn_mat.pkl``). mmfeat writes these pickles byte by byte, so that NumPy 1 and 2 load them, and
    reads them back by their bytes; see :mod:`mmfeat.export.pickles`.
    """

    name = "rlmrec"
    title = "RLMRec"
    systems = ("RLMRec-Con", "RLMRec-Gen", "on LightGCN, GCCF, SGL, SimGCL, DCCF and AutoCF")
    roles = (Role("item", what="itm_emb_np.pkl: the item's embedding, of its text or caption"),)
    interactions = "required"
    splits = True
    default_split = "ratio:0.8,0.1,0.1"
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {"mask": "it has no mask, and a NaN row makes the loss NaN"}

    def check(self, content: Content) -> None:
        """Every user needs an interaction for training."""
        assert content.interactions is not None, "interactions are required"
        refuse_untrained(
            content.interactions, self.title, "needs a vector of each user, which is made of those"
        )

    def write(self, out: Path, content: Content) -> None:
        """Embeddings and interaction matrices."""
        inter, rows = content.interactions, content.features["item"]
        assert inter is not None, "interactions are required"
        pickles.write_array(out / "itm_emb_np.pkl", rows.shape, rows.dtype, rows.blocks())
        vectors = pickles.read_array(out / "itm_emb_np.pkl", rows.shape, rows.dtype)
        shape = (len(inter.user_ids), rows.shape[1])
        users = user_means(vectors, inter.part(TRAIN))
        pickles.write_array(out / "usr_emb_np.pkl", shape, rows.dtype, users)
        for label, name in enumerate(_PARTS):
            part = inter.part(label)
            size = (len(inter.user_ids), len(content.ids))
            pickles.write_coo(out / f"{name}_mat.pkl", part.users, part.items, size)

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = item id."""
        exported = manifest["features"]["item"]["exported"]
        shape = (len(items.ids), *exported["shape"])
        matrix = pickles.read_array(out / "itm_emb_np.pkl", shape, np.dtype(exported["dtype"]))
        for item_id, row in zip(items.ids, matrix, strict=True):
            yield Entry("item", item_id, row)


def user_means(vectors: np.ndarray, training: Interactions) -> Iterator[np.ndarray]:
    """Float32 blocks of rows, one per user: the mean of the vectors of their training items."""
    ends = np.searchsorted(training.users, np.arange(len(training.user_ids) + 1))
    for start in range(0, len(training.user_ids), BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, len(training.user_ids))
        found = vectors[training.items[ends[start] : ends[stop]]]
        sums = np.add.reduceat(found, ends[start:stop] - ends[start], axis=0, dtype=np.float64)
        yield (sums / np.diff(ends[start : stop + 1])[:, None]).astype(np.float32)

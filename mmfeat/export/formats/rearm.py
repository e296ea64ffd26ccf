"""REARM (https://github.com/MrShouxingMa/REARM)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.files import read_npy, write_npy
from mmfeat.export.interactions import refuse_untrained

_PARTS = ("train", "valid", "test")


class REARM(Exporter):
    """The dataset's folder, ``data/NAME``.

    ``image_feat.npy`` and ``text_feat.npy`` (float32 ``[items, dims]``, row = item id, from 0) and
    ``train.npy``, ``valid.npy``, ``test.npy`` (int64 ``[2, n]``: users, items).

    The rule is that of ``utils/data_loader.py``: items and users are counted by the different ids in
    the three splits together and not compared with the matrices, so items without interactions stay
    out. A user's taste is the mean of their training items' vectors.
    """

    name = "rearm"
    title = "REARM"
    systems = ("REARM",)
    roles = (Role("image", media=("image",)), Role("text", media=("text",)))
    interactions = "required"
    cold_items = False
    splits = True
    default_split = "ratio:0.8,0.1,0.1"
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {
        "mask": "it has no mask, and a NaN row spreads through its item graphs"
    }

    def check(self, content: Content) -> None:
        """Every user needs an interaction for training."""
        assert content.interactions is not None, "interactions are required"
        refuse_untrained(
            content.interactions, self.title, "divides by their number, which makes such a user's taste NaN"
        )

    def write(self, out: Path, content: Content) -> None:
        """Matrices and splits."""
        assert content.interactions is not None, "interactions are required"
        for role, rows in content.features.items():
            write_npy(out / f"{role}_feat.npy", rows)
        for label, name in enumerate(_PARTS):
            part = content.interactions.part(label)
            np.save(out / f"{name}.npy", np.stack([part.users, part.items]))

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = item id; there are as many rows as different items in the splits."""
        parts = [np.load(out / f"{name}.npy", allow_pickle=False) for name in _PARTS]
        count = len(np.unique(np.concatenate([part[1] for part in parts])))
        for role in manifest["features"]:
            matrix = read_npy(out / f"{role}_feat.npy", count)
            for item_id, row in zip(items.ids, matrix, strict=True):
                yield Entry(role, item_id, row)

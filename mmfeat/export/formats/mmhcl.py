"""MMHCL (https://github.com/Xu107/MMHCL), and LATTICE (https://github.com/CRIPAC-DIG/LATTICE)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.files import read_npy, write_json, write_npy
from mmfeat.export.interactions import refuse_untrained

_PARTS = ("train", "val", "test")


class Options(BaseModel):
    """MMHCL's options.

    Attributes:
        core: the number in the folder's name, MMHCL's ``--core``. It names the folder and filters
            nothing: ``--k-core`` does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    core: int = Field(default=5, ge=0)


class MMHCL(Exporter):
    """The dataset's folder, ``data/NAME``.

    ``image_feat.npy``, ``text_feat.npy`` and, for MMHCL's three-modality datasets, ``audio_feat.npy``
    (float32 ``[items, dims]``, row = item id, from 0), and ``5-core/train.json``, ``val.json`` and
    ``test.json``: ``{"user": [item, ...]}``, users who have none in a split left out of it.

    The rule is that of ``utility/load_data.py``: users are counted as the largest training user plus 1
    and items as the largest item of all splits plus 1, neither compared with the matrices, so items
    without interactions stay out. The graphs that it caches beside the splits (``*_mat_*.pth``) are
    named by settings and not by content: never put new matrices into a folder that holds such files.

    LATTICE's own code reads the same files in the same way (``codes/utility/load_data.py``; ``codes/main.py``
    opens the two matrices) and caches ``image_adj_*.pt`` and ``text_adj_*.pt`` beside the splits.
    """

    name = "mmhcl"
    title = "MMHCL"
    systems = ("MMHCL", "LATTICE")
    roles = (
        Role("image", media=("image",)),
        Role("text", media=("text",)),
        Role("audio", media=("audio",), required=False, what="read for the dataset Tiktok only"),
    )
    interactions = "required"
    cold_items = False
    splits = True
    default_split = "ratio:0.8,0.1,0.1"
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {
        "zero": "its item hypergraph divides by the row norm, so a zero row becomes NaN",
        "mask": "it has no mask, and a NaN row spreads through its item hypergraph",
    }
    zero_rows = "its item hypergraph divides by the row norm"
    options = Options

    def check(self, content: Content) -> None:
        """Every user needs an interaction for training."""
        assert content.interactions is not None, "interactions are required"
        refuse_untrained(content.interactions, self.title, "counts users by those of the training split")

    def write(self, out: Path, content: Content) -> None:
        """Matrices and splits."""
        assert content.interactions is not None, "interactions are required"
        for role, rows in content.features.items():
            write_npy(out / f"{role}_feat.npy", rows)
        folder = out / f"{content.options.core}-core"
        folder.mkdir()
        for label, name in enumerate(_PARTS):
            sequences = content.interactions.part(label).sequences()
            write_json(
                folder / f"{name}.json", {str(u): items.tolist() for u, items in sequences if len(items)}
            )

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = item id; there are as many rows as the largest item id plus 1."""
        folder = out / f"{manifest['options']['core']}-core"
        parts = [json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in _PARTS]
        count = 1 + max(item for part in parts for found in part.values() for item in found)
        for role in manifest["features"]:
            matrix = read_npy(out / f"{role}_feat.npy", count)
            for item_id, row in zip(items.ids, matrix, strict=True):
                yield Entry(role, item_id, row)

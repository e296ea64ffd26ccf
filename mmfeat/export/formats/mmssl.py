"""MMSSL (https://github.com/HKUDS/MMSSL), and LLMRec (https://github.com/HKUDS/LLMRec)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmfeat.export import pickles
from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.files import read_npy, write_json, write_npy
from mmfeat.export.interactions import TRAIN, refuse_untrained

_PARTS = ("train", "val", "test")
_MATRIX = "train_mat"


class MMSSL(Exporter):
    """The dataset's folder, ``data/NAME``.

    ``image_feat.npy`` and ``text_feat.npy`` (float32 ``[items, dims]``, row = item id, from 0),
    ``train.json``, ``val.json`` and ``test.json`` (``{"user": [item, ...]}``, users who have none in a split
    left out of it), and ``train_mat``, a pickled SciPy CSR matrix ``[users, items]`` of float32 with a one
    for every pair of the training split.

    The rule is that of ``MMSSL/utility/load_data.py`` (users are counted as the largest training user plus
    1, items as the largest item of all splits plus 1) and ``MMSSL/main.py`` (the matrices, and ``train_mat``,
    whose shape counts both again), so items without interactions stay out. LLMRec's ``main.py`` and
    ``utility/load_data.py`` read the same files, and pickles of its own, which its scripts in
    ``LLM_augmentation_construct_prompt`` make with a language model.
    """

    name = "mmssl"
    title = "MMSSL"
    systems = ("MMSSL", "LLMRec")
    roles = (Role("image", media=("image",)), Role("text", media=("text",)))
    interactions = "required"
    cold_items = False
    splits = True
    default_split = "ratio:0.8,0.1,0.1"
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {
        "mask": "it has no mask, and a NaN row spreads through its graph"
    }

    def check(self, content: Content) -> None:
        """Every user needs an interaction for training."""
        assert content.interactions is not None, "interactions are required"
        refuse_untrained(content.interactions, self.title, "counts users by those of the training split")

    def write(self, out: Path, content: Content) -> None:
        """Matrices and splits."""
        inter = content.interactions
        assert inter is not None, "interactions are required"
        for role, rows in content.features.items():
            write_npy(out / f"{role}_feat.npy", rows)
        for label, name in enumerate(_PARTS):
            sequences = inter.part(label).sequences()
            write_json(out / f"{name}.json", {str(u): items.tolist() for u, items in sequences if len(items)})
        training = inter.part(TRAIN)
        size = (len(inter.user_ids), len(content.ids))
        pickles.write_csr(out / _MATRIX, training.users, training.items, size)

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = item id; there are as many rows as the largest item id plus 1."""
        parts = [json.loads((out / f"{name}.json").read_text(encoding="utf-8")) for name in _PARTS]
        count = 1 + max(item for part in parts for found in part.values() for item in found)
        users = 1 + max(map(int, parts[0]))
        met = [(int(user), item) for user, found in parts[0].items() for item in found]
        rows, columns = np.array(met).T
        if (out / _MATRIX).read_bytes() != pickles.csr(rows, columns, (users, count)):
            raise ValueError(f"{_MATRIX} is not the matrix of train.json")
        for role in manifest["features"]:
            matrix = read_npy(out / f"{role}_feat.npy", count)
            for item_id, row in zip(items.ids, matrix, strict=True):
                yield Entry(role, item_id, row)

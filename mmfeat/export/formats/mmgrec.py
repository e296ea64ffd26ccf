"""MMGRec (https://github.com/hanliu95/MMGRec)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from mmfeat.export import pickles
from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.files import read_npy, write_npy

_FILES = {"image": "v_feat_sample.npy", "audio": "a_feat_sample.npy", "text": "t_feat_sample.npy"}


class MMGRec(Exporter):
    """The dataset's folder, ``dataset_sample/NAME``.

    ``v_feat_sample.npy``, ``a_feat_sample.npy``, ``t_feat_sample.npy`` (float32 ``[items, 128]``, row =
    item id, from 0) and ``user_item_dict_sample.npy``, an object array that holds ``{user: [item,
    ...]}`` with users from 0 and items from the number of users on.

    The rule is that of ``data_load.py`` (interactions, which it splits itself) and ``tgt_input.py``
    (three matrices of 128 dims, joined to 384; it opens them as ``v_f.npy``, ``a_f.npy`` and
    ``t_f.npy`` in the working folder). The numbers of users and items are constants in both.
    """

    name = "mmgrec"
    title = "MMGRec"
    systems = ("MMGRec",)
    roles = (
        Role("image", media=("image",), dims=(128,)),
        Role("audio", media=("audio",), dims=(128,)),
        Role("text", media=("text",), dims=(128,)),
    )
    interactions = "required"
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {
        "mask": "it has no mask, and a NaN row spreads through its graph"
    }

    def write(self, out: Path, content: Content) -> None:
        """Matrices and interactions."""
        inter = content.interactions
        assert inter is not None, "interactions are required"
        for role, rows in content.features.items():
            write_npy(out / _FILES[role], rows)
        users = len(inter.user_ids)
        met = {user: list(dict.fromkeys((items + users).tolist())) for user, items in inter.sequences()}
        pickles.write_object_npy(out / "user_item_dict_sample.npy", met)

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = item id."""
        for role in manifest["features"]:
            matrix = read_npy(out / _FILES[role], len(items.ids))
            for item_id, row in zip(items.ids, matrix, strict=True):
                yield Entry(role, item_id, row)

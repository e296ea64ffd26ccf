"""Elliot (https://github.com/sisinflab/elliot)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, Interactions, ItemMap
from mmfeat.export.files import write_each, write_plain_table

_PARTS = ("train", "val", "test")
_FOLDERS = {"image": "visual_features", "text": "textual_features", "audio": "audio_features"}


class Elliot(Exporter):
    """``{visual,textual,audio}_features/{item}.npy`` of shape ``[dims]``, and ``dataset.tsv``.

    Items and users are integers from 0. ``dataset.tsv`` has no header: user, item, rating (1.0 if not
    all have one), milliseconds. With ``--split`` there are ``train.tsv``, ``val.tsv`` and
    ``test.tsv`` instead, for Elliot's ``strategy: fixed``.
    """

    name = "elliot"
    title = "Elliot"
    systems = ("VBPR", "DeepStyle", "DVBPR", "ACF", "VNPR")
    roles = (
        Role("image", media=("image",), required=False),
        Role("text", media=("text",), required=False),
        Role("audio", media=("audio",), required=False),
    )
    interactions = "optional"
    splits = True
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {
        "mask": "it leaves an item without a file out of everything; say drop if you mean that"
    }

    def write(self, out: Path, content: Content) -> None:
        """A file per item and modality; interactions."""
        names = [str(k) for k in range(len(content.ids))]
        for role, rows in content.features.items():
            write_each(out / _FOLDERS[role], rows, names)
        inter = content.interactions
        if inter is None:
            return
        if inter.labels is None:
            _write_inter(out / "dataset.tsv", inter)
            return
        for label, part in enumerate(_PARTS):
            _write_inter(out / f"{part}.tsv", inter.part(label))

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """A file's name, up to the first dot, is the item's integer."""
        for role in manifest["features"]:
            for path in (out / _FOLDERS[role]).iterdir():
                yield Entry(role, items.ids[int(path.name.split(".")[0])], np.load(path))


def _write_inter(path: Path, inter: Interactions) -> None:
    columns = {"user": inter.users, "item": inter.items, "rating": inter.ratings_or_ones()}
    if inter.timestamps is not None:
        columns["timestamp"] = inter.timestamps
    write_plain_table(path, columns, header=False)

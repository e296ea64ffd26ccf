"""The folders that Ducho (https://github.com/sisinflab/Ducho) itself writes, for what reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.files import write_each
from mmfeat.export.ids import NUMBER_THEM, IdOptions, case_clashes, is_no_file_name, raw_id, refuse_ids

_FOLDERS = {"image": "visual_embeddings", "text": "textual_embeddings", "audio": "audio_embeddings"}
_NAME = r"^[A-Za-z0-9._-]+$"


class Options(IdOptions):
    """Ducho's options.

    Attributes:
        backend: the library's name in the path.
        layer: the layer's name in the path.
    """

    backend: str = Field(default="transformers", pattern=_NAME)
    layer: str = Field(default="output", pattern=_NAME)


class Ducho(Exporter):
    """``{visual,textual,audio}_embeddings/{backend}/{model}/{layer}/{id}.npy`` of shape ``[1, dims]``.

    ``{model}`` is the last part of the feature's model name. Ducho cuts file names at the first dot,
    so ids with one are refused. With ``--missing mask`` an item without a value has no file.
    """

    name = "ducho"
    title = "Ducho"
    systems = ("Ducho meets Elliot", "Formal MultiMod Rec")
    roles = (
        Role("image", media=("image",), required=False),
        Role("text", media=("text",), required=False),
        Role("audio", media=("audio",), required=False),
    )
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mask", "mean", "zero", "drop")
    id_base = None
    options = Options

    def check(self, content: Content) -> None:
        """Ids are file names that survive a cut at the first dot, on every file system."""
        if content.options.ids == "index":
            return
        refuse_ids(
            content.ids, lambda i: is_no_file_name(i) or "." in i, "cannot name Ducho's files", NUMBER_THEM
        )
        clashes = case_clashes(content.ids)
        refuse_ids(clashes, lambda i: True, "differ from another only in case", NUMBER_THEM)

    def convert(self, role: str, rows: np.ndarray) -> np.ndarray:
        """Ducho's extractors keep the batch axis of one."""
        return super().convert(role, rows)[:, None, :]

    def write(self, out: Path, content: Content) -> None:
        """A file per item and modality."""
        names = content.options.tokens(content.ids)
        for role, rows in content.features.items():
            # As Ducho does: what follows the last dot of a model's name is taken for an extension.
            model = re.sub(r"[^A-Za-z0-9._-]+", "-", PurePosixPath(rows.column.spec.model).stem)
            write_each(
                out / _FOLDERS[role] / content.options.backend / model / content.options.layer, rows, names
            )

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """A file's name, up to the first dot, is the item's."""
        for role in manifest["features"]:
            for path in (out / _FOLDERS[role]).glob("*/*/*/*.npy"):
                token = path.name.split(".")[0]
                yield Entry(role, raw_id(token, items, manifest["options"]["ids"]), np.load(path))

"""UniversalRAG (https://github.com/wgcyeo/UniversalRAG): retrieval of texts, images, clips and videos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mmfeat.export import pickles
from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap, Rows
from mmfeat.schemas.errors import UsageError

# What a retriever's file of texts is called, by what it retrieves (eval/eval.py:76-125).
_TEXTS = {"image": "imgcap", "clip": "clipscript", "video": "vidscript"}
_ID = "{item_id}"


class Options(BaseModel):
    """UniversalRAG's options.

    Attributes:
        modality: what is retrieved, which names the file of the texts' vectors.
        path: the path by which UniversalRAG knows an item, with ``{item_id}`` in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: Literal["image", "clip", "video", "text"] = "image"
    path: str = Field(default=_ID, pattern=r"^[^{}]*\{item_id\}[^{}]*$")

    def key(self, item_id: str) -> str:
        """What an item's vector is found by."""
        return self.path.replace(_ID, item_id)


class UniversalRAG(Exporter):
    """``NAME.pkl`` and ``NAME_imgcap.pkl``: pickled dicts of an item's path to its float32 vector.

    The rule is that of ``eval/retrieve/retrieve_image.py:17-49``: the second has every path of the first, and
    an item's vector is ``alpha`` of its text's and ``1 - alpha`` of its own. Clips and videos are read alike,
    with ``NAME_clipscript.pkl`` and ``NAME_vidscript.pkl``; a text has one file, in which ``PATH_part0``,
    ``PATH_part1`` are parts of ``PATH`` (``retrieve_text.py:29-39``). Similarity is the dot product with a
    query's vector, so vectors and queries are of one model.
    """

    name = "universalrag"
    title = "UniversalRAG"
    systems = ("UniversalRAG",)
    roles = (
        Role("item", media=("image",), what="vectors of what is retrieved"),
        Role("caption", media=("text",), required=False, what="vectors of its text, in the same space"),
    )
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {"mask": "it looks every path up in both files; say drop"}
    id_base = None
    options = Options

    def check(self, content: Content) -> None:
        """Both vectors of an item can be added up."""
        if "caption" not in content.features:
            return
        if content.options.modality == "text":
            raise UsageError(
                "A text has no caption in UniversalRAG.", hint="Leave caption=FEATURE out of --features."
            )
        own, text = content.features["item"], content.features["caption"]
        if own.shape != text.shape:
            raise UsageError(
                f"UniversalRAG adds item and caption up, and they have {own.shape[1]:,} and"
                f" {text.shape[1]:,} dims.",
                hint="Choose features of one model.",
            )

    def write(self, out: Path, content: Content) -> None:
        """A dict per feature."""
        keys = [content.options.key(item_id) for item_id in content.ids]
        for role, rows in content.features.items():
            path = out / _file(content.name, content.options.modality, role)
            pickles.write_arrays(path, ((keys[position], value) for position, value in _vectors(rows)))

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """By path."""
        options = Options(**manifest["options"])
        ids = {options.key(item_id): item_id for item_id in items.ids}
        for role, entry in manifest["features"].items():
            path = out / _file(manifest["name"], options.modality, role)
            shape, dtype = tuple(entry["exported"]["shape"]), np.dtype(entry["exported"]["dtype"])
            for key, vector in pickles.read_arrays(path, shape, dtype):
                yield Entry(role, ids[key], vector)


def _file(name: str, modality: str, role: str) -> str:
    return f"{name}.pkl" if role == "item" else f"{name}_{_TEXTS[modality]}.pkl"


def _vectors(rows: Rows) -> Iterator[tuple[int, np.ndarray]]:
    return ((position, np.asarray(value)) for position, value in rows.values())

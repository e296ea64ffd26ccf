"""Pigeon (https://github.com/YiyanXu/Pigeon): personalised images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from mmfeat.export import pickles
from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.files import read_npy, write_npy

_FILES = {"clip": "all_clip_feats.npy", "dino": "all_dino_feats.npy"}


class Options(BaseModel):
    """Pigeon's options.

    Attributes:
        scenario: ``--scenario`` of Pigeon, which names the file of texts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenario: Literal["sticker", "movie"] = "sticker"


class Pigeon(Exporter):
    """``all_clip_feats.npy``, ``all_dino_feats.npy`` and ``sticker_semantics.npy``, for ``data_path``.

    The first two are float32 ``[items, dims]``, row = image id, from 0 (``Evaluation/evaluate_pigeon.py``:
    ``clip_feats[hist_iids]``, ``all_dino_feats[tgt_iid]``, lines 175-240). ``sticker_semantics.npy``, or
    ``movie_semantics.npy``, is an object array ``[items]`` of texts, so a pickle inside: ``np.load`` and
    ``tolist`` make the list that ``Pigeon/data_utils.py`` (line 190) takes a target's text from.
    """

    name = "pigeon"
    title = "Pigeon"
    systems = ("Pigeon",)
    roles = (
        Role("clip", media=("image",), required=False, what="all_clip_feats.npy"),
        Role("dino", media=("image",), required=False, what="all_dino_feats.npy"),
        Role("semantics", kind="text", required=False, dtype=None, what="a description of each image"),
    )
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "empty", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {"mask": "it has a row for every image and no mask"}
    options = Options

    def write(self, out: Path, content: Content) -> None:
        """Vectors and texts."""
        for role, rows in content.features.items():
            if role == "semantics":
                texts = [text or "" for text in rows.texts()]
                pickles.write_texts_npy(out / f"{content.options.scenario}_semantics.npy", texts)
            else:
                write_npy(out / _FILES[role], rows)

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = image id."""
        texts = out / f"{manifest['options']['scenario']}_semantics.npy"
        for role in manifest["features"]:
            values = (
                pickles.read_texts_npy(texts)
                if role == "semantics"
                else read_npy(out / _FILES[role], len(items.ids))
            )
            yield from (Entry(role, i, value) for i, value in zip(items.ids, values, strict=True))

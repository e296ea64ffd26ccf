"""fMRLRec (https://github.com/yueqirex/fMRLRec)."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from mmfeat.export import p5
from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.files import read_npy, write_npy
from mmfeat.export.interactions import MIN_TO_SPLIT, refuse_short
from mmfeat.extract.fitted.vectors import normalized

_SUFFIX = {"text": "_embeddings.npy", "image": "_img_embeddings.npy"}


class Options(BaseModel):
    """fMRLRec's options.

    Attributes:
        normalize: write each vector with length 1, as the project makes its own
            (``datasets/amazon.py``, ``generate_embeddings`` and ``generate_img_embeddings``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    normalize: bool = False


class FMRLRec(Exporter):
    """Everything of ``data/NAME``.

    ``{encoder}_embeddings.npy`` (texts) and ``{encoder}_img_embeddings.npy``, float32 ``[items, dims]``:
    the loader (``LRUEmbedding``) puts a pad row before them, so row ``k - 1`` is item ``k``. ``encoder``
    is the last part of the feature's model name in lower case, as ``--language_encoder`` and
    ``--img_encoder`` find it. ``datamaps.json`` (``item2id`` and ``user2id`` from 1, ``id2item``,
    ``id2user``), ``sequential_data.txt`` (``user item item ...`` in time order), ``meta.json.gz`` (a
    Python literal per line: ``asin``, ``title``, ``description``, and the catalog's ``brand``, ``price`` and
    ``categories``).

    ``item2img_dict.pkl`` is an empty dictionary: fMRLRec opens it always and uses it only to make the
    image vectors that are here already. It reads no other kind of file in its place.

    fMRLRec takes every user's last interaction for testing and the one before for validation, and
    counts items among the interactions, so items without any stay out.
    """

    name = "fmrlrec"
    title = "fMRLRec"
    systems = ("fMRLRec",)
    roles = (
        Role("text", media=("text",), what="vectors of texts"),
        Role("image", media=("image",), what="vectors of images"),
    )
    interactions = "required"
    cold_items = False
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {"mask": "it has a row for every item and no mask"}
    id_base = 1
    user_base = 1
    options = Options

    def check(self, content: Content) -> None:
        """Every user has enough to take two away."""
        assert content.interactions is not None, "interactions are required"
        refuse_short(content.interactions, MIN_TO_SPLIT, self.title)

    def converter(self, role: str, options: Any) -> Callable[[np.ndarray], np.ndarray]:
        """Float32, of length 1 if that is asked for."""
        convert = super().converter(role, options)
        return (lambda rows: normalized(convert(rows))) if options.normalize else convert

    def write(self, out: Path, content: Content) -> None:
        """Matrices, maps, sequences and texts."""
        for role, rows in content.features.items():
            write_npy(out / _file(role, rows.column.spec.model), rows)
        p5.write_dataset(out, content)
        (out / "item2img_dict.pkl").write_bytes(pickle.dumps({}, protocol=2))

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = ``item2id`` - 1."""
        numbers = json.loads((out / p5.MAPS).read_text(encoding="utf-8"))["item2id"]
        for role, entry in manifest["features"].items():
            matrix = read_npy(out / _file(role, entry["spec"]["model"]), len(numbers))
            for item_id, number in numbers.items():
                yield Entry(role, item_id, matrix[number - 1])


def _file(role: str, model: str) -> str:
    encoder = re.sub(r"[^a-z0-9._-]+", "-", PurePosixPath(model).name.lower())
    return encoder + _SUFFIX[role]

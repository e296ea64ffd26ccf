"""Preference discerning, or Mender (https://github.com/facebookresearch/preference_discerning)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mmfeat.export import p5, pickles
from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.interactions import MIN_TO_SPLIT, refuse_short


class Options(BaseModel):
    """What the file's name says of the vectors, as the project's setting says it.

    Attributes:
        model: ``content_model``; the last part of the feature's model name when empty.
        features: ``features_needed``, joined by ``_``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(default="", pattern=r"^[A-Za-z0-9._-]*$")
    features: str = Field(default="title_price_brand_categories", pattern=r"^[A-Za-z0-9._-]+$")


class PreferenceDiscerning(Exporter):
    """``NAME_MODEL_FEATURES_embeddings.pkl`` and ``NAME.txt``, for ``ID_generation/preprocessing/processed``.

    The vectors are a pickled float32 array ``[items, dims]``: ``ID_generation/generate_id.py:137-214`` loads
    it where it is there, in place of what it would compute by ``content_model``. Row ``k - 1`` is item ``k``
    (``GenRet/load_data.py:311-315``). A line of ``NAME.txt`` is a user and their items in time order; both
    count from 1 (lines 326-329).

    The project makes the semantic ids itself, in the folder of each run, beside codebooks that its models
    read too; so there are none here.
    """

    name = "preference-discerning"
    title = "Preference discerning"
    systems = ("Mender", "TIGER and LC-Rec in its repository")
    roles = (Role("item", what="what its semantic ids are made from"),)
    interactions = "required"
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {"mask": "it has a row for every item and no mask"}
    id_base = 1
    user_base = 1
    options = Options

    def check(self, content: Content) -> None:
        """Every user has enough to take two away."""
        assert content.interactions is not None, "interactions are required"
        refuse_short(content.interactions, MIN_TO_SPLIT, self.title)

    def write(self, out: Path, content: Content) -> None:
        """Vectors and sequences."""
        rows = content.features["item"]
        assert content.interactions is not None, "interactions are required"
        path = out / _file(content.name, content.options.model_dump(), rows.column.spec.model)
        pickles.write_array(path, rows.shape, rows.dtype, rows.blocks())
        p5.write_sequences(out / f"{content.name}.txt", content.interactions)

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = item - 1."""
        entry = manifest["features"]["item"]
        path = out / _file(manifest["name"], manifest["options"], entry["spec"]["model"])
        shape = (len(items.ids), *entry["exported"]["shape"])
        matrix = pickles.read_array(path, shape, np.dtype(entry["exported"]["dtype"]))
        yield from (Entry("item", i, row) for i, row in zip(items.ids, matrix, strict=True))


def _file(name: str, options: Mapping[str, str], model: str) -> str:
    return f"{name}_{options['model'] or PurePosixPath(model).name}_{options['features']}_embeddings.pkl"

"""Cornac (https://cornac.preferred.ai): one matrix and the ids of its rows, for a ``FeatureModality``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, Interactions, ItemMap
from mmfeat.export.files import read_npy, write_json, write_npy, write_plain_table
from mmfeat.export.ids import NUMBER_THEM, IdOptions, breaks_lines, raw_id, refuse_ids

FEATURES, IDS, INTERACTIONS = "features.npy", "ids.json", "interactions.tsv"


class Cornac(Exporter):
    """``features.npy`` (float32 ``[items, dims]``), ``ids.json`` (of its rows), ``interactions.tsv``.

    Cornac has no file format for features; build the modality from the two files::

        item_image = ImageModality(
            features=np.load("NAME/features.npy"), ids=json.load(open("NAME/ids.json"))
        )

    ``FeatureModality.build`` moves every listed row to the place that Cornac gave the item, and leaves
    whatever was there for an item that is not listed; so all are. ``interactions.tsv`` has no header:
    user, item, rating (1.0 if not all have one), milliseconds, for ``Reader().read(path, "UIRT",
    sep="\\t")``; without the last column (``"UIR"``) where times are not known. Cornac splits by itself.
    """

    name = "cornac"
    title = "Cornac"
    systems = ("VBPR", "AMR", "CausalRec", "VMF", "DMRL", "BiVAECF")
    roles = (Role("item", what="features of an ImageModality or another FeatureModality"),)
    interactions = "optional"
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {
        "mask": "it gives an item that is not listed the row of another one, silently"
    }
    id_base = None
    user_base = None
    options = IdOptions

    def check(self, content: Content) -> None:
        """Ids must survive ``Reader``, which strips lines, each from its user on, and cuts them at tabs."""
        if content.options.ids == "index" or content.interactions is None:
            return
        users = content.interactions.user_ids
        broken = "hold control characters, which end a line or a field"
        refuse_ids([*content.ids, *users], breaks_lines, broken, NUMBER_THEM)
        stripped = "of users begin with a space or are empty, which Cornac's reader drops"
        refuse_ids(users, lambda user: not user or user != user.lstrip(), stripped, NUMBER_THEM)

    def write(self, out: Path, content: Content) -> None:
        """Matrix, ids and interactions."""
        tokens = content.options.tokens(content.ids)
        write_npy(out / FEATURES, content.features["item"])
        write_json(out / IDS, tokens)
        if content.interactions is not None:
            users = content.options.tokens(content.interactions.user_ids)
            _write_interactions(out / INTERACTIONS, content.interactions, users, tokens)

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row ``k`` is of the ``k``-th id."""
        tokens = json.loads((out / IDS).read_text(encoding="utf-8"))
        for token, row in zip(tokens, read_npy(out / FEATURES, len(tokens)), strict=True):
            yield Entry("item", raw_id(token, items, manifest["options"]["ids"]), row)


def _write_interactions(path: Path, inter: Interactions, users: list[str], items: list[str]) -> None:
    columns: dict[str, Any] = {
        "user": pa.array(users, pa.string()).take(pa.array(inter.users)),
        "item": pa.array(items, pa.string()).take(pa.array(inter.items)),
        "rating": pa.repeat("1.0", len(inter)) if inter.ratings is None else inter.ratings,
    }
    if inter.timestamps is not None:
        columns["timestamp"] = inter.timestamps
    write_plain_table(path, columns, header=False)

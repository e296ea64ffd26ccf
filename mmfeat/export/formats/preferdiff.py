"""PreferDiff (https://github.com/lswhim/PreferDiff)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mmfeat.export import pickles, user_split
from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.interactions import refuse_fewer

# `max_seq_length` of default.yaml, and the item that is predicted: the project pads and never cuts.
_KEPT = 11


class Options(BaseModel):
    """PreferDiff's options.

    Attributes:
        embedding: ``embedding`` of ``models/PreferDiff/config.yaml``, which names the file of vectors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding: str = Field(default="openai", pattern=r"^[A-Za-z0-9._-]+$")


class PreferDiff(Exporter):
    """``EMBEDDING_item_embedding.pkl``, ``data.txt`` and ``train_``, ``valid_`` and ``test_data.txt``.

    The vectors are a pickled float32 array ``[items, dims]``. ``load_item_embeddings``
    (``models/PreferDiff/_model.py:56-80``) puts a row for the padding before them, so row ``k - 1`` is item
    ``k``. A line of ``data.txt`` has a user's items in time order; ``recdata.py:46-59`` takes the largest
    number in it for the number of items, so items without interactions stay out.

    The other three have the same lines, by user: 80, 10 and 10 percent of the users, drawn at random and
    always the same. The last item of a line is to be predicted. ``SequenceDataset`` (``recdata.py:16-30``)
    pads histories to 10 items and cannot take longer ones, so the last 11 items of a user are kept there.
    """

    name = "preferdiff"
    title = "PreferDiff"
    systems = ("PreferDiff",)
    roles = (Role("item", what="what it diffuses: vectors of texts upstream"),)
    interactions = "required"
    cold_items = False
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {"mask": "it has a row for every item and no mask"}
    id_base = 1
    user_base = None
    options = Options

    def check(self, content: Content) -> None:
        """Every user has an item to predict, and one before it."""
        assert content.interactions is not None, "interactions are required"
        user_split.refuse_few(content.interactions)
        refuse_fewer(content.interactions, 2, "PreferDiff predicts the last by those before")

    def write(self, out: Path, content: Content) -> None:
        """Vectors and sequences."""
        rows, inter = content.features["item"], content.interactions
        assert inter is not None, "interactions are required"
        path = out / f"{content.options.embedding}_item_embedding.pkl"
        pickles.write_array(path, rows.shape, rows.dtype, rows.blocks())
        sequences = [met + 1 for _, met in inter.sequences()]
        _write_lines(out / "data.txt", sequences)
        for part, users in user_split.draw(len(sequences)).items():
            _write_lines(out / f"{part}_data.txt", (sequences[user][-_KEPT:] for user in users))

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = item - 1."""
        exported = manifest["features"]["item"]["exported"]
        path = out / f"{manifest['options']['embedding']}_item_embedding.pkl"
        shape = (len(items.ids), *exported["shape"])
        for item_id, row in zip(
            items.ids, pickles.read_array(path, shape, np.dtype(exported["dtype"])), strict=True
        ):
            yield Entry("item", item_id, row)


def _write_lines(path: Path, sequences: Iterable[np.ndarray]) -> None:
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.writelines(f"{' '.join(map(str, met))}\n" for met in sequences)

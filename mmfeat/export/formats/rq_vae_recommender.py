"""RQ-VAE-Recommender (https://github.com/EdoardoBotta/RQ-VAE-Recommender)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmfeat.export import p5
from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, Interactions, ItemMap, Rows
from mmfeat.export.interactions import MIN_TO_SPLIT, refuse_short
from mmfeat.export.tensors import need_torch, read_tensors, to_tensor, write_tensors
from mmfeat.schemas.errors import UsageError

if TYPE_CHECKING:
    import torch

# What the project takes of a vector, and of a history (data/processed.py:32-36, 78).
MAX_DIMS, MAX_HISTORY = 768, 20
# Its own draw of the items that validate the quantizer (data/amazon.py:154-156).
_SEED, _VALIDATED = 42, 0.05


class RQVAERecommender(Exporter):
    """A ``dataset_folder`` whose ``dataset_split`` is ``NAME``.

    ``raw/NAME`` has ``sequential_data.txt``, ``datamaps.json`` (both count from 1) and ``meta.json.gz``, as
    P5 has them. ``processed/data_NAME.pt`` is what ``AmazonReviews.process`` (``data/amazon.py:99-158``)
    makes of these, with the exported vectors in place of those that it computes by sentence-t5-xxl:
    float32 ``[items, dims]``, row = number - 1, and histories with items from 0. As it is there, PyTorch
    Geometric computes nothing: its ``InMemoryDataset.load`` takes a pair of a dict and slices.

    ``ItemData`` and ``SeqData`` (``data/processed.py:78, 156``) cut vectors after 768 numbers without a word.
    ``item.text`` is taken from the file but never read (``data/processed.py:66-69``), so item numbers stand
    there: texts would have to be a NumPy array, and one by NumPy 2 does not load in the project's NumPy 1.24.
    """

    name = "rq-vae-recommender"
    title = "RQ-VAE-Recommender"
    systems = ("RQ-VAE-Recommender",)
    roles = (Role("item", what="what semantic ids are made from: at most 768 dims"),)
    interactions = "required"
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {"mask": "it has a row for every item and no mask"}
    id_base = 1
    user_base = 1

    def check(self, content: Content) -> None:
        """Nothing of a vector is cut off, and every user has enough to take two away."""
        need_torch(self.name)
        _refuse_long(content.features["item"])
        assert content.interactions is not None, "interactions are required"
        refuse_short(content.interactions, MIN_TO_SPLIT, self.title)

    def write(self, out: Path, content: Content) -> None:
        """The raw files, and what would be made of them."""
        raw, processed = out / "raw" / content.name, out / "processed"
        raw.mkdir(parents=True)
        processed.mkdir()
        p5.write_dataset(raw, content)
        write_tensors(processed / f"data_{content.name}.pt", (_processed(content), None))

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = ``item2id`` - 1."""
        name = manifest["name"]
        numbers = json.loads((out / "raw" / name / p5.MAPS).read_text(encoding="utf-8"))["item2id"]
        data, _ = read_tensors(out / "processed" / f"data_{name}.pt")
        matrix = data["item"]["x"].numpy()
        if len(matrix) != len(numbers):
            raise UsageError(f"There are {len(matrix):,} vectors for {len(numbers):,} items.")
        for item_id, number in numbers.items():
            yield Entry("item", item_id, matrix[number - 1])


def _refuse_long(rows: Rows) -> None:
    name, dims = rows.column.spec.name, rows.shape[1]
    if dims > MAX_DIMS:
        raise UsageError(
            f"RQ-VAE-Recommender reads the first {MAX_DIMS} numbers of a vector, and those of {name} have"
            f" {dims:,}.",
            hint=f"Write --project {name}:{MAX_DIMS} (principal components), or --cut {name}:{MAX_DIMS} for a"
            " model that was trained to be cut.",
        )


def _processed(content: Content) -> dict[Any, Any]:
    """``HeteroData.to_dict()`` of what the project keeps of a dataset."""
    import torch

    assert content.interactions is not None, "interactions are required"
    items = len(content.ids)
    generator = torch.Generator().manual_seed(_SEED)
    return {
        "_global_store": {},
        "item": {
            "x": to_tensor(content.features["item"]),
            "text": torch.arange(1, items + 1),
            "is_train": torch.rand(items, generator=generator) > _VALIDATED,
        },
        ("user", "rated", "item"): {"history": _histories(content.interactions)},
    }


def _histories(inter: Interactions) -> dict[str, dict[str, Any]]:
    """Part to what each user met and what is to be predicted; items from 0, users from 1."""
    import torch

    sequences = [positions for _, positions in inter.sequences()]
    users = torch.arange(1, len(sequences) + 1)[:, None]
    return {
        # As lists, since the project cuts windows of any length from those that it trains on.
        "train": {
            "itemId": [met[:-2].tolist() for met in sequences],
            "itemId_fut": _targets(sequences, -2),
            "userId": users,
        },
        "eval": {
            "itemId": _padded([met[:-2] for met in sequences]),
            "itemId_fut": _targets(sequences, -2),
            "userId": users,
        },
        "test": {
            "itemId": _padded([met[:-1] for met in sequences]),
            "itemId_fut": _targets(sequences, -1),
            "userId": users,
        },
    }


def _targets(sequences: list[np.ndarray], place: int) -> torch.Tensor:
    import torch

    return torch.tensor([[int(met[place])] for met in sequences])


def _padded(histories: list[np.ndarray]) -> torch.Tensor:
    """int64 ``[users, 20]``: the last 20 items of each history, then -1."""
    import torch

    padded = np.full((len(histories), MAX_HISTORY), -1, np.int64)
    for row, met in zip(padded, histories, strict=True):
        kept = met[-MAX_HISTORY:]
        row[: len(kept)] = kept
    return torch.from_numpy(padded)

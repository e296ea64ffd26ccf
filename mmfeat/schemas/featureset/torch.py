"""The FeatureSet in PyTorch: a ``Dataset`` of items, and a feature as an embedding table."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from mmfeat.schemas.errors import MissingExtra, UsageError
from mmfeat.schemas.featureset import FeatureColumn, FeatureSet

try:
    import torch
except ImportError:
    raise MissingExtra("A FeatureSet in PyTorch", "extract", "torch") from None


class ItemDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """One item per row, in the set's order, in the types that ``DataLoader`` batches.

    An element holds ``item_id`` (str) and per feature its value: a tensor ``[dims]`` or
    ``[vectors, dims]`` of the stored dtype (codes: int32), or a str. ``NAME.mask`` is False if the
    item has none; the value is then NaN, -1 for codes, or an empty text. Of token vectors it is a tensor
    ``[m, dims]`` (``[0, dims]`` if there is none), for which a ``DataLoader`` needs a ``collate_fn``:
    ``m`` differs from item to item.
    """

    def __init__(self, features: FeatureSet) -> None:
        self._ids = features.ids
        self._values: dict[str, torch.Tensor | list[str] | list[torch.Tensor]] = {}
        for name, column in features.items():
            self._values[name] = _values(column)
            self._values[f"{name}.mask"] = torch.from_numpy(np.array(column.mask))

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"item_id": self._ids[row], **{name: values[row] for name, values in self._values.items()}}


def embedding_table(
    column: FeatureColumn,
    missing: Literal["error", "zero", "mean"] = "error",
    padding: bool = False,
    freeze: bool = True,
) -> torch.nn.Embedding:
    """A vector feature as ``torch.nn.Embedding`` in float32: row k is the k-th id of the set.

    Args:
        missing: what an item without a value gets: nothing (an error that counts them), zeros, or the
            mean of the others.
        padding: put a row of zeros first, index 0, that is never trained; the k-th id is then row k + 1.
        freeze: whether training leaves the vectors as they are.

    Raises:
        UsageError: the feature has not one vector per item, or items lack one.
    """
    if column.spec.kind != "vector":
        raise UsageError(f"{column.spec.version} holds no vectors but {column.spec.kind}.")
    matrix = np.array(column.matrix, dtype=np.float32)
    lacking = int((~column.mask).sum())
    if lacking and (missing == "error" or lacking == len(matrix)):
        raise UsageError(
            f"{lacking} of {len(matrix)} items have no value in {column.spec.version}.",
            hint='Leave them out, or say what they get: missing="zero" or missing="mean".',
        )
    matrix[~column.mask] = 0.0 if missing == "zero" else matrix[column.mask].mean(axis=0)
    if padding:
        matrix = np.concatenate([np.zeros_like(matrix[:1]), matrix])
    table: torch.nn.Embedding = torch.nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
        torch.from_numpy(matrix), freeze=freeze, padding_idx=0 if padding else None
    )
    return table


def nested(column: FeatureColumn) -> torch.Tensor:
    """Token vectors as one nested tensor ``[n, any, dims]`` of the jagged layout; an item without a value
    has none."""
    own = column.ragged
    found: torch.Tensor = torch.nested.nested_tensor_from_jagged(
        torch.from_numpy(own.values), torch.from_numpy(own.offsets)
    )
    return found


def padded(column: FeatureColumn) -> tuple[torch.Tensor, torch.Tensor]:
    """Token vectors ``[n, most, dims]`` with zeros behind those of each item, and bool ``[n, most]``, True
    if there is a vector."""
    own = column.ragged
    counts = np.diff(own.offsets)
    there = np.arange(max(counts, default=0)) < counts[:, None]
    filled = np.zeros((*there.shape, own.values.shape[1]), own.values.dtype)
    filled[there] = own.values
    return torch.from_numpy(filled), torch.from_numpy(there)


def _values(column: FeatureColumn) -> torch.Tensor | list[str] | list[torch.Tensor]:
    if isinstance(column.values, np.ndarray):
        return torch.from_numpy(np.array(column.values))
    if column.spec.form == "tokens":
        none = np.empty((0, *column.spec.shape), column.spec.value_dtype)
        return [torch.from_numpy(np.array(none if own is None else own)) for own in column.tokens]
    return [text or "" for text in column.texts]

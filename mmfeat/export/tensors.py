"""Files of ``torch.save``, for targets that read nothing else. Tensors and plain data alone are read back."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmfeat.export.content import Rows
from mmfeat.schemas.errors import MissingExtra

if TYPE_CHECKING:
    import torch


def need_torch(format: str) -> None:
    """MissingExtra where PyTorch is not installed."""
    if find_spec("torch") is None:
        raise MissingExtra(f"Exporting to {format}", "extract", "torch")


def to_tensor(rows: Rows) -> torch.Tensor:
    """A feature as one tensor, which is in memory once."""
    import torch

    tensor = torch.from_numpy(np.empty(rows.shape, rows.dtype))
    start = 0
    for block in rows.blocks():
        tensor[start : start + len(block)] = torch.from_numpy(block)
        start += len(block)
    return tensor


def write_tensor(path: Path, rows: Rows) -> None:
    """A feature as one tensor."""
    write_tensors(path, to_tensor(rows))


def write_tensors(path: Path, value: Any) -> None:
    """Tensors, in dicts, lists and tuples of plain data."""
    import torch

    torch.save(value, path)


def write_array(path: Path, array: np.ndarray) -> None:
    """An array as one tensor."""
    import torch

    write_tensors(path, torch.from_numpy(np.ascontiguousarray(array)))


def write_each_tensor(folder: Path, rows: Rows, names: Sequence[str]) -> None:
    """One file per item that has a value, ``names[k].pt`` for the item at position ``k``."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    for position, value in rows.values():
        # A copy: torch.save writes all of the memory that a tensor is a view of.
        torch.save(torch.from_numpy(np.array(value)), folder / f"{names[position]}.pt")


def read_tensor(path: Path) -> np.ndarray:
    """The tensor in a file."""
    array: np.ndarray = read_tensors(path).numpy()
    return array


def read_tensors(path: Path) -> Any:
    """What :func:`write_tensors` wrote. Nothing but tensors and plain data is unpickled."""
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)

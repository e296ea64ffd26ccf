"""safetensors: every feature a tensor of one file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmfeat.export.base import Exporter, Kind, Policy
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.files import write_json

FILE = "features.safetensors"
_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


class Safetensors(Exporter):
    """``features.safetensors``: a tensor ``{feature}`` each, rows as ``ids.json`` lists the items.

    With ``--missing mask`` a row without a value is NaN (0 in an integer tensor, -1 among codes) and
    the tensor ``{feature}.mask`` is false there.

    Of any number of vectors per item, ``{feature}`` holds those of all items, one after the other, and
    ``{feature}.offsets`` says where each item's begin: item ``k`` has those from ``offsets[k]`` to
    ``offsets[k + 1]``, none where it has no value.

    The file is written here and not by the library, which needs every tensor whole in memory, and a
    second time as bytes. Its layout: the header's length as uint64, little endian; the header, JSON
    with ``dtype``, ``shape`` and ``data_offsets`` of every tensor; the tensors.
    """

    name = "safetensors"
    title = "safetensors"
    systems = ("PyTorch", "JAX", "TensorFlow", "NumPy", "Rust")
    kinds: ClassVar[tuple[Kind, ...]] = ("vector", "vectors", "tokens", "codes")
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mask", "mean", "zero", "drop")

    def write(self, out: Path, content: Content) -> None:
        """One file, block by block."""
        tensors: dict[str, tuple[str, tuple[int, ...], Iterator[np.ndarray]]] = {}
        for name, rows in content.features.items():
            if rows.is_tokens:
                offsets = rows.offsets()
                tensors[f"{name}.offsets"] = ("int64", offsets.shape, iter([offsets]))
                shape = (int(offsets[-1]), *rows.shape[1:])
                tensors[name] = (str(rows.dtype), shape, rows.token_blocks())
            else:
                tensors[name] = (str(rows.dtype), rows.shape, rows.blocks())
            if not rows.present.all():
                tensors[f"{name}.mask"] = ("bool", rows.present.shape, iter([rows.present]))
        header: dict[str, Any] = {}
        end = 0
        for name, (dtype, shape, _) in tensors.items():
            start, end = end, end + math.prod(shape) * np.dtype(dtype).itemsize
            header[name] = {"dtype": _NAMES[dtype], "shape": shape, "data_offsets": [start, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
        with (out / FILE).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, _, blocks in tensors.values():
                for block in blocks:
                    block.tofile(file)
        write_json(out / "ids.json", content.ids)

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row ``k`` of every tensor is of the ``k``-th id."""
        ids = json.loads((out / "ids.json").read_text(encoding="utf-8"))
        with (out / FILE).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        for role in manifest["features"]:
            own: np.ndarray | list[np.ndarray] = _tensor(out / FILE, length + 8, header[role])
            if f"{role}.offsets" in header:
                offsets = _tensor(out / FILE, length + 8, header[f"{role}.offsets"])
                own = np.split(np.asarray(own), offsets[1:-1])
            mask = header.get(f"{role}.mask")
            present = np.ones(len(ids), bool) if mask is None else _tensor(out / FILE, length + 8, mask)
            found = zip(ids, own, present, strict=True)
            yield from (Entry(role, i, row) for i, row, ok in found if ok)


def _tensor(path: Path, start: int, entry: Mapping[str, Any]) -> np.ndarray:
    dtype = next(name for name, short in _NAMES.items() if short == entry["dtype"])
    return np.memmap(path, dtype, "r", start + entry["data_offsets"][0], tuple(entry["shape"]))

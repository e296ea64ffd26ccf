"""NumPy files: one ``.npy`` per feature and the ids beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmfeat.export.base import Exporter, Kind, Policy
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.files import read_npy, write_json, write_npy, write_tokens


class Npy(Exporter):
    """``{feature}.npy`` row by row as ``ids.json`` lists the items; texts as ``{feature}.json``.

    With ``--missing mask`` a row without a value is NaN (0 in an integer matrix, -1 among codes, null
    among texts) and ``{feature}.mask.npy`` is False there.

    Of any number of vectors per item, ``{feature}.npy`` holds those of all items, one after the other, and
    ``{feature}.offsets.npy`` says where each item's begin: item ``k`` has those from ``offsets[k]`` to
    ``offsets[k + 1]``, none where it has no value.
    """

    name = "npy"
    title = "NumPy"
    systems = ("NumPy", "PyTorch", "JAX", "scikit-learn")
    kinds: ClassVar[tuple[Kind, ...]] = ("vector", "vectors", "tokens", "codes", "text")
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mask", "mean", "zero", "empty", "drop")

    def write(self, out: Path, content: Content) -> None:
        """Matrices, masks where something is masked, and ids."""
        write_json(out / "ids.json", content.ids)
        for name, rows in content.features.items():
            if rows.is_text:
                write_json(out / f"{name}.json", list(rows.texts()))
                continue
            if rows.is_tokens:
                offsets = rows.offsets()
                np.save(out / f"{name}.offsets.npy", offsets)
                write_tokens(out / f"{name}.npy", offsets, rows)
            else:
                write_npy(out / f"{name}.npy", rows)
            if not rows.present.all():
                np.save(out / f"{name}.mask.npy", rows.present)

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row ``k`` of every file is of the ``k``-th id."""
        ids = json.loads((out / "ids.json").read_text(encoding="utf-8"))
        for role, entry in manifest["features"].items():
            if entry["exported"]["dtype"] == "string":
                texts = json.loads((out / f"{role}.json").read_text(encoding="utf-8"))
                yield from (Entry(role, i, t) for i, t in zip(ids, texts, strict=True) if t is not None)
                continue
            own = _rows(out, role, len(ids))
            mask = out / f"{role}.mask.npy"
            present = np.load(mask) if mask.exists() else np.ones(len(ids), bool)
            found = zip(ids, own, present, strict=True)
            yield from (Entry(role, i, row) for i, row, ok in found if ok)


def _rows(out: Path, role: str, items: int) -> np.ndarray | list[np.ndarray]:
    """What each item has: its row of the matrix, or its own vectors."""
    offsets = out / f"{role}.offsets.npy"
    if not offsets.exists():
        return read_npy(out / f"{role}.npy", items)
    ends = read_npy(offsets, items + 1)[1:]
    return np.split(read_npy(out / f"{role}.npy", int(ends[-1])), ends[:-1])

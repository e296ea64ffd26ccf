"""What every export carries beside its own files: manifest, id maps, row checksums, fitted arrays."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmfeat.export.base import Exporter
from mmfeat.export.content import Content, ExportInput, ItemMap, Rows
from mmfeat.export.files import digest, write_json
from mmfeat.export.ids import bases
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.exports import ID_MAP
from mmfeat.schemas.featureset.arrow import describe

if TYPE_CHECKING:
    from mmfeat.export.prepare import Prepared
    from mmfeat.export.request import Request

MANIFEST_VERSION = 1
MANIFEST, USER_MAP, ROWS = "manifest.json", "user_map.parquet", "rows.parquet"
# What is read of every manifest.
_NEEDED = {"format", "name", "items", "id_base", "user_base", "options", "features", "files"}


def write_companions(
    out: Path, data: ExportInput, exporter: Exporter, request: Request, prepared: Prepared
) -> dict[str, Any]:
    """Write them all, the manifest last; returns the manifest."""
    content = prepared.content
    id_base, user_base = bases(exporter, content.options)
    pq.write_table(_map(content.ids, "item_id", id_base), out / ID_MAP)
    if content.interactions is not None:
        pq.write_table(_map(content.interactions.user_ids, "user_id", user_base), out / USER_MAP)
    _write_checksums(out / ROWS, content)
    fitted = {role: _write_fitted(out, role, rows) for role, rows in content.features.items()}
    document = {
        "manifest_version": MANIFEST_VERSION,
        "format": exporter.name,
        "target": exporter.title,
        "mmfeat": version("mmfeat"),
        "name": content.name,
        "dataset": data.dataset,
        "snapshot": data.snapshot,
        "seed": request.seed,
        "items": len(content.ids),
        "id_base": id_base,
        "user_base": user_base,
        "pad_row": exporter.pad_row,
        "options": content.options.model_dump(mode="json"),
        "features": {
            role: {**_feature(rows), "feature": prepared.roles[role], "fitted": fitted[role]}
            for role, rows in content.features.items()
        },
        **prepared.record,
        "files": {
            path.relative_to(out).as_posix(): {"sha256": digest(path), "bytes": path.stat().st_size}
            for path in sorted(out.rglob("*"))
            if path.is_file()
        },
    }
    write_json(out / MANIFEST, document, indent=1)
    return document


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export.

    Raises:
        UsageError: there is none, or this mmfeat does not read its version.
    """
    path = folder / MANIFEST
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{folder} is no export of mmfeat: it has no {MANIFEST}.",
            hint="Name the folder that was given as --out.",
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot read {path}: {error}.") from None
    if not isinstance(document, dict) or document.get("manifest_version") != MANIFEST_VERSION:
        raise UsageError(
            f"{path} is of a version that this mmfeat does not read.",
            hint=f"It reads version {MANIFEST_VERSION}.",
        )
    files = document.get("files")
    if not isinstance(files, dict) or ID_MAP not in files or not document.keys() >= _NEEDED:
        raise UsageError(f"{path} is not as an export writes it.", hint="Make the export again.")
    return document


def read_map(folder: Path) -> ItemMap:
    """The export's id map."""
    table = pq.read_table(folder / ID_MAP)
    internal = table["internal_id"].to_pylist() if "internal_id" in table.column_names else None
    return ItemMap(table["item_id"].to_pylist(), internal)


def read_checksums(folder: Path) -> dict[str, dict[str, bytes]]:
    """Role to item id to the checksum of the item's value."""
    found: dict[str, dict[str, bytes]] = {}
    table = pq.read_table(folder / ROWS)
    columns = (table[name].to_pylist() for name in ("role", "item_id", "sha256"))
    for role, item_id, checksum in zip(*columns, strict=True):
        found.setdefault(role, {})[item_id] = checksum
    return found


def checksum(value: np.ndarray | str) -> bytes:
    """SHA-256 of one item's value: a text's UTF-8, or an array's little-endian bytes, row by row."""
    if isinstance(value, str):
        return hashlib.sha256(value.encode()).digest()
    little = value.astype(value.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(np.ascontiguousarray(little).data).digest()


def _map(ids: list[str], name: str, base: int | None) -> pa.Table:
    columns = {name: pa.array(ids, pa.string())}
    if base is not None:
        columns["internal_id"] = pa.array(np.arange(len(ids)) + base)
    return pa.table(columns)


def _write_checksums(path: Path, content: Content) -> None:
    schema = pa.schema([("role", pa.string()), ("item_id", pa.string()), ("sha256", pa.binary(32))])
    with pq.ParquetWriter(path, schema) as writer:
        for role, rows in content.features.items():
            sums = [(content.ids[position], checksum(value)) for position, value in rows.values()]
            columns = {
                "role": [role] * len(sums),
                "item_id": [i for i, _ in sums],
                "sha256": [c for _, c in sums],
            }
            writer.write_table(pa.table(columns, schema=schema))


def _write_fitted(out: Path, role: str, rows: Rows) -> list[str]:
    """Arrays that steps fitted (a PCA's components, a scale), one ``.npz`` per step that has any."""
    written = []
    for number, step in enumerate(rows.column.steps):
        if step.arrays:
            name = f"{role}.{number}.{step.op}.npz"
            # A scale per row follows the exported rows, not those of the feature set.
            arrays: dict[str, Any] = {
                key: array[rows.index] if key in step.params.get("per_row", ()) else array
                for key, array in step.arrays.items()
            }
            np.savez(out / name, **arrays)
            written.append(name)
    return written


def _feature(rows: Rows) -> dict[str, Any]:
    made = describe(rows.column)
    shape = [] if rows.is_text else list(rows.shape[1:])
    exported = {
        "dtype": "string" if rows.is_text else str(rows.dtype),
        # Of any number of vectors, that number is null.
        "shape": [None, *shape] if rows.is_tokens else shape,
        "rows": int(rows.present.sum()),
    }
    return {**made, "exported": exported}

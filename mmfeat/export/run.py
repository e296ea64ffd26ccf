"""Exports, from input to a finished folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmfeat.export import manifest, registry
from mmfeat.export.content import ExportInput
from mmfeat.export.files import refuse_used, whole_folder
from mmfeat.export.own_interactions import taken
from mmfeat.export.prepare import prepare
from mmfeat.export.request import Request
from mmfeat.export.shape import shape
from mmfeat.schemas.catalog import as_interactions
from mmfeat.schemas.notebook import ShortRepr


@dataclass(frozen=True, repr=False)
class ExportReport(ShortRepr):
    """What an export did.

    Attributes:
        path: the folder.
        format: the format's name.
        items: items in it.
        features: role to ``name@fingerprint``.
        policies: role to what became of items that lack its feature.
        missing: role to the ids that its policy was applied to.
        left_out: items of the feature set that are not in the export, and those that are gone.
        interactions: how many were written and why others were not; None without interactions.
        files: every file's name and bytes, the manifest left out.
        unrecorded: why the store could not note that the export was made; None if it did, or if
            there is no store.
    """

    path: Path
    format: str
    items: int
    features: dict[str, str]
    policies: dict[str, str]
    missing: dict[str, list[str]]
    left_out: int
    interactions: dict[str, Any] | None
    files: dict[str, int]
    unrecorded: str | None = None


def export(data: ExportInput, request: Request) -> ExportReport:
    """Write features in the exact files that a format's target loads.

    Raises:
        UsageError: something that the target could not load, or that would be lost silently.
            Nothing is left behind.
        OutputError: the folder cannot be made or written. Nothing is left behind either.
    """
    refuse_used(request.folder)
    exporter = registry.get(request.format)
    if request.interactions is not None:
        own = taken(data.interactions, lambda: data.items["item_id"], exporter, request)
        data = replace(data, interactions=own.table, interactions_file=own.source)
    data = replace(
        data, features=shape(data.features, data.items, request), interactions=_whole(data.interactions)
    )
    prepared = prepare(data, exporter, request)
    with whole_folder(request.folder) as folder:
        exporter.write(folder, prepared.content)
        written = manifest.write_companions(folder, data, exporter, request, prepared)
    return ExportReport(
        path=Path(request.out),
        format=exporter.name,
        items=len(prepared.content.ids),
        features={role: rows.column.spec.version for role, rows in prepared.content.features.items()},
        policies=written["missing"]["policy"],
        missing=written["missing"]["items"],
        left_out=len(data.gone) + len(data.features.ids) - len(prepared.content.ids),
        interactions=written["interactions"],
        files={name: entry["bytes"] for name, entry in written["files"].items()},
    )


def _whole(interactions: pa.Table | None) -> pa.Table | None:
    """Interactions with all columns, be it without a value."""
    return None if interactions is None else as_interactions(interactions)

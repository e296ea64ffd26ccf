"""Exports, from input to a finished folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmfeat.export import manifest, registry
from mmfeat.export.content import ExportInput
from mmfeat.export.files import refuse_used, whole_folder
from mmfeat.export.prepare import Request, prepare


@dataclass(frozen=True)
class ExportReport:
    """What an export did.

    Attributes:
        path: the folder.
        format: the format's name.
        items: items in it.
        features: role to ``name@fingerprint``.
        missing: role to the ids that the missing policy was applied to.
        left_out: items of the feature set that are not in the export.
        interactions: how many were written and why others were not; None without interactions.
        files: every file's name and bytes, the manifest left out.
        unrecorded: why the store could not note that the export was made; None where it did, or where
            there is no store.
    """

    path: Path
    format: str
    items: int
    features: dict[str, str]
    missing: dict[str, list[str]]
    left_out: int
    interactions: dict[str, Any] | None
    files: dict[str, int]
    unrecorded: str | None = None


def export(
    data: ExportInput,
    format: str,
    out: str | Path,
    *,
    features: Mapping[str, str] | Sequence[str] | None = None,
    items: Literal["all", "interacted"] | Sequence[str] = "all",
    missing: str | None = None,
    k_core: int | None = None,
    split: str | None = None,
    unmatched: Literal["count", "error"] = "count",
    options: Mapping[str, Any] | None = None,
) -> ExportReport:
    """Write features in the exact files that ``format``'s target loads.

    Args:
        out: a folder that is not there yet, or empty. It appears whole or not at all. Its name is
            what the target will call the dataset.
        features: role to feature (see ``mmfeat export --list``), or the features to choose among;
            all of them when None. A role is guessed where only one feature fits.
        items: all items, those with interactions, or these, in this order.
        missing: ``mask``, ``mean``, ``zero``, ``drop`` or ``error``; the format's default when None.
        k_core: keep users and items with at least so many interactions, until all have.
        split: ``leave-one-out``, ``ratio:0.8,0.1,0.1`` or ``time:VALID,TEST``; the format's own
            default when None.
        unmatched: what to do with interactions whose item is not exported: count them in the
            manifest, or fail.
        options: the format's own options.

    Raises:
        UsageError: something that the target could not load, or that would be lost silently.
            Nothing is left behind.
    """
    place = Path(os.path.realpath(Path(out).expanduser()))
    refuse_used(place)
    exporter = registry.get(format)
    request = Request(features, items, missing, k_core, split, unmatched, options or {})
    prepared = prepare(data, exporter, request, Path(out).name or place.name)
    with whole_folder(place) as folder:
        exporter.write(folder, prepared.content)
        written = manifest.write_companions(folder, data, exporter, prepared)
    return ExportReport(
        path=Path(out),
        format=exporter.name,
        items=len(prepared.content.ids),
        features={role: rows.column.spec.version for role, rows in prepared.content.features.items()},
        missing=written["missing"]["items"],
        left_out=len(data.features.ids) - len(prepared.content.ids),
        interactions=written["interactions"],
        files={name: entry["bytes"] for name, entry in written["files"].items()},
    )

"""Interactions of a person's own file, in an export of what has none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmfeat.datasets.interactions import UNUSED_INTERACTIONS
from mmfeat.datasets.own_interactions import read_own, unknown_items
from mmfeat.export.base import Exporter
from mmfeat.export.files import digest
from mmfeat.export.request import Request
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.interactions import InteractionsConfig


@dataclass(frozen=True)
class Taken:
    """The interactions that an export takes.

    Attributes:
        table: INTERACTIONS_SCHEMA; None if there are none.
        source: what the manifest says of the file that they are from; empty if there is none.
    """

    table: pa.Table | None
    source: dict[str, Any] = field(default_factory=dict)


def taken(
    own: pa.Table | None, items: Callable[[], pa.ChunkedArray], exporter: Exporter, request: Request
) -> Taken:
    """The interactions of the file that ``request`` names; ``own`` where it names none.

    Args:
        own: those that are there without it.
        items: gives the ids of all items that there are.

    Raises:
        UsageError: there are some already and nobody said to replace them, or nothing here reads any.
        DatasetError: the file cannot be read.
    """
    config = request.own_interactions
    if config is None:
        return Taken(own)
    if own is not None and not request.replace_interactions:
        raise UsageError(
            f"There are {len(own):,} interactions already, of the dataset itself.",
            hint=f"Leave {config.file} out, or take it in their place, for this export: "
            "--replace-interactions (replace_interactions=True).",
        )
    if not request.reads_interactions(exporter):
        raise UsageError(
            f"{exporter.name} reads no interactions: {config.file} would not be used.",
            hint="Leave --interactions out, or choose items by it: --items interacted, --k-core N.",
        )
    return _read(config, items())


def _read(config: InteractionsConfig, items: pa.ChunkedArray) -> Taken:
    path = Path(config.file).expanduser()
    found = read_own(config)
    notes = [*found.notes, *unknown_items(found.table, items, path.name)]
    unused = [f"{note.count:,} {note.message}" for note in notes if note.code in UNUSED_INTERACTIONS]
    said = {"file": config.file, "sha256": digest(path), "columns": dict(found.columns), "unused": unused}
    return Taken(found.table, said)

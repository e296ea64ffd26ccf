"""From a store to an export: only the features that are written are read."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from mmfeat.export import registry, roles
from mmfeat.export.base import Exporter
from mmfeat.export.content import ExportInput
from mmfeat.export.files import check_place
from mmfeat.export.own_interactions import Taken, taken
from mmfeat.export.request import Chosen, Request, Shaping, name_of, refs_of, settle
from mmfeat.export.run import ExportReport, export
from mmfeat.export.shape import needed, unasked
from mmfeat.extract.registry import class_of
from mmfeat.schemas.errors import ConfigError, StoreError, UsageError
from mmfeat.schemas.featureset import FeatureColumn, FeatureSet
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import Exported, Store, why_stale


def export_from(store: Store, request: Request) -> ExportReport:
    """Export what a store, or a snapshot of one, holds; see :func:`mmfeat.export.run.export`."""
    exporter = registry.get(request.format)
    # Reading may take minutes: what is wrong already is said before.
    check_place(Path(request.out).expanduser())
    settle(request, exporter)
    shaping = request.shaping or Shaping()
    chosen = _fitting(exporter, store, shaping) if request.features is None else request.features
    refs = needed(refs_of(chosen), shaping, store.current())
    _refuse_stale(store, refs)
    own = taken(store.interactions(), lambda: store.catalog()["item_id"], exporter, request)
    inner = replace(request, features=_names(chosen), interactions=None, replace_interactions=False)
    # Nothing here holds on to what was read: where it is shaped, the vectors as they were are let go.
    report = export(_read(store, refs, request.items, own), inner)
    return replace(report, unrecorded=_record(store, report))


def licence_of(spec: FeatureSpec) -> str | None:
    """Licence of a feature's weights, where its method's card is of these very weights; else None.

    Loads no model library: a model's own card may, and what most of them say is where to look.
    """
    if spec.form == "codes":
        return None
    try:
        card = class_of(spec).example
    except ConfigError:
        return None  # made by a package that is not installed here
    same = (card.model, card.weights_from) == (spec.model, f"{spec.weights.origin}: {spec.weights.ref}")
    return card.licence if same else None


def _record(store: Store, report: ExportReport) -> str | None:
    """Note in the store that the export was made; what kept it from that, if anything did."""
    made = Exported(
        path=os.path.realpath(report.path),
        host=socket.gethostname(),
        format=report.format,
        items=report.items,
        features=report.features,
        snapshot=store.snapshot,
        created=datetime.now(UTC),
        export_id=uuid.uuid4().hex[:12],
    )
    try:
        store.exports.add(made)
    except StoreError as error:
        return error.message
    return None


def _fitting(exporter: Exporter, store: Store, shaping: Shaping) -> list[str]:
    """The current features that the format may take, as far as their kind and medium tell."""
    header = store.lookup([], sorted(store.current()))
    return unasked([name for name in header if _may_take(exporter, header[name])], shaping)


def _may_take(exporter: Exporter, column: FeatureColumn) -> bool:
    kind = roles.kind_of(column)
    if not exporter.roles:
        return kind in exporter.kinds
    return any(kind == role.kind and roles.medium_of(column) in role.media for role in exporter.roles)


def _refuse_stale(store: Store, refs: Sequence[str]) -> None:
    """UsageError for codes and transforms, chosen by name alone, of other vectors than the current ones."""
    current, versions = store.current(), store.versions()
    for version in (store.resolve(ref) for ref in refs if "@" not in ref):
        if not version.spec.is_fitted or not (why := why_stale(version, versions, current)):
            continue
        ways = ["`mmfeat run` their job"]
        if version.spec.form == "codes":
            command = f"mmfeat quantize {' '.join(version.spec.sources)} --name {version.name}"
            ways = [
                f"`{command}` with the options that they have",
                "`mmfeat run` their job if one makes them",
            ]
        raise UsageError(
            f"{version.version} is stale: {why}. An export beside current features would mix versions.",
            hint=f"Bring them up to date: {', or '.join(ways)}. To export these, name their version: "
            f"{version.version}.",
        )


def _read(store: Store, refs: Sequence[str], items: str | Sequence[str], own: Taken) -> ExportInput:
    gone = store.gone_ids().to_pylist() if items == "present" else []
    found = store.lookup(_asked(store, items), refs)
    licensed = {name: replace(column, licence=licence_of(column.spec)) for name, column in found.items()}
    return ExportInput(
        features=FeatureSet(found.ids, licensed),
        items=store.catalog(),
        interactions=own.table,
        interactions_file=own.source,
        dataset=", ".join(dict.fromkeys(str(said.get("name", "")) for said in store.datasets())),
        snapshot=store.snapshot,
        gone=gone,
    )


def _asked(store: Store, items: str | Sequence[str]) -> Sequence[str] | None:
    """Ids of the items to read; None for those that are present."""
    if not isinstance(items, str):
        return items
    return None if items == "present" else store.catalog()["item_id"].to_pylist()


def _names(chosen: Chosen) -> Chosen:
    """The features by their names alone, as those that were read are called."""
    if isinstance(chosen, Mapping):
        return {role: name_of(ref) for role, ref in chosen.items()}
    return [name_of(ref) for ref in chosen]

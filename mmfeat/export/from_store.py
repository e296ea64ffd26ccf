"""From a store to an export: only the features that are written are read."""

from __future__ import annotations

import os
import re
import socket
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from mmfeat.export import missing as policies
from mmfeat.export import registry, roles, select
from mmfeat.export.base import Exporter
from mmfeat.export.content import ExportInput
from mmfeat.export.files import refuse_used
from mmfeat.export.run import ExportReport, export
from mmfeat.extract.registry import model_class
from mmfeat.schemas.errors import ConfigError, StoreError, UsageError
from mmfeat.schemas.featureset import FeatureColumn, FeatureSet
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import Exported, Store

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

# Features to choose from, or role to feature; a feature is NAME or NAME@PREFIX.
Chosen = Mapping[str, str] | Sequence[str]


@dataclass(frozen=True)
class Shaping:
    """What is done to features before they are written, in this order; see :mod:`mmfeat.export.select`.

    Attributes:
        join: new feature to the features it is made of. What is said of a part below happens before
            the join, what is said of the new feature after it.
        cut: feature to how many numbers of each vector stay.
        project: feature to the number of principal components.
        quantize: features to write as int8, last of all.
    """

    join: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cut: Mapping[str, int] = field(default_factory=dict)
    project: Mapping[str, int] = field(default_factory=dict)
    quantize: Sequence[str] = ()


def export_from(
    store: Store,
    format: str,
    out: str | Path,
    *,
    features: Chosen | None = None,
    items: Literal["all", "interacted"] | Sequence[str] = "all",
    missing: str | None = None,
    k_core: int | None = None,
    split: str | None = None,
    seed: int = 0,
    shaping: Shaping | None = None,
    unmatched: Literal["count", "error"] = "count",
    options: Mapping[str, Any] | None = None,
) -> ExportReport:
    """Export what a store, or a snapshot of one, holds; see :func:`mmfeat.export.run.export`.

    Args:
        features: as ``export`` takes them; with None every current feature that the format can hold,
            a joined one in the place of its parts.
        seed: of everything that is drawn at random.
    """
    exporter = registry.get(format)
    # Reading may take minutes: what is wrong already is said before.
    refuse_used(Path(out).expanduser())
    policies.choose(exporter, missing)
    shaping = shaping or Shaping()
    chosen = _fitting(exporter, store, shaping) if features is None else features
    columns = _read(store, chosen, items, shaping)
    data = ExportInput(
        features=columns,
        items=store.catalog(),
        interactions=store.interactions(),
        dataset=str((store.dataset() or {}).get("name", "")),
        snapshot=store.snapshot,
        seed=seed,
    )
    names = (
        {role: _name(ref) for role, ref in chosen.items()}
        if isinstance(chosen, Mapping)
        else [_name(ref) for ref in chosen]
    )
    report = export(
        data,
        format,
        out,
        features=names,
        items=items,
        missing=missing,
        k_core=k_core,
        split=split,
        unmatched=unmatched,
        options=options,
    )
    return replace(report, unrecorded=_record(store, report))


def licence_of(spec: FeatureSpec) -> str | None:
    """Licence of a feature's weights, where its method's card is of these very weights; else None.

    Loads no model library: a model's own card may, and what most of them say is where to look.
    """
    if spec.output == "codes":
        return None
    try:
        card = model_class(spec.method, spec.output).example
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
    parts = {_name(ref) for refs in shaping.join.values() for ref in refs}
    header = store.lookup([], sorted(store.current()))
    found = [name for name in header if name not in parts and _may_take(exporter, header[name])]
    return [*found, *shaping.join]


def _may_take(exporter: Exporter, column: FeatureColumn) -> bool:
    kind = roles.kind_of(column)
    if not exporter.roles:
        return kind in exporter.kinds
    return any(kind == role.kind and roles.medium_of(column) in role.media for role in exporter.roles)


def _read(store: Store, chosen: Chosen, items: str | Sequence[str], shaping: Shaping) -> FeatureSet:
    wanted = list(chosen.values() if isinstance(chosen, Mapping) else chosen)
    for name, parts in reversed(list(shaping.join.items())):
        _check_new_name(name, parts)
        if name in wanted:
            wanted += parts
    _refuse_idle(shaping, {_name(ref) for ref in wanted})
    refs = list(dict.fromkeys(ref for ref in wanted if ref not in shaping.join))
    found = store.lookup(None if isinstance(items, str) else items, refs)
    licensed = {name: replace(column, licence=licence_of(column.spec)) for name, column in found.items()}
    return _shaped(FeatureSet(found.ids, licensed), shaping)


def _shaped(features: FeatureSet, shaping: Shaping) -> FeatureSet:
    for name in [*features, *shaping.join]:
        if name in shaping.join:
            features = select.join(features, [_name(ref) for ref in shaping.join[name]], name)
        if name in shaping.cut:
            features = select.cut(features, name, shaping.cut[name])
        if name in shaping.project:
            features = select.project(features, name, shaping.project[name])
    for name in shaping.quantize:
        features = select.quantize(features, name)
    return features


def _refuse_idle(shaping: Shaping, exported: Iterable[str]) -> None:
    """UsageError for something that would be done to a feature which is not exported."""
    named = {
        "join": list(shaping.join),
        "cut": list(shaping.cut),
        "project": list(shaping.project),
        "quantize": list(shaping.quantize),
    }
    for step, names in named.items():
        if idle := [name for name in names if name not in exported]:
            raise UsageError(
                f"--{step} is about {idle[0]!r}, which is not exported.",
                hint=f"Exported are: {', '.join(sorted(exported))}.",
            )


def _check_new_name(name: str, parts: Sequence[str]) -> None:
    if name in map(_name, parts):
        raise UsageError(f"A join cannot be called {name!r}, as one of its parts.", hint="Rename it.")
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"A feature cannot be called {name!r}.",
            hint="Names are made of a-z, 0-9 and _, start with a letter and have up to 63 characters.",
        )


def _name(ref: str) -> str:
    """``clip_image`` of ``clip_image@3fa9c1d2``."""
    return ref.partition("@")[0]

"""From what is there to what a format writes: items, interactions, missing rows, splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from mmfeat.export import interactions as inter
from mmfeat.export import missing, roles
from mmfeat.export.base import Exporter
from mmfeat.export.content import Content, ExportInput, Interactions, Rows
from mmfeat.export.request import Request, Terms, settle
from mmfeat.item_fields import Fields
from mmfeat.schemas.errors import UnknownItems, UsageError
from mmfeat.schemas.featureset import FeatureColumn


@dataclass(frozen=True)
class Prepared:
    """What is written, and the record of how it came to be (parts of the manifest)."""

    content: Content
    roles: dict[str, str]
    record: dict[str, Any]


def prepare(data: ExportInput, exporter: Exporter, request: Request) -> Prepared:
    """Check and choose everything; nothing is written. The features are shaped already.

    Raises:
        UsageError: anything the target could not load, or that would be lost without being told.
    """
    terms = settle(request, exporter)
    chosen = roles.assign(exporter, data.features, request.features, request.force_role)
    columns = {role: data.features[feature] for role, feature in chosen.items()}
    _unique(data.features.ids)
    answers = missing.choose(exporter, columns, request.missing)
    index = _chosen_items(data, request.items)
    needed = {role: column for role, column in columns.items() if answers.policies[role] == "drop"}
    dropped = _lacking(data, needed, index)
    for column in needed.values():
        index = index[column.mask[index]]

    table, counts = _interactions(data, exporter, request, [data.features.ids[i] for i in index])
    selections: list[dict[str, Any]] = []
    if data.gone:
        selections.append({"items": "present", "kept": len(data.features.ids), "left_out": list(data.gone)})
    if not isinstance(request.items, str):
        selections.append({"items": "listed", "kept": len(request.items)})
    if table is not None:
        index = _interacted(data, exporter, request, index, table, selections)
    if not len(index):
        raise UsageError(
            "No item is left to export.", hint="Check the selection, --missing drop and the k-core."
        )
    if terms.shared is not None:
        index = index[terms.shared.arranged([data.features.ids[i] for i in index])]
    ids = [data.features.ids[i] for i in index]

    fields = Fields(data.items, ids)
    content = Content(
        name=request.name,
        ids=ids,
        features={
            role: _rows(exporter, answers, role, column, index, ids, terms.options)
            for role, column in columns.items()
        },
        **_texts(data.items, ids),
        interactions=_labelled(exporter, request, terms, table, ids, counts),
        options=terms.options,
        fields=fields,
        further=fields.table(request.fields, ["item_id", *columns]) if request.fields else None,
    )
    missing.refuse_bad_rows(exporter, content.features, ids)
    exporter.check(content)
    concerned = dropped | _lacking(data, columns, index)
    record = {
        "missing": {
            "policy": answers.policies,
            "items": {role: concerned[role] for role in columns if role in concerned},
        },
        "selections": selections,
        "ids_of": None if terms.shared is None else terms.shared.record,
        "interactions": counts,
        **({"fields": list(request.fields)} if request.fields else {}),
    }
    return Prepared(content, chosen, record)


def _unique(ids: list[str]) -> None:
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        twice = next(i for i in ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
        raise UsageError(f"Item {twice!r} is there twice.", hint="Give every item once.")


def _chosen_items(data: ExportInput, items: str | Sequence[str]) -> np.ndarray:
    if isinstance(items, str):
        return np.arange(len(data.features.ids))
    position = {item_id: k for k, item_id in enumerate(data.features.ids)}
    if unknown := [i for i in items if i not in position]:
        raise UnknownItems(unknown, "the feature set")
    _unique(list(items))
    return np.array([position[i] for i in items], np.int64)


def _interactions(
    data: ExportInput, exporter: Exporter, request: Request, ids: list[str]
) -> tuple[pa.Table | None, dict[str, Any] | None]:
    """The interactions that are exported, and how many are not and why."""
    wanted = request.reads_interactions(exporter)
    if data.interactions is None:
        if exporter.interactions == "required" or request.items == "interacted" or request.k_core:
            raise UsageError(
                f"This export to {exporter.name} needs interactions, and the dataset has none.",
                hint="Name a file of them: --interactions FILE (interactions=... in Python). Or extract from"
                " a dataset with interactions (`mmfeat datasets check`).",
            )
        return None, None
    if not wanted:
        return None, None
    table = inter.with_items(data.interactions, ids)
    unmatched = len(data.interactions) - len(table)
    if unmatched and request.unmatched == "error":
        known = set(ids)
        lost = [i for i in pc.unique(data.interactions["item_id"]).to_pylist() if i not in known]
        raise UsageError(
            f"{unmatched:,} interactions are with {len(lost):,} items that are not exported, among them"
            f" {', '.join(map(repr, lost[:5]))}.",
            hint="Export these items too, or leave their interactions out: --unmatched count.",
        )
    counts: dict[str, Any] = {"given": len(data.interactions), "item_not_exported": unmatched}
    if data.interactions_file:
        counts["source"] = dict(data.interactions_file)
    if request.k_core:
        before = len(table)
        table = inter.k_core(table, request.k_core)
        counts |= {"k_core": request.k_core, "outside_k_core": before - len(table)}
    if not len(table):
        emptied = unmatched < len(data.interactions)
        raise UsageError(
            "No interaction is left to export.",
            hint="Give a smaller --k-core." if emptied else "Do the interactions use the same item ids?",
        )
    return table, {**counts, "written": len(table)}


def _interacted(
    data: ExportInput,
    exporter: Exporter,
    request: Request,
    index: np.ndarray,
    table: pa.Table,
    selections: list[dict[str, Any]],
) -> np.ndarray:
    """The items that stay: those with interactions, where that was asked for or the target needs it."""
    if request.k_core is None and request.items != "interacted" and exporter.cold_items:
        return index
    met = set(pc.unique(table["item_id"]).to_pylist())
    keep = np.array([data.features.ids[i] in met for i in index], bool)
    rule = f"{request.k_core}-core" if request.k_core else "with interactions"
    left_out = [data.features.ids[i] for i in index[~keep]]
    selections.append({"items": rule, "kept": int(keep.sum()), "left_out": left_out})
    return np.asarray(index[keep])


def _lacking(
    data: ExportInput, columns: Mapping[str, FeatureColumn], index: np.ndarray
) -> dict[str, list[str]]:
    """Role to the ids that lack it, of the roles that any item lacks."""
    gaps = {role: index[missing.lacking(column, index)] for role, column in columns.items()}
    return {role: [data.features.ids[i] for i in found] for role, found in gaps.items() if len(found)}


def _rows(
    exporter: Exporter,
    answers: missing.Answers,
    role: str,
    column: FeatureColumn,
    index: np.ndarray,
    ids: list[str],
    options: BaseModel,
) -> Rows:
    if len(column.mask) < (index.max() + 1 if len(index) else 0) or len(column.values) != len(column.mask):
        raise UsageError(f"{column.spec.version} has {len(column.values):,} rows, and not one for each item.")
    present, filled = missing.fill(answers, role, column, index, ids)
    return Rows(column, index, present, filled, exporter.converter(role, options), exporter.pad_row)


def _texts(items: pa.Table, ids: list[str]) -> dict[str, list[str | None]]:
    """Titles and descriptions in the export's order."""
    rows = pc.index_in(pa.array(ids, pa.string()), value_set=items["item_id"].combine_chunks())
    names = {"titles": "title", "descriptions": "description"}
    return {
        key: items[name].take(rows).to_pylist() if name in items.column_names else [None] * len(ids)
        for key, name in names.items()
    }


def _labelled(
    exporter: Exporter,
    request: Request,
    terms: Terms,
    table: pa.Table | None,
    ids: list[str],
    counts: dict[str, Any] | None,
) -> Interactions | None:
    if request.split and table is None:
        raise UsageError("There are no interactions to split.", hint="Leave --split out.")
    if table is None or counts is None or exporter.interactions == "unused":
        return None
    shared = terms.shared
    users = None if shared is None else shared.same_users(pc.unique(table["user_id"]).to_pylist())
    built = inter.build(table, ids, users)
    counts |= {
        "users": len(built.user_ids),
        "ordered_by": "time" if built.timestamps is not None else "dataset",
    }
    if 0 < (timeless := table["timestamp"].null_count) < len(table):
        # One without a time leaves the order to the dataset's, and the times of the others unused.
        counts["without_time"] = timeless
    if rated := len(table) - table["rating"].null_count:
        # A target takes ratings of all interactions or of none.
        counts["rated"] = rated
    if terms.split is None:
        return built
    labelled = inter.split(built, terms.split, request.seed)
    assert labelled.labels is not None
    sizes = np.bincount(labelled.labels, minlength=3).tolist()
    parts = dict(zip(("train", "valid", "test"), sizes, strict=True))
    counts["split"] = {**terms.split.record(), "seed": request.seed, **parts}
    return labelled

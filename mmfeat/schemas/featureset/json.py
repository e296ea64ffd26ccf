"""The FeatureSet as plain JSON types: what ``mmfeat lookup --json`` prints and the service answers."""

from __future__ import annotations

from typing import Any

from mmfeat.schemas.featureset import FeatureColumn, FeatureSet


def to_json(features: FeatureSet) -> dict[str, Any]:
    """``{"ids": [...], "features": {name: {version, kind, status, reason, values}}}``.

    ``values`` are lists of numbers (of token vectors lists of such lists), or texts, and None where the
    item has none.
    """
    return {"ids": features.ids, "features": {name: _column(column) for name, column in features.items()}}


def _column(column: FeatureColumn) -> dict[str, Any]:
    values: list[Any]
    if column.spec.form == "text":
        values = list(column.texts)
    elif column.spec.form == "tokens":
        values = [None if vectors is None else vectors.tolist() for vectors in column.tokens]
    else:
        values = [row.tolist() if ok else None for row, ok in zip(column.matrix, column.mask, strict=True)]
    return {
        "version": column.spec.version,
        "kind": column.spec.kind,
        "status": column.status.tolist(),
        "reason": column.reason.tolist(),
        "values": values,
    }

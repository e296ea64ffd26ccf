"""Feature sets from feature sets: choose items, join features, cut, project and quantise vectors.

Each function returns a new set and records what it did as a :class:`~mmfeat.schemas.featureset.Step`
of the new column, which exports write into their manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from mmfeat.extract.fitted import vectors
from mmfeat.schemas.errors import UnknownItems, UsageError
from mmfeat.schemas.featureset import FeatureColumn, FeatureSet, Step
from mmfeat.schemas.inputs import VECTOR, Input
from mmfeat.schemas.outputs import VectorOut
from mmfeat.schemas.spec import FeatureSpec, Weights
from mmfeat.schemas.validation import listed

# Rows handled at a time: bounds what a projection needs beside the vectors.
_BLOCK_ROWS = 4096


def take(features: FeatureSet, ids: Sequence[str]) -> FeatureSet:
    """The items ``ids``, in that order. UnknownItems names the ids that the set lacks."""
    position = {item_id: k for k, item_id in enumerate(features.ids)}
    wanted = listed(ids, "item id")
    if unknown := [i for i in wanted if i not in position]:
        raise UnknownItems(unknown, "the feature set")
    rows = np.array([position[i] for i in wanted], np.int64)
    return FeatureSet(wanted, {name: _take(column, rows) for name, column in features.items()})


def join(features: FeatureSet, names: Sequence[str], into: str) -> FeatureSet:
    """Concatenate vector features as the new feature ``into``; each is L2-normalised first.

    An item has the new feature where it has all of the parts.

    Raises:
        UsageError: fewer than two features, a name that is taken, or a feature without one vector
            per item.
    """
    wanted = listed(names, "feature")
    if len(wanted) < 2:
        raise UsageError("A join needs at least two features.")
    if into in features:
        raise UsageError(
            f"There is a feature {into!r} already.", hint="Give the joined feature another name."
        )
    parts = [_vector_column(features, name) for name in wanted]
    mask = np.logical_and.reduce([part.mask for part in parts])
    status, reason = parts[0].status.astype(object), parts[0].reason.astype(object)
    for part in reversed(parts):  # a joined row is missing for the reason that its first missing part is
        status[~part.mask], reason[~part.mask] = part.status[~part.mask], part.reason[~part.mask]
    values = vectors.joined([part.matrix for part in parts])
    values[~mask] = np.nan
    licences = [part.licence for part in parts]
    column = FeatureColumn(
        spec=_joined_spec(into, parts, values.shape[1]),
        values=values,
        mask=mask,
        status=status,
        reason=reason,
        licence=" and ".join(dict.fromkeys(x for x in licences if x)) if all(licences) else None,
        steps=(_join_step(wanted, parts),),
    )
    return FeatureSet(features.ids, {**features.columns, into: column})


def cut(features: FeatureSet, name: str, dims: int) -> FeatureSet:
    """The first ``dims`` numbers of each vector, L2-normalised again.

    Only vectors of a model trained for it (Matryoshka representation learning, arXiv 2205.13147)
    keep their meaning when cut.
    """
    column = _vector_column(features, name)
    _check_dims(name, column, dims)
    values = vectors.cut(column.matrix, dims)
    return _changed(features, name, values, Step("cut", {"dims": dims, "normalized": True}))


def project(features: FeatureSet, name: str, dims: int) -> FeatureSet:
    """Project vectors onto their ``dims`` principal components, fitted on the items that have one.

    The signs of the components follow scikit-learn's rule (the largest entry of each is positive),
    so that the result does not depend on the solver. The step keeps ``mean`` ``[d]``, ``components``
    ``[dims, d]`` and ``explained_variance_ratio`` ``[dims]``.

    Raises:
        UsageError: more dims than the vectors have, or than there are items.
    """
    column = _vector_column(features, name)
    _check_dims(name, column, dims)
    present = np.flatnonzero(column.mask)
    if dims > len(present):
        raise UsageError(f"{len(present)} items with {name} are too few for {dims} components.")
    found = vectors.principal(lambda: (column.matrix[rows] for rows in _in_blocks(present)), dims)
    values = vectors.projected(column.matrix, found.mean, found.components).astype(np.float32)
    arrays = {"mean": found.mean, "components": found.components, "explained_variance_ratio": found.kept}
    params = {"dims": dims, "explained_variance": float(found.kept.sum())}
    return _changed(features, name, values, Step("project", params, arrays=arrays))


def quantize(features: FeatureSet, name: str, scale: Literal["row", "matrix"] = "row") -> FeatureSet:
    """Vectors as int8: ``round(value / scale)`` with ``scale`` = largest magnitude / 127, symmetric.

    ``values * scale`` gives them back to within half a scale. The step keeps ``scale``: float32
    ``[n]``, one per row, or ``[1]`` for the whole matrix. Rows without a value are 0.
    """
    column = _vector_column(features, name)
    magnitude = np.where(column.mask, np.abs(column.matrix).max(axis=1), 0).astype(np.float32)
    scales = magnitude if scale == "row" else magnitude.max(keepdims=True)
    scales = vectors.scales_of(scales)
    values = np.zeros(column.matrix.shape, np.int8)
    per_row = np.broadcast_to(scales, (len(values),))
    present = column.mask
    values[present] = vectors.by_scales(column.matrix[present], per_row[present])
    params = {"bits": 8, "scale": scale, "per_row": ["scale"] if scale == "row" else []}
    return _changed(features, name, values, Step("quantize", params, arrays={"scale": scales}))


def _in_blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + _BLOCK_ROWS] for start in range(0, len(rows), _BLOCK_ROWS)]


def _take(column: FeatureColumn, rows: np.ndarray) -> FeatureColumn:
    values = column.values
    steps = tuple(
        replace(
            step,
            arrays={
                key: array[rows] if key in step.params.get("per_row", ()) else array
                for key, array in step.arrays.items()
            },
        )
        for step in column.steps
    )
    return replace(
        column,
        values=[values[i] for i in rows] if isinstance(values, list) else values[rows],
        mask=column.mask[rows],
        status=column.status[rows],
        reason=column.reason[rows],
        steps=steps,
        spans=None if column.spans is None else [column.spans[i] for i in rows],
    )


def _vector_column(features: FeatureSet, name: str) -> FeatureColumn:
    if name not in features:
        raise UsageError(f"There is no feature {name!r}.", hint=f"There are: {', '.join(features)}.")
    column = features[name]
    if isinstance(column.values, list) or column.matrix.ndim != 2:
        raise UsageError(f"{name} does not hold one vector per item.")
    if not np.issubdtype(column.matrix.dtype, np.floating):
        raise UsageError(f"{name} holds integers: nothing more can be done to it.", hint="Quantise last.")
    return column


def _check_dims(name: str, column: FeatureColumn, dims: int) -> None:
    if not 0 < dims <= column.matrix.shape[1]:
        raise UsageError(
            f"{name} has {column.matrix.shape[1]} dims, so {dims} cannot be kept.",
            hint=f"Give a number from 1 to {column.matrix.shape[1]}.",
        )


def _changed(features: FeatureSet, name: str, values: np.ndarray, step: Step) -> FeatureSet:
    column = features[name]
    changed = replace(column, values=values, steps=(*column.steps, step))
    return FeatureSet(features.ids, {**features.columns, name: changed})


def _joined_spec(name: str, parts: Sequence[FeatureColumn], dims: int) -> FeatureSpec:
    """What a join is called by; its parts' own specs are in its step."""
    identity = hashlib.sha256("+".join(_identity(part) for part in parts).encode()).hexdigest()
    return FeatureSpec(
        name=name,
        inputs=(
            Input(source=" + ".join(part.spec.name for part in parts), modality=VECTOR, upstream=identity),
        ),
        output=VectorOut(dims=dims),
        method="join",
        model=" + ".join(part.spec.version for part in parts),
        weights=Weights(origin="package", ref="mmfeat"),
    )


def _join_step(names: Sequence[str], parts: Sequence[FeatureColumn]) -> Step:
    """The join, with what was done to each part before it."""
    earlier = {
        name: [{"op": step.op, "params": step.params} for step in part.steps]
        for name, part in zip(names, parts, strict=True)
    }
    arrays = {
        f"{name}.{number}.{key}": array
        for name, part in zip(names, parts, strict=True)
        for number, step in enumerate(part.steps)
        for key, array in step.arrays.items()
    }
    params = {"features": list(names), "normalized": True, "earlier_steps": earlier}
    return Step("join", params, tuple(part.spec for part in parts), arrays)


def _identity(part: FeatureColumn) -> str:
    return part.spec.fingerprint + "".join(f"/{step.op}{sorted(step.params.items())}" for step in part.steps)

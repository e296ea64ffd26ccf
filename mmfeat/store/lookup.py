"""Lookup: item ids to a FeatureSet, in the order asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.schemas.codes import NO_CODE
from mmfeat.schemas.errors import UnknownItems, UsageError
from mmfeat.schemas.featureset import ABSENT, OK, FeatureColumn, FeatureSet, Values
from mmfeat.schemas.featureset.arrow import token_arrays
from mmfeat.schemas.int8 import unpacked
from mmfeat.schemas.spans import Spans, read
from mmfeat.store.database import Database
from mmfeat.store.rows import batches_of, matrix_of
from mmfeat.store.schema import value_column
from mmfeat.store.versions import FeatureVersion


def lookup(
    database: Database,
    ids: Sequence[str],
    versions: Sequence[FeatureVersion],
    catalog_ids: Callable[[], pa.Array] | None,
) -> FeatureSet:
    """Features of ``ids``; see :meth:`mmfeat.store.Store.lookup`.

    Args:
        catalog_ids: tells which further ids are known; None if unknown ids are masked.
    """
    _refuse_two_of_a_name(versions)
    asked = _id_array(ids)
    unique = asked.unique()
    columns = {v.name: _column(database, v, unique) for v in versions}
    if catalog_ids is not None:
        absent = np.ones(len(unique), dtype=bool)
        for column in columns.values():
            absent &= column.status == ABSENT
        if absent.any():
            _refuse_unknown(unique.filter(pa.array(absent)), catalog_ids(), database.uri)
    if len(unique) < len(asked):
        again = pc.index_in(asked, value_set=unique).to_numpy()
        columns = {name: _taken(column, again) for name, column in columns.items()}
    return FeatureSet(list(ids), columns)


def _column(database: Database, version: FeatureVersion, unique: pa.Array) -> FeatureColumn:
    spec, n = version.spec, len(unique)
    status = np.full(n, ABSENT, dtype=object)
    reason = np.full(n, "", dtype=object)
    values: np.ndarray = np.full(n, None, dtype=object)
    if spec.form == "vector":
        values = np.full((n, *spec.shape), np.nan, dtype=spec.store_dtype)
    elif spec.form == "codes":
        values = np.full((n, *spec.shape), NO_CODE, dtype=np.int32)
    spans: list[Spans | None] | None = [None] * n if spec.form == "tokens" else None
    columns = ["item_id", "status", "reason", *([] if spans is None else ["facts"]), value_column(spec)]
    place = {item_id: at for at, item_id in enumerate(unique.to_pylist())}
    for batch in batches_of(database, version, unique, columns):
        positions = np.array([place.get(i, -1) for i in batch["item_id"].to_pylist()], dtype=np.int64)
        _fill(status, reason, values, positions, batch)
        if spans is not None:
            _fill_spans(spans, positions, batch["facts"])
    return FeatureColumn(
        spec=spec,
        values=list(values) if spec.form in ("text", "tokens") else values,
        mask=np.asarray(status == OK, dtype=bool),
        status=status,
        reason=reason,
        spans=spans,
    )


def _fill_spans(spans: list[Spans | None], positions: np.ndarray, facts: pa.Array) -> None:
    """Put what a batch's vectors were made from at ``positions``."""
    for position, told in zip(positions.tolist(), facts.to_pylist(), strict=True):
        if position >= 0:
            spans[position] = read(told)


def _fill(
    status: np.ndarray, reason: np.ndarray, values: np.ndarray, positions: np.ndarray, batch: pa.RecordBatch
) -> None:
    """Put a batch's rows at ``positions``; a row at -1 was not asked for."""
    asked = positions >= 0
    rows, at = batch.filter(pa.array(asked)), positions[asked]
    status[at] = rows["status"].to_pylist()
    reason[at] = rows["reason"].fill_null("").to_pylist()
    ok = pc.equal(rows["status"], OK)
    found = rows.columns[-1].filter(ok)
    ok_at = at[ok.to_numpy(zero_copy_only=False)]
    if pa.types.is_list(found.type):
        # One by one: NumPy would make one array of lists of equal lengths.
        for place, vectors in zip(ok_at, token_arrays(found), strict=True):
            values[place] = unpacked(vectors) if vectors.dtype == np.int8 else vectors
    elif values.ndim == 1:
        values[ok_at] = found.to_pylist()
    else:
        values[ok_at] = matrix_of(found).reshape(-1, *values.shape[1:])


def _taken(column: FeatureColumn, rows: np.ndarray) -> FeatureColumn:
    values = column.values
    taken = values[rows] if isinstance(values, np.ndarray) else [values[i] for i in rows]
    return FeatureColumn(
        spec=column.spec,
        values=cast("Values", taken),
        mask=column.mask[rows],
        status=column.status[rows],
        reason=column.reason[rows],
        spans=None if column.spans is None else [column.spans[i] for i in rows],
    )


def _id_array(ids: Sequence[str]) -> pa.Array:
    try:
        return pa.array(ids, pa.string())
    except UnicodeEncodeError:
        raise UsageError("An item id is not valid Unicode text.") from None


def _refuse_unknown(absent: pa.Array, known: pa.Array, uri: str) -> None:
    if len(unknown := absent.filter(pc.invert(pc.is_in(absent, value_set=known)))):
        raise UnknownItems(unknown.to_pylist(), uri)


def _refuse_two_of_a_name(versions: Sequence[FeatureVersion]) -> None:
    by_name: dict[str, FeatureVersion] = {}
    for version in versions:
        other = by_name.setdefault(version.name, version)
        if other.fingerprint != version.fingerprint:
            raise UsageError(
                f"{other.version} and {version.version} are versions of one feature; a FeatureSet holds one.",
                hint="Look them up one after the other.",
            )

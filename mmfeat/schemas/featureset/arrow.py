"""The FeatureSet as an Arrow table: the uniform schema, readable without mmfeat.

One row per item, in the set's order:

=================  =====================================================================
column             type and meaning
=================  =====================================================================
``item_id``        string, not null
``<feature>``      ``fixed_size_list<float|halffloat|int8|...>[dims]`` for vectors,
                   ``fixed_size_list<fixed_size_list<...>[dims]>[m]`` for several vectors per
                   item, ``list<fixed_size_list<...>[dims]>`` for any number of vectors per item,
                   ``string`` for texts; null if the item has no value
``<feature>.status``  ``ok``, ``missing``, ``failed`` or ``absent``
``<feature>.reason``  why it failed, else empty
``<feature>.spans``   ``list<struct<modality, start, end>>``: what each of any number of vectors was
                      made from; only where that is known of an item
=================  =====================================================================

The schema's metadata holds ``mmfeat.featureset.version`` (``2``; in ``1``, which is read too, specs had one
source and flat fields) and ``mmfeat.featureset``, a JSON document that says what made each feature;
``featureset.schema.json`` in ``mmfeat/schemas`` describes it.

    >>> import pyarrow.parquet as pq                                     # doctest: +SKIP
    >>> table = pq.read_table("features.parquet")                        # doctest: +SKIP
    >>> np.stack(table["clip_image"].drop_null().to_numpy())             # doctest: +SKIP
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.schemas.codes import NO_CODE
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import FeatureColumn, FeatureSet, Step, Values
from mmfeat.schemas.spans import Span, Spans, plain
from mmfeat.schemas.spec import FeatureSpec, canonical_json

VERSION = "2"
_READ = ("1", VERSION)
_SPANS = pa.list_(pa.struct([("modality", pa.string()), ("start", pa.float64()), ("end", pa.float64())]))
VERSION_KEY, DOCUMENT_KEY = b"mmfeat.featureset.version", b"mmfeat.featureset"


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the document in the table's metadata."""
    text = (files("mmfeat.schemas") / "featureset.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def describe(column: FeatureColumn) -> dict[str, Any]:
    """What made a column, as plain JSON types: spec, fingerprint, licence, shape and steps."""
    if isinstance(column.values, np.ndarray):
        dtype, shape = str(column.values.dtype), list(column.values.shape[1:])
    elif column.spec.form == "tokens":
        dtype, shape = str(column.spec.value_dtype), [None, column.spec.dims]
    else:
        dtype, shape = "string", []
    return {
        "version": column.spec.version,
        "fingerprint": column.spec.fingerprint,
        "spec": column.spec.model_dump(mode="json"),
        "licence": column.licence,
        "dtype": dtype,
        "shape": shape,
        "steps": [
            {
                "op": step.op,
                "params": step.params,
                "inputs": [
                    {"fingerprint": spec.fingerprint, "spec": spec.model_dump(mode="json")}
                    for spec in step.inputs
                ],
            }
            for step in column.steps
        ],
    }


def to_arrow(features: FeatureSet) -> pa.Table:
    """The table described above; vectors are not copied.

    Arrays fitted by steps (a PCA's components) are in the metadata document too, as nested lists.
    """
    fields = [pa.field("item_id", pa.string(), nullable=False)]
    arrays: list[pa.Array] = [pa.array(features.ids, pa.string())]
    document: dict[str, Any] = {"version": int(VERSION), "features": {}}
    for name, column in features.items():
        values = value_array(column)
        texts = (pa.array(column.status.tolist(), pa.string()), pa.array(column.reason.tolist(), pa.string()))
        fields += [
            pa.field(name, values.type),
            pa.field(f"{name}.status", pa.string()),
            pa.field(f"{name}.reason", pa.string()),
        ]
        arrays += [values, *texts]
        if column.spans is not None and any(column.spans):
            fields.append(pa.field(f"{name}.spans", _SPANS))
            arrays.append(pa.array(plain(column.spans), _SPANS))
        entry = describe(column)
        for described, step in zip(entry["steps"], column.steps, strict=True):
            described["arrays"] = {
                key: {"dtype": str(array.dtype), "values": array.tolist()}
                for key, array in step.arrays.items()
            }
        document["features"][name] = entry
    metadata = {VERSION_KEY: VERSION.encode(), DOCUMENT_KEY: canonical_json(document).encode()}
    return pa.table(arrays, schema=pa.schema(fields, metadata=metadata))


def from_arrow(table: pa.Table) -> FeatureSet:
    """The FeatureSet of a table that :func:`to_arrow` made, also after a trip through a file.

    Raises:
        UsageError: the table is none, or of a version that this mmfeat does not read.
    """
    metadata = table.schema.metadata or {}
    if VERSION_KEY not in metadata:
        raise UsageError("This table is no FeatureSet.", hint="Its schema has no mmfeat.featureset.version.")
    if (version := metadata[VERSION_KEY].decode()) not in _READ:
        raise UsageError(
            f"This FeatureSet has version {version}, and this mmfeat reads up to {VERSION}.",
            hint="Read it with a newer mmfeat.",
        )
    document = json.loads(metadata[DOCUMENT_KEY])
    entries = document["features"]
    columns = {name: _column(table, name, entries[name]) for name in table.column_names if name in entries}
    return FeatureSet(table["item_id"].to_pylist(), columns)


def value_array(column: FeatureColumn) -> pa.Array:
    """A column's values as one Arrow array, null if the mask is False."""
    if column.spec.form == "tokens":
        own = [v if there else None for v, there in zip(column.tokens, column.mask, strict=True)]
        return token_array(own, column.spec.shape, str(column.spec.value_dtype))
    if isinstance(column.values, list):
        return pa.array(column.values, pa.string())
    return vector_array(column.matrix, column.mask)


def vector_array(matrix: np.ndarray, mask: np.ndarray) -> pa.Array:
    """``[n, dims]`` or ``[n, m, dims]`` as fixed-size lists, null if ``mask`` is False; no copy."""
    array = pa.array(np.ascontiguousarray(matrix).reshape(-1))
    for axis in range(matrix.ndim - 1, 0, -1):
        outer = mask if axis == 1 and not mask.all() else None
        array = pa.FixedSizeListArray.from_arrays(
            array, matrix.shape[axis], mask=None if outer is None else pa.array(~outer)
        )
    return array


def token_arrays(lists: pa.ListArray) -> list[np.ndarray]:
    """Per row the ``[m, dims]`` array of a list of vectors; none of the rows is null. No copy."""
    if not len(lists):
        return []
    vectors = lists.flatten()
    flat = vectors.flatten().to_numpy(zero_copy_only=False)
    ends = np.cumsum(pc.list_value_length(lists).to_numpy(zero_copy_only=False))
    return np.split(flat.reshape(len(vectors), vectors.type.list_size), ends[:-1])


def token_array(
    tokens: Sequence[np.ndarray | None], shape: tuple[int, ...], dtype: np.dtype[Any] | str
) -> pa.Array:
    """``[m, dims]`` arrays as lists of fixed-size lists, null if an item has none.

    Args:
        shape, dtype: of one vector.
    """
    none = np.empty((0, *shape), dtype)
    own = [none if vectors is None else vectors for vectors in tokens]
    vectors = vector_array(np.concatenate([none, *own]), np.array(True))
    offsets = np.cumsum([0, *map(len, own)], dtype=np.int32)
    lacks = np.array([vectors is None for vectors in tokens], dtype=bool)
    return pa.ListArray.from_arrays(pa.array(offsets), vectors, mask=pa.array(lacks) if lacks.any() else None)


def array_matrix(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """``(matrix, mask)`` of an array that :func:`vector_array` made; null rows are NaN, or 0 for integers."""
    shape: list[int] = [len(array)]
    mask = array.is_valid().to_numpy(zero_copy_only=False)
    kind = array.type
    # Null rows own no values once they have been in a Parquet file, so they are filled by hand.
    values = array.drop_null()
    while pa.types.is_fixed_size_list(kind):
        shape.append(kind.list_size)
        values, kind = values.flatten(), kind.value_type
    dtype = kind.to_pandas_dtype()
    present = values.to_numpy(zero_copy_only=False).reshape(int(mask.sum()), *shape[1:])
    if mask.all():
        return present, mask
    fill = np.nan if np.issubdtype(dtype, np.floating) else 0
    matrix = np.full(shape, fill, dtype)
    matrix[mask] = present
    return matrix, mask


def _column(table: pa.Table, name: str, entry: dict[str, Any]) -> FeatureColumn:
    array = table[name].combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    spec = FeatureSpec.model_validate(entry["spec"])
    values: Values
    if pa.types.is_string(array.type):
        values, mask = array.to_pylist(), array.is_valid().to_numpy(zero_copy_only=False)
    elif pa.types.is_list(array.type):
        mask = array.is_valid().to_numpy(zero_copy_only=False)
        found = iter(token_arrays(array.drop_null()))
        values = [next(found) if there else None for there in mask]
    else:
        matrix, mask = array_matrix(array)
        if spec.form == "codes" and not mask.all():
            matrix[~mask] = NO_CODE
        values = matrix
    return FeatureColumn(
        spec=spec,
        values=values,
        mask=mask,
        status=np.array(table[f"{name}.status"].to_pylist(), dtype=object),
        reason=np.array(table[f"{name}.reason"].to_pylist(), dtype=object),
        licence=entry["licence"],
        steps=tuple(_step(step) for step in entry["steps"]),
        spans=_spans(table, name, spec),
    )


def _spans(table: pa.Table, name: str, spec: FeatureSpec) -> list[Spans | None] | None:
    if spec.form != "tokens":
        return None
    if f"{name}.spans" not in table.column_names:
        return [None] * len(table)
    found = table[f"{name}.spans"].to_pylist()
    return [None if own is None else tuple(Span(**span) for span in own) for own in found]


def _step(entry: dict[str, Any]) -> Step:
    return Step(
        op=entry["op"],
        params=entry["params"],
        inputs=tuple(FeatureSpec.model_validate(i["spec"]) for i in entry["inputs"]),
        arrays={key: np.array(a["values"], dtype=a["dtype"]) for key, a in entry["arrays"].items()},
    )

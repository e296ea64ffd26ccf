"""Arrow schemas of the store's tables."""

from __future__ import annotations

import math

import pyarrow as pa

from mmfeat.schemas.int8 import SCALE_BYTES
from mmfeat.schemas.outputs import TokensOut
from mmfeat.schemas.spec import FeatureSpec

# Raised when a store written from now on could be misread by an older mmfeat.
FORMAT = 3

_TIME = pa.timestamp("us", "UTC")
_FLOATS = {"float16": pa.float16(), "float32": pa.float32()}

# Of a row: by which rules its inputs were read.
RULES = pa.field("rules", pa.string())

STORE_SCHEMA = pa.schema(
    [
        pa.field("format", pa.int32(), nullable=False),
        pa.field("created", _TIME, nullable=False),
    ]
)

VERSIONS_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("spec", pa.string(), nullable=False),  # FeatureSpec as JSON
        pa.field("created", _TIME, nullable=False),
    ]
)

CURRENT_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("previous", pa.list_(pa.string())),
        pa.field("undone", pa.list_(pa.string())),
    ]
)

CODEBOOKS_SCHEMA = pa.schema(
    [
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("state", pa.large_binary(), nullable=False),  # safetensors
        pa.field("quality", pa.string(), nullable=False),  # JSON
    ]
)

COLLISIONS_SCHEMA = pa.schema(
    [
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("table_version", pa.int64(), nullable=False),
        pa.field("levels", pa.int32(), nullable=False),  # the collision level included
        pa.field("before", pa.large_binary(), nullable=False),  # int32 [m, levels]
        pa.field("last", pa.large_binary(), nullable=False),  # likewise
    ]
)

CANARIES_SCHEMA = pa.schema(
    [
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("canary", pa.string(), nullable=False),  # JSON: extract/canary.py
    ]
)

EVALUATIONS_SCHEMA = pa.schema(
    [
        # The features that were asked about, and how: JSON.
        pa.field("subject", pa.string(), nullable=False),
        # Of the vectors and interactions that they were judged by.
        pa.field("digest", pa.string(), nullable=False),
        pa.field("evaluation", pa.string(), nullable=False),  # JSON: evaluate/verdict.py
    ]
)

SNAPSHOTS_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("created", _TIME, nullable=False),
        pa.field("record", pa.string(), nullable=False),  # JSON: items, features, tables
    ]
)

TOMBSTONES_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("created", _TIME, nullable=False),
        pa.field("done", pa.bool_(), nullable=False),
    ]
)

EXPORTS_SCHEMA = pa.schema(
    [
        pa.field("export_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("host", pa.string(), nullable=False),
        pa.field("format", pa.string(), nullable=False),
        pa.field("items", pa.int64(), nullable=False),
        pa.field("features", pa.string(), nullable=False),  # JSON
        pa.field("snapshot", pa.string()),
        pa.field("created", _TIME, nullable=False),
        pa.field("stale", _TIME),
    ]
)

FILES_SCHEMA = pa.schema(
    [
        pa.field("table", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("files", pa.string(), nullable=False),  # JSON: path to [bytes, SHA-256]
    ]
)

RUNS_SCHEMA = pa.schema([pa.field("record", pa.string(), nullable=False)])  # JSON

LOGS_SCHEMA = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("time", _TIME, nullable=False),
        pa.field("message", pa.string(), nullable=False),
    ]
)


def rows_schema(spec: FeatureSpec) -> pa.Schema:
    """The columns of a feature version's table; one row per item.

    ``vector`` is a fixed-size list of ``dims`` numbers of the spec's store dtype, or of
    ``vectors * dims`` where an item has several vectors (one after the other), ``tokens`` a list of any
    number of such lists of ``dims`` (of int8 with the four bytes of a scale behind:
    :mod:`mmfeat.schemas.int8`), ``codes`` one of ``dims`` int32, ``text`` a string; whichever the feature
    has is null unless the status is ``ok``. ``facts`` is a JSON object or null. ``content_hash``
    and ``stamp`` say which content of the item the row was made from, and ``rules`` the rule numbers of
    the modalities that it was read by: by input, joined by ``+``. Null means 1 of all, as in rows of
    format 1, whose tables lack the column until they are written to.
    """
    if spec.form == "vector":
        assert spec.store_dtype is not None, "FeatureSpec refuses vector features without a dtype"
        value = pa.field("vector", pa.list_(_FLOATS[spec.store_dtype], math.prod(spec.shape)))
    elif isinstance(spec.output, TokensOut):
        value = pa.field("tokens", pa.list_(_token(spec.output)))
    elif spec.form == "codes":
        value = pa.field("codes", pa.list_(pa.int32(), spec.dims))
    else:
        value = pa.field("text", pa.string())
    return pa.schema(
        [
            pa.field("item_id", pa.string(), nullable=False),
            pa.field("status", pa.string(), nullable=False),
            pa.field("stage", pa.string()),
            pa.field("reason", pa.string()),
            pa.field("content_hash", pa.string()),
            pa.field("stamp", pa.string()),
            RULES,
            pa.field("facts", pa.string()),
            value,
            pa.field("created", _TIME, nullable=False),
        ]
    )


def _token(output: TokensOut) -> pa.DataType:
    """One of any number of vectors."""
    if output.dtype == "int8":
        return pa.list_(pa.int8(), output.dims + SCALE_BYTES)
    return pa.list_(_FLOATS[output.dtype], output.dims)


def value_column(spec: FeatureSpec) -> str:
    """The name of the column that holds the feature's values."""
    return spec.form

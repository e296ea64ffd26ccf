"""Specs and rows to fill a store with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from mmfeat.schemas.inputs import Input
from mmfeat.schemas.outputs import TokensOut
from mmfeat.schemas.spec import FeatureSpec, Weights
from mmfeat.store import Exported, rows_schema

CREATED = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def vector_spec(
    name: str = "clip_image", dims: int = 4, dtype: str = "float16", method_version: int = 1
) -> FeatureSpec:
    return FeatureSpec(
        name=name,
        source="cover",
        output="vector",
        method="open_clip",
        method_version=method_version,
        model="ViT-B-32",
        weights=Weights(origin="random", ref="seed=0"),
        dims=dims,
        store_dtype=dtype,
    )


def text_spec(name: str = "caption") -> FeatureSpec:
    return FeatureSpec(
        name=name,
        source="cover",
        output="text",
        method="transformers",
        model="tiny",
        weights=Weights(origin="random", ref="seed=0"),
        text_kind="caption",
    )


def token_spec(name: str = "late", dims: int = 3, dtype: str = "float16") -> FeatureSpec:
    return FeatureSpec(
        name=name,
        inputs=(Input(source="title", modality="text"),),
        output=TokensOut(dims=dims, dtype=dtype),
        method="some",
        model="tiny",
        weights=Weights(origin="random", ref="seed=0"),
    )


def make_rows(spec: FeatureSpec, ids: Sequence[str], values: Sequence[object]) -> pa.Table:
    """One row per id; a value of None makes it a failed row."""
    rows = [
        {
            "item_id": item_id,
            "status": "failed" if value is None else "ok",
            "stage": "decode" if value is None else None,
            "reason": f"cannot decode {item_id}" if value is None else None,
            "content_hash": f"hash of {item_id}",
            "stamp": f"stamp of {item_id}",
            "facts": '{"tokens": 3}' if spec.form == "text" else None,
            spec.form: list(value) if isinstance(value, np.ndarray) else value,
            "created": CREATED,
        }
        for item_id, value in zip(ids, values, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=rows_schema(spec))


def vectors(n: int, dims: int = 4, dtype: str = "float16", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dims)).astype(dtype)


def exported(number: int) -> Exported:
    """An export, by its number."""
    made = datetime.now(UTC)
    return Exported(f"/exports/{number}", "here", "npy", 1, {"clip": "clip@0"}, None, made, f"e{number}")

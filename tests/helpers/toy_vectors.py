"""A store with planted faults in its vectors, for the report on them and its page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from helpers.storing import make_rows, text_spec, token_spec, vector_spec
from mmfeat.schemas.catalog import INTERACTIONS_SCHEMA, Column, catalog_schema
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import Store

N, DIMS = 60, 8
IDS = [f"item-{n:02}" for n in range(N)]
STRANGE = "<script>alert(1)</script>"


def planted() -> np.ndarray:
    """Three directions with noise; 6 is dead, 7 constant; items 0 and 1 have one vector, 2 nearly."""
    rng = np.random.default_rng(0)
    vectors = np.eye(DIMS)[np.arange(N) % 3] * 2 + 0.3 * rng.standard_normal((N, DIMS))
    vectors[:, 6], vectors[:, 7] = 0, 0.25
    vectors[1] = vectors[0]
    vectors[2] = vectors[0] + 0.01 * np.eye(DIMS)[3]
    return vectors.astype(np.float32)


def put(store: Store, spec: FeatureSpec, values: Sequence[object], ids: Sequence[str] = IDS) -> None:
    with store.lease("test"):
        version = store.add_version(spec)
        store.commit(version, make_rows(spec, ids, list(values)), replace=False)
        store.promotion.promote([version])


def make_store(folder: Path) -> str:
    """Sixty items: version 1 and 2 of `look`, of which 2 has other vectors of ten items; `late` of tokens,
    `caption` of texts; a snapshot of version 1."""
    Image.new("RGB", (40, 30), (200, 30, 30)).save(folder / "red.png")
    store = Store.open(str(folder / "store"), create=True)
    schema = catalog_schema([Column("kind", "text"), Column("price", "number")])
    items = [
        {
            "item_id": item_id,
            "title": f"{STRANGE} {item_id}",
            "cover": str(folder / "red.png") if at < 20 else None,
            "kind": ["shoe", "lamp", "cup"][at % 3],
            "price": float(at),
        }
        for at, item_id in enumerate(IDS)
    ]
    taken = [{"user_id": f"u{n}", "item_id": IDS[n % 5]} for n in range(20)]
    with store.lease("test"):
        store.put_catalog(pa.Table.from_pylist(items, schema=schema), {"name": "test"})
        store.put_interactions(pa.Table.from_pylist(taken, schema=INTERACTIONS_SCHEMA))
    vectors = planted()
    first = list(vectors)
    first[9] = None
    put(store, vector_spec("look", DIMS, "float32"), first)
    with store.lease("test"):
        store.create_snapshot("before")
    second = vectors.copy()
    second[20:30] = vectors[30:40]
    second[59] = 0
    put(store, vector_spec("look", DIMS, "float32", method_version=2), second)
    rng = np.random.default_rng(1)
    tokens = [[rng.standard_normal(3).tolist() for _ in range(1 + at % 3)] for at in range(40)]
    put(store, token_spec("late"), tokens, IDS[:40])
    put(store, text_spec(), ["red"] * 30 + [None] * 30)
    return store.uri

"""A store of a few items with vectors, which the tests of codes add to, change, take from and forget in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import mmfeat
from mmfeat.pipelines.quantize import QuantizeReport, quantize
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.inputs import Input
from mmfeat.schemas.outputs import VectorOut
from mmfeat.schemas.spec import FeatureSpec, Weights
from mmfeat.store import Store, rows_schema

DIMS = 4
OPTIONS = {"levels": 2, "codebook_size": 2, "collision_level": True}


def spec_of(name: str = "vectors", dims: int = DIMS) -> FeatureSpec:
    return FeatureSpec(
        name=name,
        inputs=(Input(source="cover", modality="image"),),
        output=VectorOut(dims=dims),
        method="some",
        model="m",
        weights=Weights(origin="package", ref="x"),
    )


def vector(content: int, dims: int = DIMS) -> np.ndarray:
    """What an item with this content has."""
    return np.random.default_rng(content).standard_normal(dims).astype(np.float32)


class Coded:
    """The store, what each of its items has, and its codes."""

    saved = 0

    def __init__(self, folder: Path, contents: Mapping[str, int], **options: Any) -> None:
        self.store = Store.open(str(folder), create=True)
        self.contents: dict[str, int] = {}
        self.options = OPTIONS | options
        self.set(contents)

    @property
    def uri(self) -> str:
        return self.store.uri

    def set(self, contents: Mapping[str, int], name: str = "vectors") -> None:
        """Give items these contents, and with them vectors."""
        self.store = Store.open(self.uri)
        spec, made = spec_of(name), datetime.now(UTC)
        self.contents |= contents
        rows = [
            {"item_id": i, "status": "ok", "vector": vector(c), "content_hash": str(c), "created": made}
            for i, c in contents.items()
        ]
        with self.store.lease("test"):
            self._put_catalog()
            version = self.store.add_version(spec)
            table = pa.Table.from_pylist(rows, schema=rows_schema(spec))
            self.store.commit(version, table, replace=True)

    def save_again(self, item_id: str) -> None:
        """Give an item what it has in another file: other content, the same vector."""
        self.saved += 1
        with self.store.lease("test"):
            version = self.store.resolve("vectors")
            rows = self.store.full_rows(version, [item_id])
            at = rows.schema.get_field_index("content_hash")
            rows = rows.set_column(at, "content_hash", [[f"saved {self.saved} times"]])
            self.store.commit(version, rows, replace=True)

    def leave(self, item_id: str) -> None:
        """Take an item out of the dataset; its rows stay until it is pruned."""
        self.contents.pop(item_id)
        with self.store.lease("test"):
            self._put_catalog()

    def forget(self, item_id: str) -> None:
        self.contents.pop(item_id, None)
        mmfeat.open(self.uri).forget([item_id], "test")

    def prune(self) -> None:
        with self.store.lease("test"):
            self.store.pruning.remove()

    def code(self, **options: Any) -> QuantizeReport:
        """Bring the codes up to date."""
        self.store = Store.open(self.uri)
        return quantize(self.store, "vectors", name="codes", **(self.options | options))

    def codes(self, ref: str = "codes") -> dict[str, tuple[int, ...]]:
        """Of all items that have some, gone ones too."""
        store = Store.open(self.uri)
        version = store.resolve(ref)
        ids = store.ledger(version)["item_id"].to_pylist()
        column = store.lookup(ids, [version.version], unknown="mask")[version.name]
        rows = zip(ids, column.matrix.tolist(), column.mask, strict=True)
        return {item_id: tuple(code) for item_id, code, there in rows if there}

    def versions(self) -> list[str]:
        return [version.version for version in Store.open(self.uri).versions("codes")]

    def _put_catalog(self) -> None:
        items = [{"item_id": i} for i in sorted(self.contents)]
        table = pa.Table.from_pylist(items, schema=CATALOG_SCHEMA)
        self.store.put_catalog(table, {"name": "test"}, whole=True)

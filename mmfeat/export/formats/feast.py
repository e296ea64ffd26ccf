"""A Feast feature repository (https://docs.feast.dev): a file source with its definitions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmfeat.export.base import Exporter, Kind, Policy
from mmfeat.export.content import BLOCK_ROWS, Content, Entry, ItemMap
from mmfeat.export.files import write_yaml
from mmfeat.export.formats.parquet import item_batches
from mmfeat.schemas.errors import UsageError

FILE = "features.parquet"
_TIME = "event_timestamp"

# Of an item's media, which has no date: known at every time, so that a point-in-time join finds it.
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)

_COMMENT = "Written by mmfeat. `feast apply` in this folder registers the definitions in features.py."

_DEFINITIONS = '''"""Item features for Feast, written by mmfeat: see `feast apply`."""

from datetime import timedelta

from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32, Int32, String

item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)

items = FileSource(name="{source}", path="{file}", timestamp_field="{time}")

item_features = FeatureView(
    name="item_features",
    entities=[item],
    # The features of an item hold until they are exported again.
    ttl=timedelta(0),
    schema=[
{fields}
    ],
    source=items,
    online=True,
)
'''


class Feast(Exporter):
    """``features.parquet``, ``features.py`` and ``feature_store.yaml``: what ``feast apply`` reads.

    One entity ``item`` (joined by ``item_id``) and one feature view ``item_features`` with an
    ``Array(Float32)``, ``Array(Int32)`` (semantic ids) or ``String`` per feature, null if it is missing.
    The event time of every row is 1970-01-01: what an item shows has no date.
    """

    name = "feast"
    title = "Feast"
    systems = ("Feast offline and online stores",)
    kinds: ClassVar[tuple[Kind, ...]] = ("vector", "codes", "text")
    missing: ClassVar[tuple[Policy, ...]] = ("mask", "mean", "zero", "empty", "drop", "error")
    id_base = None

    def check(self, content: Content) -> None:
        """Refuse a feature that is called as the column of times."""
        if _TIME in content.features:
            raise UsageError(
                f"Feast's column of times is called {_TIME!r}, and so is a feature.",
                hint=f"Leave it out, or give it another name in the job's [features.{_TIME}].",
            )

    def convert(self, role: str, rows: np.ndarray) -> np.ndarray:
        """Feast has no half precision: float32, and int32 for codes."""
        return rows.astype(np.int32 if rows.dtype.kind == "i" else np.float32, copy=False)

    def write(self, out: Path, content: Content) -> None:
        """The table in batches, then the definitions."""
        schema = _schema(content)
        with pq.ParquetWriter(out / FILE, schema, use_dictionary=False) as writer:
            for batch in item_batches(content):
                times = pa.array([_ALWAYS] * len(batch), schema.field(_TIME).type)
                writer.write_table(batch.append_column(_TIME, times).cast(schema))
        fields = "\n".join(
            f'        Field(name="{field.name}", dtype={_feast_type(field.type)}),'
            for field in schema
            if field.name not in ("item_id", _TIME)
        )
        name = _project(content.name)
        definitions = _DEFINITIONS.format(source=f"{name}_items", file=FILE, time=_TIME, fields=fields)
        (out / "features.py").write_text(definitions, encoding="utf-8")
        settings = {
            "project": name,
            "provider": "local",
            "registry": "registry.db",
            "offline_store": {"type": "file"},
            "online_store": {"type": "sqlite", "path": "online.db"},
            "entity_key_serialization_version": 3,
        }
        write_yaml(out / "feature_store.yaml", settings, _COMMENT)

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """By the ``item_id`` of each row."""
        with pq.ParquetFile(out / FILE) as file:
            for batch in file.iter_batches(batch_size=BLOCK_ROWS):
                ids = batch["item_id"].to_pylist()
                for role in manifest["features"]:
                    column = batch[role]
                    for item_id, cell in zip(ids, column, strict=True):
                        if cell.is_valid:
                            yield Entry(role, item_id, _value(cell))


def _value(cell: pa.Scalar) -> np.ndarray | str:
    if pa.types.is_string(cell.type):
        return str(cell.as_py())
    return np.asarray(cell.values.to_numpy())


def _schema(content: Content) -> pa.Schema:
    """Lists of any length in the place of lists of one: Feast has no other arrays."""
    fields = []
    for field in next(item_batches(content)).schema:
        one_length = pa.types.is_fixed_size_list(field.type)
        fields.append(pa.field(field.name, pa.list_(field.type.value_type)) if one_length else field)
    return pa.schema([*fields, pa.field(_TIME, pa.timestamp("us", "UTC"))])


def _feast_type(found: pa.DataType) -> str:
    if pa.types.is_string(found):
        return "String"
    return "Array(Int32)" if pa.types.is_integer(found.value_type) else "Array(Float32)"


def _project(name: str) -> str:
    """A name as Feast takes it: ASCII letters, digits and ``_``, the first a letter."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return plain if plain[:1].isalpha() else f"items_{plain}"

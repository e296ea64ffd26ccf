"""Fields of items in exports: of each exported item its own, in the export's order."""

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from echo import make_input

from mmfeat.datasets.base import build_items
from mmfeat.export import ExportInput, Request, export, verify
from mmfeat.export.fields import Fields
from mmfeat.export.manifest import read_manifest
from mmfeat.schemas.catalog import Column
from mmfeat.schemas.errors import UsageError

IDS = ["007", "1e5", "ü/1"]
COLUMNS = [Column("brand", "text"), Column("price", "number"), Column("tags", "text", several=True)]
VALUES = {
    "brand": {"007": "Acme", "ü/1": "Zoë"},
    "price": {"007": 12, "1e5": 0.1},
    "tags": {"007": ["x", "y"]},
    "cover": {"007": "/a.jpg"},
}
ITEMS = build_items(reversed(IDS), VALUES, COLUMNS)


def make(format: str) -> ExportInput:
    return replace(make_input(format, IDS), items=ITEMS)


def test_fields_are_those_of_the_exported_items_in_their_order_and_media_are_none():
    fields = Fields(ITEMS, ["1e5", "ü/1", "elsewhere", "007"])
    assert list(fields) == ["title", "description", "brand", "price", "tags"]
    assert fields["brand"] == [None, "Zoë", None, "Acme"]
    assert fields["tags"] == [[], [], [], ["x", "y"]]
    np.testing.assert_array_equal(fields["price"], [0.1, np.nan, np.nan, 12])


def test_a_callers_own_table_may_have_columns_that_no_catalog_has():
    own = pa.table({"item_id": ["a", "b"], "two words": [1, 2], "year": pa.array([1999, None], pa.int32())})
    fields = Fields(own, ["b", "a"])
    assert list(fields) == ["year"]
    np.testing.assert_array_equal(fields["year"], [np.nan, 1999])


@pytest.mark.parametrize("format", ["parquet", "hf"])
def test_fields_that_are_asked_for_are_further_columns(tmp_path, format: str):
    out = tmp_path / "out"
    export(make(format), Request(format, out, items=["ü/1", "007"], fields=["price", "tags", "brand"]))
    if format == "parquet":
        table = pq.read_table(out / "features.parquet")
    else:
        with pa.OSFile(str(next(out.glob("*.arrow")))) as file:
            table = pa.ipc.open_stream(file).read_all()
    assert table["item_id"].to_pylist() == ["ü/1", "007"]
    assert table["price"].to_pylist() == [None, 12]
    assert table["tags"].to_pylist() == [None, ["x", "y"]]
    assert table["brand"].to_pylist() == ["Zoë", "Acme"]
    assert read_manifest(out)["fields"] == ["price", "tags", "brand"]
    assert verify(out).ok


def test_an_export_without_fields_says_nothing_of_them(tmp_path):
    export(make("parquet"), Request("parquet", tmp_path / "out"))
    assert "fields" not in read_manifest(tmp_path / "out")
    assert not {"brand", "title"} & set(pq.read_table(tmp_path / "out" / "features.parquet").column_names)


@pytest.mark.parametrize(
    ("format", "fields", "message"),
    [
        ("parquet", ["brnd"], "no field 'brnd'"),
        ("parquet", ["cover"], "no field 'cover'"),
        ("parquet", ["brand", "brand"], "two columns called 'brand'"),
        ("npy", ["brand"], "npy has no place for further columns"),
        ("parquet", "brand", "'brand' is one field"),
    ],
)
def test_fields_that_cannot_be_written_are_refused_and_nothing_is_left(tmp_path, format, fields, message):
    with pytest.raises(UsageError, match=message):
        export(make(format), Request(format, tmp_path / "out", fields=fields))
    assert not list(tmp_path.iterdir())


def test_a_field_that_is_called_as_a_feature_is_refused(tmp_path):
    named = build_items(IDS, {"the_vector": {"007": "x"}}, [Column("the_vector", "text")])
    with pytest.raises(UsageError, match="two columns called 'the_vector'"):
        export(
            replace(make("parquet"), items=named), Request("parquet", tmp_path / "o", fields=["the_vector"])
        )


def test_a_numbers_gap_is_nan_and_never_a_number():
    assert all(math.isnan(v) for v in Fields(ITEMS, ["ü/1"])["price"])

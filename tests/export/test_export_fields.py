"""Fields of items in exports: of each exported item its own, in the export's order."""

import ast
import gzip
import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from helpers.echo import every_role, make_input
from helpers.export_readers import recbole_table
from helpers.interaction_rows import interactions_of

from mmfeat.datasets.base import build_items
from mmfeat.export import ExportInput, Request, export, verify
from mmfeat.export.manifest import read_manifest
from mmfeat.item_fields import Fields
from mmfeat.schemas.catalog import Column
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import FeatureSet

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


def test_hllm_chooses_its_text_keys_among_fields_too(tmp_path):
    items = build_items(IDS, VALUES | {"title": {i: f"Title of {i}" for i in IDS}}, COLUMNS)
    data = replace(make("hllm"), items=items)
    export(data, Request("hllm", tmp_path / "toys", fields=["title", "tags", "price", "brand"]))
    frame = pd.read_csv(tmp_path / "toys" / "information" / "toys.csv", dtype={"item_id": str})
    assert list(frame.columns) == ["item_id", "title", "tags", "price", "brand", "the_text"]
    rows = frame.set_index("item_id").T.to_dict()
    assert rows["007"] == {
        "title": "Title of 007", "tags": "x, y", "price": 12, "brand": "Acme", "the_text": "the_text of 007"
    }  # fmt: skip
    assert str(rows["1e5"]["tags"]) == str(rows["1e5"]["brand"]) == "nan"
    assert verify(tmp_path / "toys").ok


def test_hllm_needs_no_feature_beside_the_texts_of_the_catalog(tmp_path):
    data = make("hllm")
    bare = replace(data, features=FeatureSet(data.features.ids, {}))
    export(bare, Request("hllm", tmp_path / "toys", fields=["brand"]))
    frame = pd.read_csv(tmp_path / "toys" / "information" / "toys.csv", dtype={"item_id": str})
    assert frame.set_index("item_id")["brand"].dropna().to_dict() == VALUES["brand"]
    assert verify(tmp_path / "toys").ok
    with pytest.raises(UsageError, match="neither a text feature") as caught:
        export(bare, Request("hllm", tmp_path / "none"))
    assert "--fields" in caught.value.hint


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


# -- formats with fields of their own


CATALOG = build_items(
    IDS,
    {
        "title": {"007": "A cup", "1e5": "None of it"},
        "brand": {"007": 'Acme "Home"', "ü/1": "Zoë\tCo"},
        "price": {"007": 12, "1e5": 0.1},
        "categories": {"007": ["Home", "Cups and mugs"], "ü/1": ["Home"]},
    },
    [Column("brand", "text"), Column("price", "number"), Column("categories", "text", several=True)],
)


def exported(format, out, **asked):
    data = replace(make_input(format, IDS), items=CATALOG)
    export(data, Request(format, out, **asked))
    assert verify(out).ok
    return out


def test_recbole_gets_fields_as_tokens_sequences_of_tokens_and_numbers(tmp_path):
    fields = ["brand", "price", "categories"]
    out = exported("recbole", tmp_path / "toys", fields=fields)
    found = recbole_table(out / "toys.item")
    assert found.keys().tolist() == ["item_id", *fields]
    assert found["item_id"].tolist() == IDS
    assert found["brand"].fillna("").tolist() == ['Acme "Home"', "", "Zoë\tCo"]
    assert found["price"].fillna(-1).tolist() == [12, 0.1, -1]
    tokens = [list(filter(None, text.split(" "))) for text in found["categories"].fillna("")]
    assert tokens == [["Home", "Cups_and_mugs"], [], ["Home"]]
    config = yaml.safe_load((out / "toys.yaml").read_text())
    assert config["load_col"]["item"] == ["item_id", *fields]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"rating": {"007": ["x"]}}, "'rating' from another file"),
        ({"kinds": {"007": ["a b"], "1e5": ["a_b"]}}, "'kinds' differ in spaces"),
    ],
)
def test_recbole_refuses_fields_that_it_could_not_tell_apart(tmp_path, values, why):
    (name,) = values
    items = build_items(IDS, values, [Column(name, "text", several=True)])
    with pytest.raises(UsageError, match=why):
        export(
            replace(make_input("recbole", IDS), items=items),
            Request("recbole", tmp_path / "out", fields=[name]),
        )


def test_mmctr_numbers_the_tags_of_a_field_and_puts_zeros_before_them(tmp_path):
    options = {"tags": "categories", "ids": "index"}
    out = exported("mmctr", tmp_path / "out", options=options)
    assert json.loads((out / "tags.json").read_text()) == {"Home": 1, "Cups and mugs": 2}
    rows = pq.read_table(out / "item_info.parquet")["item_tags"].to_pylist()
    assert rows == [[0] * 5, [0, 0, 0, 1, 2], [0] * 5, [0, 0, 0, 0, 1]]


def test_mmctrs_tags_can_be_a_text_and_are_five_at_most(tmp_path):
    options = {"tags": "brand", "ids": "index"}
    out = exported("mmctr", tmp_path / "one", options=options)
    rows = pq.read_table(out / "item_info.parquet")["item_tags"].to_pylist()
    assert rows[1:] == [[0, 0, 0, 0, 1], [0] * 5, [0, 0, 0, 0, 2]]
    many = build_items(IDS, {"many": {"007": list("abcdefg")}}, [Column("many", "text", several=True)])
    data = replace(make_input("mmctr", IDS), items=many)
    export(data, Request("mmctr", tmp_path / "two", options={"tags": "many", "ids": "index"}))
    rows = pq.read_table(tmp_path / "two" / "item_info.parquet")["item_tags"].to_pylist()
    assert rows[1] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("field", "why"), [("pirce", "no field 'pirce'"), ("price", "'price' holds numbers, and not texts")]
)
def test_mmctr_refuses_tags_that_are_no_texts(tmp_path, field, why):
    with pytest.raises(UsageError, match=why):
        exported("mmctr", tmp_path / "out", options={"tags": field, "ids": "index"})


@pytest.mark.parametrize("format", ["fmrlrec", "rq-vae-recommender"])
def test_p5s_metadata_has_the_fields_that_an_item_has(tmp_path, format):
    out = exported(format, tmp_path / "toys", features=every_role(format))
    folder = out if format == "fmrlrec" else out / "raw" / "toys"
    with gzip.open(folder / "meta.json.gz") as file:
        found = [ast.literal_eval(line.decode()) for line in file]
    assert found == [
        {"asin": "007", "title": "A cup", "brand": 'Acme "Home"', "price": 12.0}
        | {"categories": [["Home", "Cups and mugs"]]},
        {"asin": "1e5", "title": "None of it", "price": 0.1, "categories": [[]]},
        {"asin": "ü/1", "brand": "Zoë\tCo", "categories": [["Home"]]},
    ]


def test_unimp_knows_what_the_catalog_does_and_has_empty_texts_for_the_rest(tmp_path):
    ids = [*IDS, "d", "e", "f"]
    export(replace(make_input("unimp", ids), items=CATALOG), Request("unimp", tmp_path / "out"))
    found = json.loads((tmp_path / "out" / "meta_all.json").read_text(encoding="utf-8"))
    assert found["0"] == {
        "category": "Home Cups and mugs",
        "price": 12.0,
        "brand": 'Acme "Home"',
        "title": "A cup",
    }
    assert found["3"] == {"category": "", "price": "", "brand": "", "title": ""}


def test_mmm4recs_baselines_get_categories_and_times(tmp_path):
    days = [
        ("u", "007", 3),
        ("u", "1e5", 4),
        ("u", "ü/1", 12),
        ("v", "ü/1", 1),
        ("v", "007", 5),
        ("v", "1e5", 6),
    ]
    log = interactions_of((user, item, day * 86_400_000) for user, item, day in days)
    data = replace(make_input("mmm4rec", IDS, interactions=log), items=CATALOG)
    export(data, Request("mmm4rec", tmp_path / "toys", options={"categories": "categories"}))
    categories = torch.load(tmp_path / "toys" / "cat.pt", weights_only=True)
    assert categories.dtype == torch.int64
    assert categories.tolist() == [[0, 0], [1, 1], [0, 0], [1, 0]]
    assert json.loads((tmp_path / "toys" / "categories.json").read_text()) == ["Home", "Cups and mugs"]
    with (tmp_path / "toys" / "max_interval.bin").open("rb") as file:
        assert pickle.load(file) == pytest.approx(math.log2(8 * 86_400 + 1))
    with (tmp_path / "toys" / "date_range.bin").open("rb") as file:
        assert pickle.load(file) == (1, 12)
    assert verify(tmp_path / "toys").ok


def test_mmm4rec_refuses_categories_that_no_item_has(tmp_path):
    data = replace(make_input("mmm4rec", IDS), items=build_items(IDS, {}, COLUMNS))
    with pytest.raises(UsageError, match="No item has anything in the field 'tags'"):
        export(data, Request("mmm4rec", tmp_path / "out", options={"categories": "tags"}))

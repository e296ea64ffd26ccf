"""Columns of numbers: every file type gives the same ones; what is no number costs one cell and is told."""

import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.dataset_files import column, notes, put
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmfeat import datasets
from mmfeat.datasets import ColumnCount
from mmfeat.datasets.base import build_items
from mmfeat.datasets.cells import CellTrouble, is_plain_number, number_in
from mmfeat.schemas.catalog import Column, columns_of, texts_of
from mmfeat.schemas.errors import ConfigError, DatasetError
from mmfeat.schemas.templates import listed

PRICE = Column("price", "number")
TAGS = Column("tags", "text", several=True)


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "parquet"])
def test_every_file_type_gives_the_same_numbers(tmp_path: Path, extension: str):
    prices = [12, 0.1, None, -3, 1e300, 2.5]
    path = tmp_path / f"items.{extension}"
    if extension == "parquet":
        pq.write_table(pa.table({"id": list("abcdef"), "Price": pa.array(prices, pa.float64())}), path)
    elif extension == "jsonl":
        put(tmp_path, {path.name: "".join(
            json.dumps({"id": i, "Price": p}) + "\n" for i, p in zip("abcdef", prices, strict=True)
        )})  # fmt: skip
    else:
        mark = "," if extension == "csv" else "\t"
        rows = "".join(f"{i}{mark}{'' if p is None else p}\n" for i, p in zip("abcdef", prices, strict=True))
        put(tmp_path, {path.name: f"id{mark}Price\n{rows}"})
    dataset = datasets.load("table", path, columns={"price": {"modality": "number", "from": "Price"}})
    assert columns_of(dataset.items.schema)["price"] == PRICE
    assert column(dataset, "price") == dict(zip("abcdef", prices, strict=True))
    assert datasets.check(dataset).columns[-1] == ColumnCount("price", "number", 5, 1, 0, 0, 5)
    assert set(notes(dataset)) == {"columns"}


@pytest.mark.parametrize(
    ("cell", "held"),
    [
        ("Infinity", "no finite number"),
        ("1e999", "no finite number"),
        (str(2**53 + 1), "would round"),
        ("1" + "0" * 400, "no finite number"),
        ('"from 9.99"', "'from 9.99', no number"),
        ('"1_000"', "no number"),
        ('"1,299"', "no number"),
        ('"٣"', "no number"),
        ("true", "no number"),
        ("[1]", "no number"),
        ('{"a":1}', "no number"),
    ],
)
def test_a_cell_that_is_no_number_costs_that_cell_alone_and_is_noted_by_item(
    tmp_path: Path, cell: str, held: str
):
    text = f'{{"id":"1","price":7}}\n{{"id":"2","price":{cell}}}\n{{"id":"3","price":"8.5"}}\n'
    dataset = datasets.load(
        "table", put(tmp_path, {"a.jsonl": text}) / "a.jsonl", columns={"price": "number"}
    )
    assert column(dataset, "price") == {"1": 7, "2": None, "3": 8.5}
    note = notes(dataset)["unusable_cell"]
    assert (note.level, note.count) == ("warning", 1)
    assert note.examples[0].startswith("2: its price holds ")
    assert held in note.examples[0]


@pytest.mark.parametrize("blank", ["", "  ", "NaN", "NULL", "N/A"])
def test_a_blank_or_a_mark_for_nothing_is_no_number_and_nothing_is_told(tmp_path: Path, blank: str):
    put(tmp_path, {"a.csv": f"id,price\n1,{blank}\n2, 4 \n"})
    dataset = datasets.load("table", tmp_path / "a.csv", columns={"price": "number"})
    assert column(dataset, "price") == {"1": None, "2": 4}
    assert set(notes(dataset)) == {"columns"}


def test_a_column_without_one_number_is_refused_by_name(tmp_path: Path):
    put(tmp_path, {"a.csv": "id,price\n1,\n2,cheap\n"})
    with pytest.raises(DatasetError, match="the column 'price' cannot be read: row 2 holds 'cheap'"):
        datasets.load("table", tmp_path / "a.csv", columns={"price": "number"})


def test_numbers_are_further_columns_of_titles_csv(tmp_path: Path):
    put(tmp_path, {"titles.csv": "item,title,price,tags\n1,a,12,x\n2,b,cheap,\n"})
    dataset = datasets.load("folder", tmp_path, columns={"price": "number", "tags": "text"})
    assert column(dataset, "price") == {"1": 12, "2": None}
    assert notes(dataset)["unusable_cell"].examples == ("2: its price holds 'cheap', no number",)


def test_lists_of_numbers_are_refused():
    with pytest.raises(ConfigError, match="'price' holds lists of numbers"):
        Column("price", "number", several=True)


@given(st.one_of(st.integers(), st.floats(), st.text(), st.booleans(), st.lists(st.floats()), st.none()))
def test_a_cell_gives_a_finite_number_that_is_the_cells_own_or_none_or_trouble(cell: object):
    try:
        found = number_in(cell)
    except CellTrouble:
        return
    if found is None:
        assert cell is None or cell != cell or isinstance(cell, str)
        return
    assert math.isfinite(found)
    assert isinstance(cell, str) or found == cell


@given(st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False)))
def test_a_number_as_a_text_is_read_back_as_it_is_and_whole_ones_have_no_point(value: float):
    items = build_items(["a"], {"price": {"a": value}}, [PRICE])
    (text,) = texts_of(items["price"], PRICE).to_pylist()
    assert float(text) == value
    assert not text.endswith(".0")
    if value == int(value) and abs(value) <= 2**53:
        assert text == str(int(value))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.one_of(st.none(), st.lists(st.text(st.characters(exclude_categories=["Cs"])))), min_size=1)
)
def test_a_list_of_texts_is_joined_so_that_it_can_be_cut_again(cells: list[list[str] | None]):
    ids = [str(n) for n in range(len(cells))]
    items = build_items(ids, {"tags": dict(zip(ids, cells, strict=True))}, [TAGS])
    for chunks in (items, pa.concat_tables([items.slice(0, 1), items.slice(1)])):
        found = texts_of(chunks["tags"], TAGS).to_pylist()
        for cell, text in zip(cells, found, strict=True):
            assert text == (listed(cell) if cell else None)


def test_nan_in_a_catalog_is_no_value():
    items = build_items("ab", {"price": {"a": math.nan, "b": 1}}, [PRICE])
    assert items["price"].to_pylist() == [None, 1]


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet", "arrow"])
def test_all_fields_are_read_by_what_they_hold_and_what_is_none_is_told(tmp_path: Path, extension: str):
    rows = [
        {"id": "1", "name": "a", "price": 9.5, "code": "007", "year": 1999, "tags": ["x"], "two words": "x"},
        {
            "id": "2",
            "name": "b",
            "price": None,
            "code": "12",
            "year": 2001,
            "tags": ["y", "z"],
            "two words": "y",
        },
    ]
    path = tmp_path / f"items.{extension}"
    if extension == "csv":
        lines = (",".join(_cell(row[name]) for name in rows[0]) for row in rows)
        put(tmp_path, {path.name: "\n".join([",".join(rows[0]), *lines])})
    elif extension == "jsonl":
        put(tmp_path, {path.name: "".join(json.dumps(row) + "\n" for row in rows)})
    elif extension == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with pa.ipc.new_stream(str(path), pa.Table.from_pylist(rows).schema) as writer:
            writer.write_table(pa.Table.from_pylist(rows))
    dataset = datasets.load(
        "table", path, fields="all", columns={"when": {"modality": "text", "from": "year"}}
    )
    kinds = columns_of(dataset.items.schema)
    assert [kinds[name] for name in ("price", "code", "tags", "when")] == [
        PRICE,
        Column("code", "text"),
        TAGS,
        Column("when", "text"),
    ]
    assert "year" not in kinds
    assert column(dataset, "code") == {"1": "007", "2": "12"}
    assert column(dataset, "price") == {"1": 9.5, "2": None}
    assert column(dataset, "title") == {"1": "a", "2": "b"}
    assert notes(dataset)["no_field"].examples == ("two words",)


def _cell(value: object) -> str:
    if isinstance(value, list):
        return '"' + json.dumps(value).replace('"', '""') + '"'
    return "" if value is None else str(value)


def test_without_being_asked_no_other_column_is_read(tmp_path: Path):
    put(tmp_path, {"a.csv": "id,price\n1,2\n"})
    assert "price" not in datasets.load("table", tmp_path / "a.csv").items.column_names


@given(st.integers())
def test_a_text_that_is_told_to_be_a_number_comes_back_as_it_was_written(value: int):
    for text in (str(value), f"0{value}", f"+{value}"):
        if is_plain_number(text):
            assert texts_of(pa.array([number_in(text)]), PRICE).to_pylist() == [text.removeprefix("+")]


def test_items_of_one_brand_are_counted_and_no_note_is_made_of_it(tmp_path: Path):
    put(tmp_path, {"a.csv": "id,title,brand\n1,a,Acme\n2,a,Acme\n"})
    report = datasets.check(datasets.load("table", tmp_path / "a.csv", fields="all"))
    assert [(c.column, c.duplicates) for c in report.columns] == [("title", 1), ("brand", 1)]
    assert {note.code for note in report.notes} == {"columns", "same_title"}


@pytest.mark.parametrize("by_number", [False, True])
def test_a_number_of_32_bits_is_the_one_that_was_written(tmp_path: Path, by_number: bool):
    prices = pa.array([12.99, None, float("nan"), 1e-7], pa.float32())
    prices = prices.dictionary_encode() if by_number else prices
    pq.write_table(pa.table({"item_id": ["a", "b", "c", "d"], "price": prices}), tmp_path / "items.parquet")
    loaded = datasets.load("table", tmp_path / "items.parquet", columns={"price": "number"})
    assert loaded.items["price"].to_pylist() == [12.99, None, None, 1e-7]

"""One cell's trouble costs that cell; files in cells of Parquet are media like all others."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.dataset_files import column, media, notes, put
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfeat import datasets
from mmfeat.datasets import ColumnCount
from mmfeat.extract.media.read import read_media, size_of_stamp, stamp_of
from mmfeat.schemas.catalog import CellPlace, split_cell_location
from mmfeat.schemas.errors import DatasetError, ItemError


def test_a_nan_is_no_value_and_costs_no_other_title(tmp_path: Path):
    put(tmp_path, {"a.jsonl": '{"item_id":"1","title":NaN}\n{"item_id":"2","title":"b"}\n'})
    dataset = datasets.load("table", tmp_path / "a.jsonl")
    assert column(dataset, "title") == {"1": None, "2": "b"}
    assert set(notes(dataset)) == {"columns"}


@pytest.mark.parametrize("cell", ["1.5", "true", '["x"]', '{"en":"x"}', "Infinity", "-Infinity"])
def test_a_cell_that_is_no_text_costs_that_cell_alone_and_is_noted_by_item(tmp_path: Path, cell: str):
    text = f'{{"id":"1","title":"a"}}\n{{"id":"2","title":{cell}}}\n{{"id":"3","title":"c"}}\n'
    dataset = datasets.load("table", put(tmp_path, {"a.jsonl": text}) / "a.jsonl")
    assert column(dataset, "title") == {"1": "a", "2": None, "3": "c"}
    note = notes(dataset)["unusable_cell"]
    assert (note.level, note.count) == ("warning", 1)
    assert note.examples[0].startswith("2: its title holds ")
    # So it is with a column that was named, and with one of media.
    asked = {"photo": {"modality": "image", "from": "title"}}
    named = datasets.load("table", tmp_path / "a.jsonl", description="title", columns=asked)
    assert column(named, "description") == column(dataset, "title")
    assert list(media(named, "photo")) == (["1", "2", "3"] if cell == '["x"]' else ["1", "3"])


def test_a_cell_of_a_list_that_is_no_text_costs_that_items_list_alone(tmp_path: Path):
    put(tmp_path, {"a.jsonl": '{"id":"1","tags":["x"]}\n{"id":"2","tags":["y",{"z":1}]}\n'})
    dataset = datasets.load("table", tmp_path / "a.jsonl", columns={"tags": "text"})
    assert column(dataset, "tags") == {"1": ["x"], "2": None}
    assert notes(dataset)["unusable_cell"].count == 1


def test_a_parquet_column_of_nan_alone_holds_nothing(tmp_path: Path):
    pq.write_table(pa.table({"id": ["1", "2"], "title": [float("nan"), None]}), tmp_path / "a.parquet")
    dataset = datasets.load("table", tmp_path / "a.parquet")
    assert column(dataset, "title") == {"1": None, "2": None}
    assert set(notes(dataset)) == {"columns"}


def test_a_key_that_comes_twice_in_a_line_is_refused_by_line(tmp_path: Path):
    put(tmp_path, {"a.jsonl": '{"id":"1"}\n{"id":"2","title":"a","title":"b"}\n'})
    with pytest.raises(DatasetError, match="line 2: it has several values of the name 'title'"):
        datasets.load("table", tmp_path / "a.jsonl")


def test_a_parquet_column_that_is_read_and_there_twice_is_an_error_that_names_it(tmp_path: Path):
    names = ["item_id", "title", "title", "x", "x"]
    pq.write_table(pa.table([pa.array([c]) for c in "1abcd"], names=names), tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match="several columns of one name: title"):
        datasets.load("table", tmp_path / "a.parquet")
    one = pq.ParquetFile(tmp_path / "a.parquet").read().remove_column(1)
    pq.write_table(one, tmp_path / "b.parquet")
    assert column(datasets.load("table", tmp_path / "b.parquet"), "title") == {"1": "b"}
    with pytest.raises(DatasetError, match="several columns of one name: x"):
        datasets.load("table", tmp_path / "b.parquet", columns={"x": "image"})


FILES = [b"first", None, b"third", b"", b"fifth" * 1000]
KINDS = {
    "binary": (pa.binary(), lambda data: data),
    "large": (pa.large_binary(), lambda data: data),
    "struct": (
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        lambda data: None if data is None else {"bytes": data, "path": "elsewhere.jpg"},
    ),
    "categories": (pa.dictionary(pa.int32(), pa.binary()), lambda data: data),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_pictures_in_cells_are_read_as_they_are(tmp_path: Path, kind: str, rows: int):
    arrow, wrap = KINDS[kind]
    table = pa.table({"id": list("abcde"), "image": pa.array([wrap(data) for data in FILES], arrow)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=rows)
    dataset = datasets.load("table", tmp_path / "a.parquet")
    places = media(dataset, "cover")
    assert list(places) == ["a", "c", "d", "e"]
    for item_id, data in zip("abcde", FILES, strict=True):
        if data:
            read = read_media(places[item_id], 10_000)
            assert (read.data, read.content_hash) == (data, hashlib.sha256(data).hexdigest())
            assert read.stamp == stamp_of(places[item_id])
            assert size_of_stamp(read.stamp) is None
    assert datasets.check(dataset).columns == [
        ColumnCount("cover", "image", len(places), 5 - len(places), 0, 0, len(places))
    ]


def test_a_cell_without_bytes_names_a_file_that_must_lie_in_the_tables_folder(tmp_path: Path):
    cells = [
        {"bytes": None, "path": p} for p in ("in/1.jpg", "../out.jpg", "parquet://0/image::/etc/x", None)
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"id": list("abcd"), "image": pa.array(cells, kind)}), tmp_path / "a.parquet")
    dataset = datasets.load("table", tmp_path / "a.parquet")
    assert media(dataset, "cover") == {"a": str(tmp_path / "in/1.jpg")}
    assert {"outside_root", "unknown_scheme"} <= set(notes(dataset))


def test_lists_of_pictures_in_cells_are_a_column_of_lists(tmp_path: Path):
    kind = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    cells = [[{"bytes": b"x", "path": None}, {"bytes": b"y", "path": None}], None, []]
    pq.write_table(pa.table({"id": list("abc"), "photos": pa.array(cells, kind)}), tmp_path / "a.parquet")
    dataset = datasets.load("table", tmp_path / "a.parquet", columns={"photos": "image"})
    (places,) = media(dataset, "photos").values()
    assert [read_media(place, 10).data for place in places] == [b"x", b"y"]


@pytest.mark.parametrize("inner", [pa.binary(), pa.struct([("bytes", pa.binary()), ("path", pa.string())])])
def test_lists_of_pictures_under_a_usual_name_are_told_of_and_read_where_they_are_named(
    tmp_path: Path, inner: pa.DataType
):
    file = {"bytes": b"x", "path": None} if pa.types.is_struct(inner) else b"x"
    images = pa.array([[file, file], None], pa.list_(inner))
    pq.write_table(pa.table({"id": ["1", "2"], "image": images}), tmp_path / "a.parquet")
    dataset = datasets.load("table", tmp_path / "a.parquet")
    assert (len(dataset.items), media(dataset, "cover")) == (2, {})
    note = notes(dataset)["unusable_column"]
    assert note.level == "warning"
    assert "under [dataset.columns]" in note.examples[0]
    with pytest.raises(DatasetError, match=r"'image' cannot be the cover: .*under \[dataset\.columns\]"):
        datasets.load("table", tmp_path / "a.parquet", cover="image")
    named = datasets.load("table", tmp_path / "a.parquet", columns={"image": "image"})
    assert [len(places) for places in media(named, "image").values()] == [2]


def test_a_changed_table_gives_its_cells_another_stamp_and_what_they_hold_now(tmp_path: Path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["1"], "image": [b"old"]}), path)
    place = media(datasets.load("table", path), "cover")["1"]
    before = read_media(place, 10)
    pq.write_table(pa.table({"id": ["1"], "image": [b"newer"]}), path)
    assert read_media(place, 10).data == b"newer"
    assert stamp_of(place) != before.stamp


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (CellPlace("{}", "image", 9), "no row 9"),
        (CellPlace("{}", "nothing", 0), "no column 'nothing'"),
        (CellPlace("{}", "id", 0), "no file in this cell"),
        (CellPlace("{}x", "image", 0), "there is no table"),
        (CellPlace("{}", "image", 1), "too large"),
        (CellPlace("{}", "image", 0, 3), "no file in this cell"),
    ],
)
def test_a_cell_that_cannot_be_read_fails_with_its_reason(tmp_path: Path, place: CellPlace, reason: str):
    path = tmp_path / "a.parquet"
    kind = pa.list_(pa.binary()) if place.at else pa.binary()
    cells = [[b"x"], [b"y" * 99]] if place.at else [b"x", b"y" * 99]
    pq.write_table(pa.table({"id": ["1", "2"], "image": pa.array(cells, kind)}), path)
    location = place.location.replace("{}", str(path))
    with pytest.raises(ItemError, match=reason):
        read_media(location, 50)


def test_rows_in_any_order_give_their_own_file_and_those_in_order_one_pass(tmp_path: Path):
    path = tmp_path / "a.parquet"
    files = [f"{n}:".encode() * 100_000 for n in range(200)]
    pq.write_table(
        pa.table({"id": [str(n) for n in range(200)], "image": files}), path, data_page_size=1 << 16
    )
    places = list(media(datasets.load("table", path), "cover").values())
    for order in (range(200), range(199, -1, -50), [7, 3, 190, 4, 5, 0]):
        assert all(read_media(places[n], 1 << 20).data == files[n] for n in order)


def test_a_damaged_page_costs_the_pictures_behind_it_and_not_those_before(tmp_path: Path):
    path = tmp_path / "a.parquet"
    files = [bytes([n]) * 300_000 for n in range(100)]
    table = pa.table({"id": [str(n) for n in range(100)], "image": files})
    pq.write_table(
        table, path, compression="none", use_dictionary=False, data_page_size=1 << 20, write_batch_size=4,
        write_page_checksum=True, row_group_size=80,
    )  # fmt: skip
    places = list(media(datasets.load("table", path), "cover").values())
    data = path.read_bytes()
    # A page's head says how long it is: with another one, what follows is no page.
    at = data.index(files[60][:100]) - 60
    path.write_bytes(data[:at] + bytes(200) + data[at + 200 :])
    read = {}
    for n, place in enumerate(places):
        try:
            read[n] = read_media(place, 1 << 20).data == files[n]
        except ItemError as error:
            assert "cannot read the cell" in error.reason
    assert all(read.values())
    assert {*range(30), *range(80, 100)} <= set(read)
    assert not {*range(64, 80)} & set(read)


@settings(deadline=None)
@given(st.text(min_size=1), st.integers(0, 10**9), st.none() | st.integers(0, 99))
def test_any_cell_comes_back_from_its_location(name: str, row: int, at: int | None):
    place = CellPlace("/data/a b.parquet", name, row, at)
    assert split_cell_location(place.location) == place

"""Columns that a person names: which adapters take them, what they hold, and what lacks is said."""

import re
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.dataset_files import column, media, notes, put

from mmfeat import datasets
from mmfeat.datasets import ColumnCount, registry
from mmfeat.schemas.catalog import USUAL_COLUMNS, Column, columns_of
from mmfeat.schemas.errors import ConfigError, DatasetError
from mmfeat.schemas.job import parse_job


def further(dataset: datasets.Dataset) -> list[Column]:
    """The columns beside the usual ones."""
    return list(columns_of(dataset.items.schema).values())[len(USUAL_COLUMNS) :]


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_gives_texts_places_and_lists_of_them_whatever_the_files_type(tmp_path: Path, extension: str):
    path = tmp_path / f"items.{extension}"
    photos = [["a.jpg", "b.jpg"], [], ["c.jpg", "https://x.org/d.jpg", "../out.jpg"]]
    brands = ["Acme", "  ", "[Official] Zoë"]
    if extension == "parquet":
        pq.write_table(pa.table({"id": ["1", "2", "3"], "photos": photos, "Brand Name": brands}), path)
    elif extension == "jsonl":
        lines = (
            f'{{"id":"{n}","photos":{str(p).replace(chr(39), chr(34))},"Brand Name":"{b}"}}\n'
            for n, (p, b) in enumerate(zip(photos, brands, strict=True), 1)
        )
        put(tmp_path, {path.name: "".join(lines)})
    else:
        mark = "," if extension == "csv" else "\t"
        cells = [str(p).replace("'", '""') for p in photos]
        rows = (f'{n}{mark}"{p}"{mark}"{b}"\n' for n, (p, b) in enumerate(zip(cells, brands, strict=True), 1))
        put(tmp_path, {path.name: f"id{mark}photos{mark}Brand Name\n" + "".join(rows)})
    asked = {"photos": "image", "brand": {"modality": "text", "from": "Brand Name"}}
    dataset = datasets.load("table", path, columns=asked)
    assert further(dataset) == [Column("photos", "image", several=True), Column("brand", "text")]
    assert column(dataset, "photos") == {
        "1": [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")],
        "2": None,
        "3": [str(tmp_path / "c.jpg"), "https://x.org/d.jpg"],
    }
    assert column(dataset, "brand") == {"1": "Acme", "2": None, "3": "[Official] Zoë"}
    assert notes(dataset)["outside_root"].examples == ("../out.jpg",)


def test_one_list_makes_a_column_of_lists(tmp_path: Path):
    put(tmp_path, {"a.jsonl": '{"id":"1","tags":"x"}\n{"id":"2","tags":["y",7,null," "]}\n{"id":"3"}\n'})
    dataset = datasets.load("table", tmp_path / "a.jsonl", columns={"tags": "text"})
    assert further(dataset) == [Column("tags", "text", several=True)]
    assert column(dataset, "tags") == {"1": ["x"], "2": ["y", "7"], "3": None}


def test_a_table_column_that_is_named_is_not_taken_for_a_usual_one(tmp_path: Path):
    put(tmp_path, {"a.csv": 'id,image,name\n1,"[""a.jpg""]",Ann\n'})
    asked = {"photos": {"modality": "image", "from": "image"}, "name": "text"}
    dataset = datasets.load("table", tmp_path / "a.csv", columns=asked)
    assert (media(dataset, "cover"), media(dataset, "title")) == ({}, {})
    assert media(dataset, "photos") == {"1": [str(tmp_path / "a.jpg")]}
    assert column(dataset, "name") == {"1": "Ann"}


def test_rows_of_one_id_that_differ_in_a_further_column_are_refused(tmp_path: Path):
    put(tmp_path, {"a.csv": "id,brand\n1,a\n1,b\n"})
    with pytest.raises(DatasetError, match="rows of one id differ: 1"):
        datasets.load("table", tmp_path / "a.csv", columns={"brand": "text"})


def test_a_table_says_what_it_lacks_with_near_names(tmp_path: Path):
    put(tmp_path, {"a.jsonl": '{"id":"1","photos":["a.jpg"],"size":{"w":1}}\n'})
    with pytest.raises(DatasetError, match="has no column 'photo'") as refused:
        datasets.load("table", tmp_path / "a.jsonl", columns={"photo": "image"})
    assert refused.value.hint == "Did you mean 'photos'? It has: id, photos, size."
    with pytest.raises(DatasetError, match="the column 'size' cannot be read: row 1 holds"):
        datasets.load("table", tmp_path / "a.jsonl", columns={"size": "text"})


def test_numbered_files_and_folders_of_an_item_make_a_list_in_their_order(tmp_path: Path):
    names = ["a_10.jpg", "a_2.jpg", "a.jpg", "a_2.png", "b/shot 10.jpg", "b/shot 9.jpg", "c_1.jpg", "c.txt"]
    put(tmp_path, {**{f"shop_photos/{name}": b"x" for name in names}, "c_1.mp4": b"x", "photos.md": b"x"})
    dataset = datasets.load("folder", tmp_path, columns={"photos": "image"})
    assert further(dataset) == [Column("photos", "image", several=True)]
    at = tmp_path / "shop_photos"
    # c_1 is the id of an item that has a clip, so that c_1.jpg is no first picture of c.
    assert media(dataset, "photos") == {
        "a": [str(at / "a.jpg"), str(at / "a_2.jpg"), str(at / "a_10.jpg")],
        "b": [str(at / "b/shot 9.jpg"), str(at / "b/shot 10.jpg")],
        "c_1": [str(at / "c_1.jpg")],
    }
    assert dataset.items["item_id"].to_pylist() == ["a", "b", "c_1"]
    found = notes(dataset)
    assert found["media_clash"].examples == ("a: a_2.jpg, a_2.png",)
    assert (found["not_media"].examples, found["not_read"].examples) == (("c.txt",), ("photos.md",))


def test_a_folder_with_one_file_per_item_makes_no_list(tmp_path: Path):
    put(tmp_path, {"covers/1.jpg": b"x", "back/1.jpg": b"x", "back/2.jpg": b"x"})
    dataset = datasets.load("folder", tmp_path, columns={"reverse": {"modality": "image", "from": "back"}})
    assert further(dataset) == [Column("reverse", "image")]
    assert media(dataset, "reverse") == {i: str(tmp_path / "back" / f"{i}.jpg") for i in "12"}


@pytest.mark.parametrize("prefix", ["", "photos/"])
def test_an_archive_of_items_folders_is_read_with_and_without_a_folder_around_them(
    tmp_path: Path, prefix: str
):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as target:
        for name in ("1/b.jpg", "1/a.jpg", "../2.jpg"):
            target.writestr(name if name.startswith("..") else prefix + name, b"x")
    dataset = datasets.load("folder", tmp_path, columns={"photos": "image"})
    archive = tmp_path / "photos.zip"
    places = [f"zip://{prefix}1/{n}.jpg::{archive}" for n in "ab"]
    assert media(dataset, "photos") == {"1": places}
    assert notes(dataset)["outside_root"].examples == ("../2.jpg",)


def test_links_out_of_a_folder_of_lists_are_refused(tmp_path: Path):
    put(tmp_path, {"out/secret.jpg": b"x", "root/photos/1_1.jpg": b"x", "root/photos/3/a.jpg": b"x"})
    (tmp_path / "root/photos/2").symlink_to(tmp_path / "out")
    (tmp_path / "root/photos/3/b.jpg").symlink_to(tmp_path / "out/secret.jpg")
    dataset = datasets.load("folder", tmp_path / "root", columns={"photos": "image"})
    assert {i: len(places) for i, places in media(dataset, "photos").items()} == {"1": 1, "3": 1}
    assert notes(dataset)["outside_root"].examples == ("2", "3/b.jpg")


def test_files_deeper_than_an_items_folder_are_told_of(tmp_path: Path):
    put(tmp_path, {"photos/1/a.jpg": b"x", "photos/1/deep/b.jpg": b"x", "photos/readme.md": b"x"})
    dataset = datasets.load("folder", tmp_path, columns={"photos": "image"})
    assert media(dataset, "photos") == {"1": [str(tmp_path / "photos/1/a.jpg")]}
    assert notes(dataset)["too_deep"].examples == ("1/deep/b.jpg",)
    assert notes(dataset)["not_media"].examples == ("readme.md",)


def test_texts_are_further_columns_of_titles_csv(tmp_path: Path):
    put(tmp_path, {"titles.csv": 'item,title,Brand,tags,size\n1,"a, b",Acme,"[""x"",""y""]",L\n2,c,,,S\n'})
    asked = {"tags": "text", "brand": {"modality": "text", "from": "Brand"}}
    dataset = datasets.load("folder", tmp_path, columns=asked)
    assert further(dataset) == [Column("tags", "text", several=True), Column("brand", "text")]
    assert column(dataset, "brand") == {"1": "Acme", "2": None}
    assert column(dataset, "tags") == {"1": ["x", "y"], "2": None}
    assert column(dataset, "title") == {"1": "a, b", "2": "c"}
    assert notes(dataset)["unread_column"].examples == ("size",)


@pytest.mark.parametrize(
    ("files", "columns", "message", "hint"),
    [
        ({"photo/1.jpg": b"x"}, {"photos": "image"}, "no folder or archive 'photos'", "'photo'"),
        ({"1.jpg": b"x"}, {"brand": "text"}, "There is no titles.csv", "item_id,title,brand"),
        ({"titles.csv": "item,title,brands\n1,a,b\n"}, {"brand": "text"}, "no column 'brand'", "'brands'"),
        ({"titles.csv": "1,a\n"}, {"brand": "text"}, "has no header", "item_id,title,brand"),
        (
            {"titles.csv": "item,title,x\n1,a,b\n"},
            {},
            "3 columns instead of 2, id and title",
            r"\[dataset.columns\]",
        ),
    ],
)
def test_a_folder_says_what_it_lacks(tmp_path: Path, files, columns, message, hint):
    with pytest.raises(DatasetError, match=message) as refused:
        datasets.load("folder", put(tmp_path, files), columns=columns)
    assert re.search(hint, refused.value.hint)


def test_an_adapter_that_takes_no_columns_names_those_that_do(tmp_path: Path):
    with pytest.raises(DatasetError, match="'sample' takes no further columns: photos") as refused:
        datasets.load("sample", columns={"photos": "image"})
    assert refused.value.hint == "These do: folder, huggingface, table."
    assert "columns" not in registry.options_of("table")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"photos": "picture"},
            "photos[.a-z]*: takes 'text', 'image', 'video', 'audio' or 'number', not 'picture'",
        ),
        ({"cover": "image"}, "'cover' is a column of every catalog and holds image"),
        ({"two words": "text"}, "'two words' cannot be the name of a column"),
        ({"item_id": "text"}, "'item_id' cannot be the name of a column"),
        ({"photos": {"modality": "image", "form": "x"}}, "photos.form: "),
    ],
)
def test_columns_that_cannot_be_are_refused_in_a_call_and_in_a_job(tmp_path: Path, columns, message):
    put(tmp_path, {"a.csv": "id\n1\n"})
    with pytest.raises(DatasetError, match=message):
        datasets.load("table", tmp_path / "a.csv", columns=columns)
    job = {
        "store": {"uri": "s"},
        "dataset": {"name": "table", "columns": columns},
        "features": {"x": {"source": "title", "encoder": "open_clip"}},
    }
    with pytest.raises(ConfigError, match=r"dataset\.columns"):
        parse_job(job, "job.toml")


def test_a_jobs_columns_come_back_as_they_were_written():
    columns = {"photos": "image", "brand": {"modality": "text", "from": "Brand Name"}}
    job = {
        "store": {"uri": "s"},
        "dataset": {"name": "table", "columns": columns},
        "features": {"x": {"source": "title", "encoder": "open_clip"}},
    }
    assert parse_job(job, "j").dataset.model_dump(mode="json")["columns"] == columns
    job["dataset"] = {"name": "table", "options": {"columns": "photos"}}
    with pytest.raises(ConfigError, match=r"a table of their own, \[dataset.columns\]"):
        parse_job(job, "j")


def test_a_check_counts_items_and_files_of_lists(tmp_path: Path):
    put(tmp_path, {"1.jpg": b"same", "2.jpg": b"same", "3.jpg": b"other", "4.jpg": b""})
    lines = [
        '{"id":"a","photos":["1.jpg","3.jpg"]}',
        '{"id":"b","photos":["2.jpg","3.jpg"]}',
        '{"id":"c","photos":["3.jpg","1.jpg"]}',
        '{"id":"d","photos":["1.jpg","4.jpg","no.jpg"]}',
        '{"id":"e","photos":["1.jpg","https://x.org/1.jpg"]}',
        '{"id":"f","tags":["x","y"]}',
        '{"id":"g","tags":["x","y"]}',
    ]
    put(tmp_path, {"a.jsonl": "\n".join(lines)})
    asked = {"photos": "image", "tags": "text"}
    report = datasets.check(datasets.load("table", tmp_path / "a.jsonl", columns=asked))
    assert report.columns == [
        ColumnCount("photos", "image", found=4, missing=2, unreadable=1, duplicates=1, values=11),
        ColumnCount("tags", "text", found=2, missing=5, unreadable=0, duplicates=1, values=4),
    ]
    found = {note.code: note.examples for note in report.notes}
    assert found["same_photos"] == ("a = b",)
    assert (found["empty_file"], found["not_there"]) == (("d #2",), ("d #3",))
    assert found["not_asked"] == ("e #2",)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package with two adapters: one whose module fails, in a way of its own, and one that works."""
    put(
        tmp_path / "package",
        {
            "elsewhere_sets.py": "from mmfeat.datasets import microlens\n\n\ndef load(root):\n"
            '    """Elsewhere\'s own."""\n    return microlens.load(root)\n',
            "broken_sets.py": "raise RuntimeError('no such device')\n",
            "elsewhere-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n",
            "elsewhere-1.0.dist-info/entry_points.txt": f"[{registry.ENTRY_POINT_GROUP}]\n"
            "elsewhere = elsewhere_sets:load\nbroken = broken_sets:load\ntable = broken_sets:load\n",
        },
    )
    monkeypatch.syspath_prepend(str(tmp_path / "package"))


def test_a_broken_package_is_listed_with_its_error_and_hides_no_other(plugin, tmp_path: Path):
    listed = datasets.names()
    assert listed["elsewhere"] == "Elsewhere's own."
    assert "no such device" in listed["broken"]
    assert listed["table"].startswith("A table of items")
    with pytest.raises(DatasetError, match="no such device"):
        datasets.load("broken", tmp_path)
    with pytest.raises(DatasetError, match="there is no dataset adapter 'tabel'") as refused:
        datasets.load("tabel", tmp_path)
    assert refused.value.hint.startswith("Did you mean 'table'")

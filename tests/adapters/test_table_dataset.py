"""Any table: every file type gives the same catalog, and what a stranger's table must not do is refused."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.dataset_files import column, media, notes, put
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmfeat import datasets
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.errors import DatasetError

ROWS = [
    {"item_id": "007", "title": "Cats, dogs", "image": "img/007.jpg", "video": "https://x.org/7.mp4"},
    {"item_id": "7", "title": 'He said "wow"\nand left', "image": "", "video": "s3://bucket/7.mp4"},
    {"item_id": "a.b é", "title": "  ", "image": "a.b é.png", "video": ""},
]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    """The rows as the kind of table that the extension names."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix in (".jsonl", ".ndjson"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        pa_rows = pa.Table.from_pylist(rows).to_pandas()
        pa_rows.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",", index=False)
    return path


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "ndjson", "parquet"])
def test_every_file_type_gives_the_same_catalog(tmp_path: Path, extension: str):
    dataset = datasets.load("table", write(tmp_path / f"items.{extension}", ROWS))
    assert dataset.items.schema == CATALOG_SCHEMA
    assert column(dataset, "title") == {"007": "Cats, dogs", "7": 'He said "wow"\nand left', "a.b é": None}
    assert media(dataset, "cover") == {
        "007": str(tmp_path / "img/007.jpg"),
        "a.b é": str(tmp_path / "a.b é.png"),
    }
    assert media(dataset, "video") == {"007": "https://x.org/7.mp4", "7": "s3://bucket/7.mp4"}
    assert [(n.code, n.examples) for n in dataset.notes] == [
        ("columns", ("id from item_id", "title from title", "cover from image", "video from video"))
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(data=st.data(), extension=st.sampled_from(["csv", "tsv", "jsonl", "parquet"]))
def test_any_ids_and_titles_come_back_as_written(tmp_path: Path, data: st.DataObject, extension: str):
    # Not carriage returns: pandas, which writes the CSV here, leaves them unquoted.
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1, max_size=20)
    texts = text.filter(lambda t: not t.isspace())
    rows = data.draw(st.dictionaries(texts, texts, min_size=1, max_size=6))
    path = tmp_path / f"items.{extension}"
    write(path, [{"id": i, "title": title} for i, title in rows.items()])
    assert column(datasets.load("table", path), "title") == rows


def test_whole_numbers_become_ids_in_decimal(tmp_path: Path):
    rows = [{"id": 2**60 + 1, "title": 1984}, {"id": 5, "title": None}]
    for name in ("a.jsonl", "a.parquet"):
        dataset = datasets.load("table", write(tmp_path / name, rows))
        assert column(dataset, "title") == {"1152921504606846977": "1984", "5": None}


def test_categories_of_parquet_are_read_as_their_texts(tmp_path: Path):
    table = pa.table(
        {"id": pa.array(["b", "a"]).dictionary_encode(), "title": pa.array(["x", None]).dictionary_encode()}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert column(datasets.load("table", tmp_path / "a.parquet"), "title") == {"b": "x", "a": None}


def test_keys_that_json_lines_lack_are_no_value(tmp_path: Path):
    put(tmp_path, {"a.jsonl": '\ufeff{"id":"1"}\n\n{"id":"2","title":"x\u2028y"}\n{"id":"3"}\n'})
    assert column(datasets.load("table", tmp_path / "a.jsonl"), "title") == {
        "1": None,
        "2": "x\u2028y",
        "3": None,
    }


def test_columns_are_named_by_options(tmp_path: Path):
    put(tmp_path, {"a.csv": "sku,id,Name,thumb\n1,x,Cat,t.jpg\n2,x,Dog,\n"})
    dataset = datasets.load("table", tmp_path / "a.csv", id="sku", description="Name", cover="thumb")
    assert column(dataset, "description") == {"1": "Cat", "2": "Dog"}
    # The usual names still serve what was not named.
    assert column(dataset, "title") == {"1": "Cat", "2": "Dog"}
    assert media(dataset, "cover") == {"1": str(tmp_path / "t.jpg")}


def test_paths_that_lead_out_of_the_tables_folder_are_refused_and_the_row_is_kept(tmp_path: Path):
    root = put(tmp_path / "root", {"in/1.jpg": b"x"})
    put(tmp_path, {"out.jpg": b"x"})
    (root / "link.jpg").symlink_to(tmp_path / "out.jpg")
    (root / "folder").symlink_to(tmp_path)
    (root / "inner.jpg").symlink_to(root / "in" / "1.jpg")
    bad = [
        "../out.jpg",
        "/etc/passwd",
        "link.jpg",
        "folder/out.jpg",
        "in/../../out.jpg",
        "in/..",
        "..",
        "a\0b",
        "/dev/zero",
    ]
    good = ["in/1.jpg", "in/../in/1.jpg", "inner.jpg", str(root / "in/1.jpg"), "not/there.jpg"]
    rows = [{"id": str(n), "image": place} for n, place in enumerate(good + bad)]
    dataset = datasets.load("table", write(root / "a.jsonl", rows))
    assert len(dataset.items) == len(rows)
    assert list(media(dataset, "cover").values()) == [str(root / place) for place in good]
    refused = notes(dataset)["outside_root"]
    assert (refused.level, refused.count) == ("error", len(bad))


def test_urls_of_other_kinds_are_refused(tmp_path: Path):
    places = ["file:///etc/passwd", "zip://a::/etc/b.zip", "FTP://x/y", "HTTPS://x/y", "gs://b/k", "az://b/k"]
    rows = [{"id": str(n), "video": place} for n, place in enumerate(places)]
    dataset = datasets.load("table", write(tmp_path / "a.jsonl", rows))
    assert list(media(dataset, "video").values()) == places[3:]
    assert notes(dataset)["unknown_scheme"].examples == tuple(places[:3])


def test_media_root_is_where_paths_start_and_what_they_must_not_leave(tmp_path: Path):
    elsewhere = put(tmp_path / "media", {"1.jpg": b"x"})
    put(tmp_path / "tables", {"a.csv": f"id,image\n1,1.jpg\n2,{elsewhere}/1.jpg\n3,../tables/a.csv\n"})
    dataset = datasets.load("table", tmp_path / "tables" / "a.csv", media_root=str(elsewhere))
    assert media(dataset, "cover") == dict.fromkeys("12", str(elsewhere / "1.jpg"))
    anywhere = datasets.load("table", tmp_path / "tables" / "a.csv", media_root="/")
    assert media(anywhere, "cover")["2"] == str(elsewhere / "1.jpg")
    with pytest.raises(DatasetError, match="media_root no is not a folder"):
        datasets.load("table", tmp_path / "tables" / "a.csv", media_root="no")


def test_rows_that_repeat_another_are_taken_once_and_counted(tmp_path: Path):
    put(tmp_path, {"a.csv": "id,title,other\n2,b,1\n1,a,2\n2,b,3\n"})
    dataset = datasets.load("table", tmp_path / "a.csv")
    assert column(dataset, "title") == {"2": "b", "1": "a"}
    assert notes(dataset)["repeated_row"].examples == ("2",)


def test_a_column_that_only_happens_to_have_a_usual_name_is_left_out_with_a_note(tmp_path: Path):
    rows = [{"id": "1", "title": "a", "image": {"bytes": "x"}}]
    for name in ("a.jsonl", "a.parquet"):
        dataset = datasets.load("table", write(tmp_path / name, rows))
        assert (column(dataset, "title"), media(dataset, "cover")) == ({"1": "a"}, {})
        assert notes(dataset)["unusable_column"].level == "warning"
        with pytest.raises(DatasetError, match="'image' cannot be the cover"):
            datasets.load("table", tmp_path / name, cover="image")


def test_halves_of_characters_are_replaced_and_noted(tmp_path: Path):
    put(
        tmp_path, {"a.jsonl": '{"id":"1","title":"cut \\ud83d"}\n{"id":"2","title":"whole \\ud83d\\ude00"}\n'}
    )
    dataset = datasets.load("table", tmp_path / "a.jsonl")
    assert column(dataset, "title") == {"1": "cut \ufffd", "2": "whole 😀"}
    assert notes(dataset)["broken_text"].examples == ("title, row 1",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", "x", r"not a kind of table .*"),
        ("a.csv", "name,title\n1,a\n", r"no column of item ids; its columns are: name, title"),
        ("a.csv", "", "is empty"),
        ("a.csv", "id,id\n1,2\n", "several columns of one name"),
        ("a.csv", "id,title\n1,a,b\n", r"line 2: it has 3 columns instead of 2"),
        ("a.csv", 'id,title\n1,a\n2,"b\n3,"c"\n', r"line 3: "),
        ("a.csv", "id,title\n1,a\n,b\n , c\n", r"2 rows have no id: row 2, row 3"),
        ("a.csv", "id,title\n1,a\n1,b\n2,c\n2,d\n", r"rows of one id differ: 1, 2"),
        ("a.csv", "id,title\n1,\udcff\n".encode("utf-8", "surrogateescape"), r"not UTF-8: line 2"),
        ("a.jsonl", '{"id":"1"}\n{"id":\n', r"line 2: "),
        ("a.jsonl", "[1]\n", r"line 1: it is not a JSON object"),
        ("a.jsonl", "[" * 100_000, r"line 1: "),
        ("a.jsonl", '{"id":1.5}\n', r"'id' cannot be the id: row 1 holds 1.5"),
        ("a.jsonl", '{"id":true}\n', r"row 1 holds true"),
        ("a.jsonl", '{"id":null}\n', r"1 rows have no id"),
        ("a.parquet", "x", r"not a Parquet file"),
    ],
)
def test_what_is_no_table_of_items_is_refused_by_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
):
    with pytest.raises(DatasetError, match=message):
        datasets.load("table", put(tmp_path, {name: content}) / name)


def test_parquet_ids_that_are_fractions_are_refused(tmp_path: Path):
    with pytest.raises(DatasetError, match="of type double"):
        datasets.load("table", write(tmp_path / "a.parquet", [{"id": 1.0}, {"id": None}]))


def test_a_named_column_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path):
    put(tmp_path, {"a.csv": "id,title\n1,a\n"})
    with pytest.raises(DatasetError, match="no column 'cap' for title") as refused:
        datasets.load("table", tmp_path / "a.csv", title="cap")
    assert refused.value.hint == "It has: id, title."
    with pytest.raises(DatasetError, match="does not take these options"):
        datasets.load("table", tmp_path / "a.csv", titel="title")
    with pytest.raises(DatasetError, match="is not a file"):
        datasets.load("table", tmp_path)
    with pytest.raises(DatasetError, match="needs a root"):
        datasets.load("table")

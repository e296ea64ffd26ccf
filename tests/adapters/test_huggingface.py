"""Hugging Face datasets on disk: saved ones and Parquet shards, their splits, and media in their cells."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.dataset_files import column, media, notes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmfeat import datasets
from mmfeat.datasets import ColumnCount
from mmfeat.extract.media.read import read_media, size_of_stamp, stamp_of
from mmfeat.schemas.catalog import Column, columns_of, split_cell_location
from mmfeat.schemas.errors import DatasetError, ItemError

MEDIA = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(data: bytes | None, path: str | None = None) -> dict | None:
    return {"bytes": data, "path": path}


def rows(*ids: str) -> pa.Table:
    """Items with a picture, a sound, a price and tags each."""
    return pa.table(
        {
            "id": list(ids),
            "title": [f"title {i}" for i in ids],
            "image": pa.array([picture(f"picture {i}".encode()) for i in ids], MEDIA),
            "audio": pa.array([picture(f"sound {i}".encode()) for i in ids], MEDIA),
            "photos": pa.array([[picture(f"{i}-{n}".encode()) for n in "01"] for i in ids], pa.list_(MEDIA)),
            "price": pa.array([1.5] * len(ids), pa.float32()),
            "tags": [["x", "y"]] * len(ids),
        }
    )


def save(folder: Path, *shards: pa.Table, **state: object) -> Path:
    """As ``Dataset.save_to_disk`` writes a dataset."""
    folder.mkdir(parents=True)
    names = [f"data-{n:05}-of-{len(shards):05}.arrow" for n in range(len(shards))]
    for name, table in zip(names, shards, strict=True):
        with pa.ipc.new_stream(str(folder / name), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": n} for n in names]} | state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def shards(folder: Path, split: str, *tables: pa.Table) -> Path:
    """As ``push_to_hub`` writes a split."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, table in enumerate(tables):
        pq.write_table(table, folder / f"{split}-{n:05}-of-{len(tables):05}.parquet")
    return folder


def make(tmp_path: Path, kind: str, *tables: pa.Table) -> Path:
    return save(tmp_path / "d", *tables) if kind == "arrow" else shards(tmp_path / "d/data", "train", *tables)


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_all_shards_are_one_dataset_with_its_media_in_their_cells(tmp_path: Path, kind: str):
    make(tmp_path, kind, rows("a", "b", "c"), rows("d"))
    asked = {"photos": "image", "price": "number", "tags": "text"}
    dataset = datasets.load("huggingface", tmp_path / "d", columns=asked)
    assert dataset.name == "huggingface"
    assert column(dataset, "title") == {i: f"title {i}" for i in "abcd"}
    assert list(columns_of(dataset.items.schema).values())[-3:] == [
        Column("photos", "image", several=True),
        Column("price", "number"),
        Column("tags", "text", several=True),
    ]
    assert column(dataset, "price")["d"] == 1.5
    assert column(dataset, "tags")["c"] == ["x", "y"]
    for name, said in (("cover", "picture"), ("audio", "sound")):
        for item_id, place in media(dataset, name).items():
            read = read_media(place, 1000)
            assert read.data == f"{said} {item_id}".encode()
            assert read.content_hash == hashlib.sha256(read.data).hexdigest()
            assert (read.stamp, size_of_stamp(read.stamp)) == (stamp_of(place), None)
    assert [read_media(place, 10).data for place in media(dataset, "photos")["d"]] == [b"d-0", b"d-1"]
    assert datasets.check(dataset).columns[1] == ColumnCount("cover", "image", 4, 0, 0, 0, 4)
    assert set(notes(dataset)) == {"columns"}


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_splits_are_joined_or_chosen_and_a_row_of_both_is_taken_once(tmp_path: Path, kind: str):
    root = tmp_path / "d"
    first, second = (rows(*ids).select(["id", "title"]) for ids in ("ab", "bc"))
    if kind == "arrow":
        save(root / "train", first)
        save(root / "test", second)
        (root / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    else:
        shards(root / "data", "train", first)
        shards(root / "data", "test", second)
    whole = datasets.load("huggingface", root)
    assert sorted(whole.items["item_id"].to_pylist()) == ["a", "b", "c"]
    assert notes(whole)["repeated_row"].count == 1
    assert datasets.load("huggingface", root, split="test").items["item_id"].to_pylist() == ["b", "c"]
    with pytest.raises(DatasetError, match="no split 'dev'") as refused:
        datasets.load("huggingface", root, split="dev")
    assert "train" in refused.value.hint


def test_a_folder_of_each_split_and_one_parquet_file_are_read_too(tmp_path: Path):
    for split in ("train", "test"):
        (tmp_path / "d" / split).mkdir(parents=True)
        pq.write_table(rows(split), tmp_path / "d" / split / "0000.parquet")
    assert datasets.load("huggingface", tmp_path / "d", split="test").items["item_id"].to_pylist() == ["test"]
    one = datasets.load("huggingface", tmp_path / "d/train/0000.parquet")
    assert one.items["item_id"].to_pylist() == ["train"]


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_a_cell_without_bytes_names_a_file_below_the_root(tmp_path: Path, kind: str):
    cells = [picture(None, p) for p in ("1.jpg", "../2.jpg", "arrow://0/image::/x.arrow", None)] + [None]
    table = pa.table({"id": list("abcde"), "image": pa.array(cells, MEDIA)})
    dataset = datasets.load("huggingface", make(tmp_path, kind, table))
    assert list(media(dataset, "cover")) == ["a"]
    assert (notes(dataset)["outside_root"].count, notes(dataset)["unknown_scheme"].count) == (1, 1)


def test_a_shard_that_is_not_there_is_named_and_nothing_is_read(tmp_path: Path):
    shards(tmp_path / "d", "train", rows("a"), rows("b"), rows("c"))
    (tmp_path / "d/train-00001-of-00003.parquet").unlink()
    with pytest.raises(DatasetError, match="'train' 1 of 3 files are not there, among them number 00001"):
        datasets.load("huggingface", tmp_path / "d")
    folder = save(tmp_path / "saved", rows("a"), rows("b"))
    (folder / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DatasetError, match=r"There is no .*data-00001-of-00002\.arrow"):
        datasets.load("huggingface", folder)


@pytest.mark.parametrize("name", ["../out.arrow", "/etc/passwd", "state.json", ""])
def test_a_state_that_names_files_elsewhere_is_refused(tmp_path: Path, name: str):
    save(tmp_path / "out", rows("a"))
    (tmp_path / "out/data-00000-of-00001.arrow").rename(tmp_path / "out.arrow")
    folder = save(tmp_path / "d", rows("a"), _data_files=[{"filename": name}])
    with pytest.raises(DatasetError, match=r"refused|does not list"):
        datasets.load("huggingface", folder)


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"[]",
        b'{"_data_files": 3}',
        b'{"_data_files": []}',
        b'{"_data_files": [{"filename": 3}]}',
        b"\xff",
    ],
)
def test_a_broken_state_is_an_error_that_names_it(tmp_path: Path, state: bytes):
    folder = save(tmp_path / "d", rows("a"))
    (folder / "state.json").write_bytes(state)
    with pytest.raises(DatasetError, match=r"state\.json"):
        datasets.load("huggingface", folder)


def test_splits_of_other_columns_and_an_index_of_rows_are_refused_with_the_remedy(tmp_path: Path):
    shards(tmp_path / "d", "train", rows("a"))
    shards(tmp_path / "d", "test", rows("b").drop_columns(["title"]))
    with pytest.raises(DatasetError, match="not the same columns: some lack title") as refused:
        datasets.load("huggingface", tmp_path / "d")
    assert "--option split=" in refused.value.hint
    folder = save(tmp_path / "old", rows("a"), _indices_data_files=[{"filename": "indices.arrow"}])
    with pytest.raises(DatasetError, match="with an index of its rows"):
        datasets.load("huggingface", folder)
    (tmp_path / "none").mkdir()
    (tmp_path / "none/a.txt").write_text("x")
    with pytest.raises(DatasetError, match="no Hugging Face dataset"):
        datasets.load("huggingface", tmp_path / "none")


def test_an_arrow_file_that_was_cut_is_an_error_where_it_is_read_and_costs_items_later(tmp_path: Path):
    folder = save(tmp_path / "d", rows("a", "b", "c"))
    place = media(datasets.load("huggingface", folder), "cover")["c"]
    file = folder / "data-00000-of-00001.arrow"
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError, match="damaged"):
        datasets.load("huggingface", folder)
    with pytest.raises(ItemError, match="cannot read the cell"):
        read_media(place, 1000)
    file.unlink()
    with pytest.raises(ItemError, match="there is no table"):
        read_media(place, 1000)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    cells=st.lists(
        st.one_of(
            st.none(),
            st.builds(
                picture, st.one_of(st.none(), st.binary(max_size=9)), st.sampled_from([None, "", "x.jpg"])
            ),
        ),
        min_size=1,
        max_size=9,
    ),
    several=st.booleans(),
    kind=st.sampled_from(["arrow", "parquet"]),
)
def test_what_is_in_a_cell_comes_back_whatever_its_neighbours_hold(tmp_path_factory, cells, several, kind):
    ids = [str(n) for n in range(len(cells))]
    values = [[cell, cell] for cell in cells] if several else cells
    table = pa.table({"id": ids, "p": pa.array(values, pa.list_(MEDIA) if several else MEDIA)})
    root = make(tmp_path_factory.mktemp("hf"), kind, table.slice(0, 4), table.slice(4))
    found = column(datasets.load("huggingface", root, columns={"p": "image"}), "p")
    for item_id, cell in zip(ids, cells, strict=True):
        places = found[item_id] if isinstance(found[item_id], list) else [found[item_id]]
        for place in places:
            if cell is None or (cell["bytes"] is None and not cell["path"]):
                assert place is None
            elif cell["bytes"] is None:
                assert place.endswith("/x.jpg")
            elif cell["bytes"] == b"":
                with pytest.raises(ItemError, match="empty"):
                    read_media(place, 100)
            else:
                assert split_cell_location(place).table.endswith(kind)
                assert read_media(place, 100).data == cell["bytes"]


def labelled(said: object, *numbers: int | None) -> pa.Table:
    """A column of classes with what ``datasets`` says of its columns beside it."""
    table = pa.table({"id": [str(n) for n in range(len(numbers))], "kind": pa.array(numbers, pa.int64())})
    return table.replace_schema_metadata({"huggingface": json.dumps(said)})


@pytest.mark.parametrize("file", ["arrow", "parquet"])
def test_classes_are_read_by_their_names_and_as_numbers_by_their_numbers(tmp_path: Path, file: str):
    said = {"info": {"features": {"kind": {"names": ["shoe", "lamp"], "_type": "ClassLabel"}, "id": {}}}}
    root = make(tmp_path, file, labelled(said, 1, 0, -1, None, 7))
    dataset = datasets.load("huggingface", root, fields="all")
    assert list(column(dataset, "kind").values()) == ["lamp", "shoe", None, None, None]
    assert notes(dataset)["unusable_cell"].examples == ("4: its kind holds the class 7, and 2 have a name",)
    numbers = datasets.load("huggingface", root, columns={"kind": "number"})
    assert list(column(numbers, "kind").values()) == [1, 0, -1, None, 7]


@pytest.mark.parametrize(
    "said",
    [
        [],
        {"info": None},
        {"info": {"features": {"kind": 3}}},
        {"info": {"features": {"kind": {"names": 3, "_type": "ClassLabel"}}}},
        {"info": {"features": {"other": {"names": ["x"], "_type": "ClassLabel"}}}},
    ],
)
def test_what_says_nothing_of_classes_leaves_numbers_as_they_are(tmp_path: Path, said: object):
    root = make(tmp_path, "parquet", labelled(said, 1, 0))
    dataset = datasets.load("huggingface", root, columns={"kind": "text"})
    assert list(column(dataset, "kind").values()) == ["1", "0"]


def test_a_snapshot_in_the_hubs_cache_is_links_into_its_blobs_and_others_are_refused(tmp_path: Path):
    snapshot = tmp_path / "datasets--shop" / "snapshots" / "rev"
    blobs = tmp_path / "datasets--shop" / "blobs"
    shards(blobs, "x", rows("a"))
    (blobs / "x-00000-of-00001.parquet").rename(blobs / "8f3a")
    snapshot.mkdir(parents=True)
    (snapshot / "train-00000-of-00001.parquet").symlink_to("../../blobs/8f3a")
    place = media(datasets.load("huggingface", snapshot), "cover")["a"]
    assert read_media(place, 100).data == b"picture a"
    shards(tmp_path / "out", "x", rows("a"))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "test.parquet").symlink_to(tmp_path / "out" / "x-00000-of-00001.parquet")
    with pytest.raises(DatasetError, match=r"test\.parquet leads out of"):
        datasets.load("huggingface", tmp_path / "d")


def test_a_file_of_interactions_may_lie_beside_the_shards_and_is_none_of_them(tmp_path):
    shards(tmp_path / "data", "train", pa.table({"id": ["007", "1e5"], "title": ["a", "b"]}))
    clicks = tmp_path / "clicks.parquet"
    pq.write_table(pa.table({"user": ["u", "u"], "item": ["1e5", "x"], "time": [1, 2]}), clicks)
    found = datasets.load("huggingface", tmp_path, interactions=str(clicks))
    assert column(found, "title") == {"007": "a", "1e5": "b"}
    assert found.interactions["item_id"].to_pylist() == ["1e5", "x"]
    assert notes(found)["unknown_items"].count == 1

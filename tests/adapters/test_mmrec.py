"""An MMRec folder comes back with the raw ids of its maps, in the order of its features' rows."""

from pathlib import Path

import numpy as np
import pytest

from mmfeat.datasets import load
from mmfeat.schemas.errors import DatasetError

# itemIDs are not in the file's order, and one raw id has leading zeros.
ITEMS = "asin\titemID\nB00\t2\n0000031852\t0\nB-1.5\t1\n"
USERS = "user_id\tuserID\nA9\t0\n007\t1\n"
INTER = (
    "userID\titemID\trating\ttimestamp\tx_label\n"
    "1\t0\t5.0\t1328140800\t0\n0\t2\t4.0\t1330387200\t1\n0\t0\t4.0\t1328400000\t2\n"
)


@pytest.fixture
def folder(tmp_path) -> Path:
    found = tmp_path / "baby"
    found.mkdir()
    (found / "i_id_mapping.csv").write_text(ITEMS)
    (found / "u_id_mapping.csv").write_text(USERS)
    (found / "baby.inter").write_text(INTER)
    return found


def log(dataset) -> list[tuple]:
    return [tuple(row.values())[:3] for row in dataset.interactions.to_pylist()]


def notes(dataset) -> dict[str, tuple[int, str]]:
    return {note.code: (note.count, note.message) for note in dataset.notes}


def refused(folder: Path, **options: object) -> DatasetError:
    with pytest.raises(DatasetError) as error:
        load("mmrec", folder, **options)
    assert error.value.hint
    return error.value


def test_the_catalog_is_in_the_order_of_item_id_and_interactions_have_raw_ids(folder):
    np.save(folder / "image_feat.npy", np.zeros((3, 4), np.float32))
    found = load("mmrec", folder)
    assert found.items["item_id"].to_pylist() == ["0000031852", "B-1.5", "B00"]
    assert log(found) == [
        ("007", "0000031852", 1328140800000),
        ("A9", "B00", 1330387200000),
        ("A9", "0000031852", 1328400000000),
    ]
    assert found.interactions["rating"].to_pylist() == [5.0, 4.0, 4.0]
    assert set(notes(found)) == {"no_split", "idle_item", "no_media", "not_read"}
    assert notes(found)["idle_item"][0] == 1


def test_the_fields_of_the_other_dataset_come_with_it(folder, tmp_path):
    meta = tmp_path / "meta_Baby.json"
    meta.write_text(repr({"asin": "B00", "categories": [["Baby"]], "brand": "Acme", "price": 3}) + "\n")
    found = load("mmrec", folder, items=meta).items
    assert found.select(["brand", "categories", "price"]).to_pylist() == [
        {"brand": None, "categories": None, "price": None},
        {"brand": None, "categories": None, "price": None},
        {"brand": "Acme", "categories": ["Baby"], "price": 3},
    ]


def test_titles_and_covers_come_from_a_table_by_raw_id(folder, tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"x")
    table = tmp_path / "meta.csv"
    table.write_text("asin,title,image\nZZZ,not here,\nB00,Third,1.jpg\n0000031852,First,\n")
    found = load("mmrec", folder, items=table, items_dataset="table")
    assert found.items["item_id"].to_pylist() == ["0000031852", "B-1.5", "B00"]
    assert found.items["title"].to_pylist() == ["First", None, "Third"]
    assert found.items["cover"].to_pylist() == [None, None, str(tmp_path / "1.jpg")]
    assert notes(found)["matched_items"] == (2, f"of 3 items are in {table}; they have title: 2, cover: 1")
    assert notes(found)["unmatched_items"][0] == 1


def test_media_come_from_amazon_and_from_a_folder_too(folder, tmp_path):
    meta = tmp_path / "meta_Baby.json"
    meta.write_text(
        "{'asin': '0000031852', 'title': 'Tutu', 'categories': [], 'imUrl': 'http://a.com/1.jpg'}\n"
    )
    found = load("mmrec", folder, items=str(meta))
    assert found.items["cover"].to_pylist() == ["http://a.com/1.jpg", None, None]
    assert found.items["title"].to_pylist() == ["Tutu", None, None]
    covers = tmp_path / "covers"
    covers.mkdir()
    (covers / "B-1.5.png").write_bytes(b"x")
    found = load("mmrec", folder, items=str(covers), items_dataset="folder")
    assert found.items["cover"].to_pylist() == [None, str(covers / "B-1.5.png"), None]


def test_a_dataset_without_a_single_item_of_the_benchmark_is_refused(folder, tmp_path):
    table = tmp_path / "other.csv"
    table.write_text("asin,title\n31852,no leading zeros\n")
    error = refused(folder, items=table, items_dataset="table")
    assert "None of the 3 items" in error.message
    assert "0000031852, B-1.5, B00" in error.message and "31852" in error.message


def test_users_keep_their_numbers_without_a_map_and_times_may_be_absent(folder):
    (folder / "u_id_mapping.csv").unlink()
    (folder / "baby.inter").write_text("userID\titemID\tx_label\n1\t2\t0\n")
    found = load("mmrec", folder)
    assert log(found) == [("1", "B00", None)]
    assert {"no_user_map", "no_timestamp"} <= set(notes(found))


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("asin\titemID\na\t1\nb\t2\n", "are not 0 to 1: without 0; instead 2"),
        ("asin\titemID\na\t0\nb\t0\n", "names some ids more than once: 0"),
        ("asin\titemID\na\t0\nb\t1.0\n", r"without 1; instead 1\.0"),
        ("asin\titemID\na\t0\na\t1\n", "names some ids more than once: a"),
        ("asin,itemID\na,0\n", "no column itemID"),
        ("asin\titemID\n", "no column itemID, or no ids"),
        ("asin\titemID\na\n", "line 2: it has 1 columns instead of 2"),
    ],
)
def test_a_map_that_does_not_number_items_from_0_is_refused(folder, mapping, message):
    (folder / "i_id_mapping.csv").write_text(mapping)
    with pytest.raises(DatasetError, match=message) as error:
        load("mmrec", folder)
    assert error.value.hint


def test_interactions_and_features_that_belong_to_another_map_are_refused(folder):
    (folder / "baby.inter").write_text(INTER + "0\t3\t4.0\t1328400000\t2\n")
    assert "numbers that i_id_mapping.csv does not: 3" in refused(folder).message
    (folder / "baby.inter").write_text(INTER + "5\t1\t4.0\t1328400000\t2\n")
    assert "numbers that u_id_mapping.csv does not: 5" in refused(folder).message
    (folder / "baby.inter").write_text(INTER)
    np.save(folder / "text_feat.npy", np.zeros((4, 2), np.float32))
    assert "text_feat.npy has 4 rows and i_id_mapping.csv 3 items" in refused(folder).message


def test_a_folder_without_its_parts_is_refused(folder, tmp_path):
    (folder / "other.inter").write_text(INTER)
    assert "it holds: baby.inter, other.inter" in refused(folder).message
    (folder / "i_id_mapping.csv").unlink()
    assert "There is no i_id_mapping.csv" in refused(folder).message
    (folder / "baby.inter").rename(tmp_path / "baby.inter")
    (folder / "other.inter").unlink()
    (folder / "i_id_mapping.csv").write_text(ITEMS)
    assert "it holds: none" in refused(folder).message

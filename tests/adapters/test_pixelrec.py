"""PixelRec: files of the same name told apart by their header, covers shared by all sizes."""

import zipfile
from pathlib import Path

import pytest

from mmfeat.datasets import load
from mmfeat.schemas.errors import DatasetError

LOG = "item_id,user_id,timestamp\ni2,u1,1588687728\ni10,u1,1588687729\ni2,,1588687730\n"
INFO = (
    "item_id,view_number,title,tag,description\n"
    'i10,5,"海, ""大"" 海",travel,"one\ntwo"\ni2,7,,food,\ni7,7,of another size,food,x\ni10,5,again,travel,\n'
)


@pytest.fixture
def folder(tmp_path) -> Path:
    found = tmp_path / "PixelRec"
    for name in ("dataset", "information", "cover"):
        (found / name).mkdir(parents=True)
    (found / "dataset" / "Pixel200K.csv").write_text(LOG)
    (found / "information" / "Pixel200K.csv").write_text(INFO)
    for item_id in ("i10", "i9"):
        (found / "cover" / f"{item_id}.jpg").write_bytes(b"x")
    return found


def rows(dataset, *columns: str) -> list[tuple]:
    return list(zip(*(dataset.items[c].to_pylist() for c in columns), strict=True))


def codes(dataset) -> dict[str, int]:
    return {note.code: note.count for note in dataset.notes}


def test_items_are_those_of_the_interactions_with_what_the_other_files_say_of_them(folder):
    found = load("pixelrec", folder)
    assert rows(found, "item_id", "title", "description", "cover") == [
        ("i10", '海, "大" 海', "one\ntwo", str(folder / "cover" / "i10.jpg")),
        ("i2", None, None, None),
    ]
    assert [tuple(row.values())[:3] for row in found.interactions.to_pylist()] == [
        ("u1", "i2", 1588687728000),
        ("u1", "i10", 1588687729000),
    ]
    assert codes(found) == {
        "incomplete_interaction": 1,
        "repeated_item": 1,
        "other_item_information": 1,
        "not_in_covers": 1,
        "other_covers": 1,
    }


def test_tags_and_counts_are_fields_and_what_is_no_count_is_told(folder):
    info = "item_id,view_number,tag,title_en,title\ni10,5,travel,Sea,x\ni2,many,,Food,y\n"
    (folder / "information" / "Pixel200K.csv").write_text(info)
    found = load("pixelrec", folder)
    assert rows(found, "tag", "title_en", "view_number", "title") == [
        ("travel", "Sea", 5, "x"),
        (None, "Food", None, "y"),
    ]
    assert codes(found)["unusable_cell"] == 1
    assert "title_en" not in load("pixelrec", folder, title="title_en").items.column_names


def test_information_or_covers_alone_are_enough_and_covers_may_be_zipped(folder, tmp_path):
    (folder / "dataset" / "Pixel200K.csv").unlink()
    assert load("pixelrec", folder).items["item_id"].to_pylist() == ["i10", "i2", "i7"]
    with zipfile.ZipFile(tmp_path / "cover.zip", "w") as archive:
        archive.writestr("cover/i3.jpg", b"x")
    alone = tmp_path / "alone"
    alone.mkdir()
    (tmp_path / "cover.zip").rename(alone / "cover.zip")
    found = load("pixelrec", alone)
    assert rows(found, "item_id", "cover") == [("i3", f"zip://cover/i3.jpg::{alone / 'cover.zip'}")]
    assert found.interactions is None


def test_one_of_several_sizes_is_chosen_by_its_name(folder):
    (folder / "dataset" / "Pixel1M.csv").write_text("item_id,user_id,timestamp\ni7,u2,1588687728\n")
    with pytest.raises(DatasetError, match="several files of interactions") as error:
        load("pixelrec", folder)
    assert error.value.hint == "Choose by name: --option size=Pixel1M."
    found = load("pixelrec", folder, size="Pixel1M")
    assert rows(found, "item_id", "title") == [("i7", "of another size")]


def test_the_title_column_can_be_named(folder):
    (folder / "information" / "Pixel200K.csv").write_text("item_id,title_en,title\ni2,Sea,海\n")
    assert rows(load("pixelrec", folder, title="title_en"), "item_id", "title") == [
        ("i10", None),
        ("i2", "Sea"),
    ]
    with pytest.raises(DatasetError, match="has no column 'titel'") as error:
        load("pixelrec", folder, title="titel")
    assert error.value.hint == "Name the one that holds the title: --option title=COLUMN."


def test_times_that_are_neither_seconds_nor_milliseconds_are_refused(folder):
    path = folder / "dataset" / "Pixel200K.csv"
    path.write_text("item_id,user_id,timestamp\ni2,u1,1588687728923\n")
    assert load("pixelrec", folder).interactions["timestamp"].to_pylist() == [1588687728923]
    path.write_text("item_id,user_id,timestamp\ni2,u1,1588687728923000000\n")
    with pytest.raises(DatasetError, match="neither in seconds nor in milliseconds") as error:
        load("pixelrec", folder)
    assert error.value.hint
    path.write_text("item_id,user_id,timestamp\ni2,u1,yesterday\n")
    with pytest.raises(DatasetError, match="line 2: its timestamp is 'yesterday', which is no number"):
        load("pixelrec", folder)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(DatasetError, match="nothing of PixelRec") as error:
        load("pixelrec", tmp_path)
    assert error.value.hint

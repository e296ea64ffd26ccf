"""A folder of media: ids are file names without their known extension, and nothing else is cut."""

import os
import zipfile
from pathlib import Path

import pytest
from dataset_files import column, media, notes, put

from mmfeat import datasets
from mmfeat.schemas.errors import DatasetError


def test_one_folder_of_mixed_media_is_sorted_by_extension(tmp_path: Path):
    names = [
        "10.JPG",
        "9.jpg",
        "9.mp4",
        "9.wav",
        "007.png",
        "7.webp",
        "1.5.jpg",
        "a.b.c.mp4",
        "é ü.jpeg",
        "😀.gif",
    ]
    put(tmp_path, {**dict.fromkeys(names, b"x"), "notes.txt": b"x", ".hidden": b"x", "Thumbs.db": b"x"})
    dataset = datasets.load("folder", tmp_path)
    assert dataset.items["item_id"].to_pylist() == ["007", "7", "9", "10", "1.5", "a.b.c", "é ü", "😀"]
    assert media(dataset, "cover") == {
        "10": str(tmp_path / "10.JPG"),
        "9": str(tmp_path / "9.jpg"),
        "007": str(tmp_path / "007.png"),
        "7": str(tmp_path / "7.webp"),
        "1.5": str(tmp_path / "1.5.jpg"),
        "é ü": str(tmp_path / "é ü.jpeg"),
        "😀": str(tmp_path / "😀.gif"),
    }
    assert media(dataset, "video") == {"9": str(tmp_path / "9.mp4"), "a.b.c": str(tmp_path / "a.b.c.mp4")}
    assert media(dataset, "audio") == {"9": str(tmp_path / "9.wav")}
    assert [(n.code, n.examples) for n in dataset.notes] == [("not_read", ("notes.txt",))]


def test_subfolders_and_zips_per_source_and_titles(tmp_path: Path):
    put(
        tmp_path,
        {
            "images/1.jpg": b"x",
            "images/readme.md": b"x",
            "2.mp4": b"x",
            "3.jpg": b"x",
            "other/4.jpg": b"x",
            "titles.csv": 'item_id,title\n1,"a, b"\n5,only a title\n',
        },
    )
    with zipfile.ZipFile(tmp_path / "audio.zip", "w") as target:
        target.writestr("1.mp3", b"x")
    dataset = datasets.load("folder", tmp_path)
    assert column(dataset, "title") == {"1": "a, b", "2": None, "5": "only a title"}
    assert media(dataset, "cover") == {"1": str(tmp_path / "images" / "1.jpg")}
    assert media(dataset, "video") == {"2": str(tmp_path / "2.mp4")}
    assert media(dataset, "audio") == {"1": f"zip://1.mp3::{tmp_path / 'audio.zip'}"}
    found = notes(dataset)
    assert found["not_read"].examples == ("3.jpg", "other")
    assert found["not_media"].examples == ("readme.md",)


def test_several_files_of_one_item_are_pointed_at_and_the_usual_kind_is_taken(tmp_path: Path):
    put(tmp_path, {"1.png": b"x", "1.jpg": b"x", "1.mp4": b"x"})
    dataset = datasets.load("folder", tmp_path)
    assert media(dataset, "cover") == {"1": str(tmp_path / "1.jpg")}
    assert notes(dataset)["media_clash"].examples == ("1: 1.jpg, 1.png",)


def test_links_out_of_the_folder_are_refused_once(tmp_path: Path):
    put(tmp_path, {"secret.jpg": b"x", "root/1.jpg": b"x"})
    (tmp_path / "root" / "2.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "root" / "3.jpg").symlink_to(tmp_path / "root" / "1.jpg")
    dataset = datasets.load("folder", tmp_path / "root")
    assert list(media(dataset, "cover")) == ["1", "3"]
    assert [(n.level, n.code, n.count) for n in dataset.notes] == [("error", "outside_root", 1)]


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path):
    put(tmp_path, {"1.jpg": b"x"})
    (tmp_path / os.fsdecode(b"\xff.jpg")).touch()
    dataset = datasets.load("folder", tmp_path)
    assert list(media(dataset, "cover")) == ["1"]
    assert notes(dataset)["unsafe_name"].level == "error"


@pytest.mark.parametrize("files", [{"a.txt": b"x"}, {"deep/1.jpg": b"x"}, {"covers/a.txt": b"x"}])
def test_a_folder_without_media_is_refused(tmp_path: Path, files: dict[str, bytes]):
    with pytest.raises(DatasetError, match="no media"):
        datasets.load("folder", put(tmp_path, files))

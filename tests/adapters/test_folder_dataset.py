"""A folder of media: ids are file names without their known extension, and nothing else is cut."""

import os
import zipfile
from pathlib import Path

import pytest
from helpers.dataset_files import column, media, notes, put

from mmfeat import datasets
from mmfeat.extract.media.read import read_media
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


def test_media_in_folders_of_any_depth_are_read_by_their_own_name_and_clashes_noted(tmp_path: Path):
    put(
        tmp_path,
        {
            "root/covers/2024/01/x1.png": b"x",
            "root/covers/2024/x2.jpg": b"x",
            "root/covers/x3.jpg": b"x",
            "root/covers/a/x3.jpg": b"y",
            "root/covers/a/__MACOSX/x4.jpg": b"y",
            "root/covers/.trash/x5.jpg": b"y",
            "root/videos/only/deep/x1.mp4": b"x",
            "out/secret.jpg": b"x",
        },
    )
    (tmp_path / "root/covers/a/back").symlink_to(tmp_path / "root/covers")
    (tmp_path / "root/covers/out").symlink_to(tmp_path / "out")
    dataset = datasets.load("folder", tmp_path / "root")
    covers = tmp_path / "root/covers"
    assert media(dataset, "cover") == {
        "x1": str(covers / "2024/01/x1.png"),
        "x2": str(covers / "2024/x2.jpg"),
        "x3": str(covers / "a/x3.jpg"),
    }
    assert media(dataset, "video") == {"x1": str(tmp_path / "root/videos/only/deep/x1.mp4")}
    found = notes(dataset)
    assert found["media_clash"].examples == ("x3: a/x3.jpg, x3.jpg",)
    assert found["outside_root"].examples == ("out",)


def zipped(path: Path, names: list[bytes]) -> Path:
    """An archive whose members' names are these bytes, as programs write them that say no encoding."""
    stand_ins = [letter * len(name) for letter, name in zip("xyz", names, strict=False)]
    with zipfile.ZipFile(path, "w") as target:
        for stand_in, name in zip(stand_ins, names, strict=True):
            info = zipfile.ZipInfo(stand_in)
            info.create_system = 0
            target.writestr(info, name)
    data = path.read_bytes()
    for stand_in, name in zip(stand_ins, names, strict=True):
        data = data.replace(stand_in.encode(), name)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("encoding", ["gbk", "utf-8", "cp932"])
def test_members_named_in_the_machines_own_encoding_belong_to_their_items(tmp_path: Path, encoding: str):
    ids = ["紅茶", "ほうじ茶 1", "番茶"] if encoding == "cp932" else ["红茶", "普洱茶 1", "龙井"]
    names = [f"{ids[0]}.jpg", f"covers\\{ids[1]}.JPG", f"{ids[2]}.png"]
    zipped(tmp_path / "covers.zip", [name.encode(encoding) for name in names])
    put(tmp_path, {"titles.csv": "item,title\n" + "".join(f"{item_id},a\n" for item_id in ids)})
    dataset = datasets.load("folder", tmp_path)
    assert sorted(media(dataset, "cover")) == sorted(ids)
    assert len(dataset.items) == 3
    assert notes(dataset)["name_encoding"].level == ("info" if encoding == "utf-8" else "warning")
    for item_id, place in media(dataset, "cover").items():
        assert read_media(place, 100).data.decode(encoding).startswith((item_id, f"covers\\{item_id}"))
    assert datasets.check(dataset).columns[-1].unreadable == 0


def test_members_named_in_no_encoding_that_shows_are_pointed_at(tmp_path: Path):
    zipped(tmp_path / "covers.zip", ["café 1.jpg".encode("cp437"), "Thér.jpg".encode("cp437")])
    dataset = datasets.load("folder", tmp_path)
    assert sorted(media(dataset, "cover")) == ["Thér", "café 1"]
    note = notes(dataset)["name_encoding"]
    assert (note.level, note.count) == ("warning", 2)


FOLDERS_OF_ITEMS = {
    "names that clash": (["x1/1.jpg", "x1/2.jpg", "x2/1.jpg"], ""),
    "deeper": (["a/x1/front.jpg", "a/x1/back.jpg", "b/x2/front.jpg", "b/x2/back.png"], ""),
    "ids of titles": (["x1/a.jpg", "x1/b.jpg", "x2/c.jpg"], "item,title\nx1,a\nx2,b\n"),
}


@pytest.mark.parametrize("case", FOLDERS_OF_ITEMS)
@pytest.mark.parametrize("where", ["folder", "zip"])
def test_a_folder_per_item_is_refused_and_makes_no_item(tmp_path: Path, case: str, where: str):
    names, titles = FOLDERS_OF_ITEMS[case]
    put(tmp_path, {"titles.csv": titles} if titles else {})
    if where == "zip":
        with zipfile.ZipFile(tmp_path / "covers.zip", "w") as target:
            for name in names:
                target.writestr(name, b"x")
    else:
        put(tmp_path, {f"covers/{name}": b"x" for name in names})
    with pytest.raises(DatasetError, match="cover files seem to lie in a folder per item") as refused:
        datasets.load("folder", tmp_path)
    assert "a table with a column of lists" in str(refused.value.hint)


def test_folders_that_are_no_items_and_share_few_names_are_read_with_a_note(tmp_path: Path):
    names = ["2024/1.jpg", "2024/2.jpg", "2025/1.jpg", "2025/3.jpg", "4.jpg"]
    files = {f"covers/{name}": b"x" for name in names}
    dataset = datasets.load("folder", put(tmp_path, {**files, "titles.csv": "item,title\n1,a\n2024,b\n"}))
    assert sorted(media(dataset, "cover")) == ["1", "2", "3", "4"]
    assert notes(dataset)["media_clash"].count == 1


def test_a_copy_of_each_file_in_a_folder_beside_them_is_no_folder_per_item(tmp_path: Path):
    dataset = datasets.load("folder", put(tmp_path, {"covers/1.jpg": b"x", "covers/small/1.jpg": b"y"}))
    assert media(dataset, "cover") == {"1": str(tmp_path / "covers/1.jpg")}
    assert notes(dataset)["media_clash"].count == 1


UNTOLD = {
    "gbk": ["红茶", "普洱茶 1", "龙井"],
    "rare gbk": ["镕"],
    "cp949": ["가방", "신발"],
    "cp950": ["紅茶葉", "雨傘"],
    "cp932": ["ほうじ茶", "カノ"],
    "cp866": ["Да", "Сумка"],
    "cp852": ["Pawełek"],
}


@pytest.mark.parametrize("kind", UNTOLD)
def test_members_named_in_an_encoding_that_does_not_show_are_refused_and_make_no_item(
    tmp_path: Path, kind: str
):
    ids, encoding = UNTOLD[kind], kind.split()[-1]
    zipped(tmp_path / "covers.zip", [f"{item_id}.jpg".encode(encoding) for item_id in ids])
    refused = r"There are no media in .*\. \d archive members .* refused.*zip_encoding="
    with pytest.raises(DatasetError, match=refused) as alone:
        datasets.load("folder", tmp_path)
    if encoding != "cp852":
        assert f"{ids[0]}.jpg ({encoding})" in alone.value.message
    put(tmp_path, {"titles.csv": "item,title\nplain,a\n"})
    dataset = datasets.load("folder", tmp_path)
    assert dataset.items["item_id"].to_pylist() == ["plain"]
    note = notes(dataset)["name_encoding"]
    assert (note.level, note.count) == ("error", len(ids))


@pytest.mark.parametrize("kind", UNTOLD)
def test_the_encoding_of_members_names_can_be_named_or_is_told_by_the_titles_ids(tmp_path: Path, kind: str):
    ids, encoding = UNTOLD[kind], kind.split()[-1]
    zipped(tmp_path / "covers.zip", [f"{item_id}.jpg".encode(encoding) for item_id in ids])
    named = datasets.load("folder", tmp_path, zip_encoding=encoding)
    assert sorted(media(named, "cover")) == sorted(ids)
    assert "name_encoding" not in notes(named)
    put(tmp_path, {"titles.csv": f"item,title\nplain,a\n{ids[0]},b\n"})
    told = datasets.load("folder", tmp_path)
    assert sorted(media(told, "cover")) == sorted(ids)
    assert notes(told)["name_encoding"].level == "warning"


def test_an_encoding_that_is_none_or_does_not_fit_is_refused(tmp_path: Path):
    zipped(tmp_path / "covers.zip", ["红茶.jpg".encode("gbk"), b"plain.jpg"])
    with pytest.raises(DatasetError, match="'gbkk' is no encoding"):
        datasets.load("folder", tmp_path, zip_encoding="gbkk")
    dataset = datasets.load("folder", tmp_path, zip_encoding="utf-8")
    assert sorted(media(dataset, "cover")) == ["plain"]
    assert notes(dataset)["name_encoding"].level == "error"


def test_the_name_of_a_folder_around_members_needs_no_encoding(tmp_path: Path):
    zipped(tmp_path / "covers.zip", ["封面/1.jpg".encode("gbk"), "封面/2.jpg".encode("gbk")])
    dataset = datasets.load("folder", tmp_path)
    assert sorted(media(dataset, "cover")) == ["1", "2"]
    assert not dataset.notes
    assert datasets.check(dataset).columns[0].unreadable == 0


def test_members_that_say_their_encoding_need_no_note(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "covers.zip", "w") as target:
        target.writestr("红茶.jpg", b"x")
        target.writestr("plain.jpg", b"x")
    dataset = datasets.load("folder", tmp_path)
    assert sorted(media(dataset, "cover")) == ["plain", "红茶"]
    assert "name_encoding" not in notes(dataset)


def test_files_of_every_kind_that_is_known_are_items_and_those_that_are_not_read_too(tmp_path: Path):
    pictures = ["1.avif", "2.jfif", "3.JPE", "4.apng", "5.heic", "6.HEIF", "7.jxl"]
    clips = ["1.3gp", "2.m2ts", "3.MTS", "4.ogv", "5.gif", "6.vob", "7.3g2"]
    files = {f"covers/{name}": b"x" for name in pictures} | {f"videos/{name}": b"x" for name in clips}
    put(tmp_path, {**files, "audio/1.oga": b"x", "audio/2.aiff": b"x"})
    dataset = datasets.load("folder", tmp_path)
    assert sorted(media(dataset, "cover")) == sorted(media(dataset, "video")) == list("1234567")
    assert sorted(media(dataset, "audio")) == ["1", "2"]
    assert not dataset.notes


def test_a_gif_among_files_of_all_kinds_is_a_picture(tmp_path: Path):
    put(tmp_path, {"1.gif": b"x", "2.mp4": b"x"})
    dataset = datasets.load("folder", tmp_path)
    assert sorted(media(dataset, "cover")) == ["1"]
    assert sorted(media(dataset, "video")) == ["2"]


def test_the_usual_kind_stands_for_an_item_that_also_has_a_kind_that_is_not_read(tmp_path: Path):
    put(tmp_path, {"covers/1.heic": b"x", "covers/1.jpg": b"x"})
    dataset = datasets.load("folder", tmp_path)
    assert media(dataset, "cover") == {"1": str(tmp_path / "covers" / "1.jpg")}
    assert notes(dataset)["media_clash"].examples == ("1: 1.jpg, 1.heic",)

"""MicroLens's three layouts, each with the defects its releases have, to exactly the expected items."""

import zipfile
from pathlib import Path

import pytest
from helpers.dataset_files import column, media, notes, put

from mmfeat import datasets
from mmfeat.datasets import Dataset
from mmfeat.schemas.catalog import CATALOG_SCHEMA, INTERACTIONS_SCHEMA
from mmfeat.schemas.errors import DatasetError


def load(root: Path, **options: str) -> Dataset:
    dataset = datasets.load("microlens", root, **options)
    assert dataset.items.schema.names[: len(CATALOG_SCHEMA)] == CATALOG_SCHEMA.names
    return dataset


def titles(dataset: Dataset) -> dict[str, str | None]:
    return column(dataset, "title")


def interactions(dataset: Dataset) -> list[tuple[str, str, int | None]]:
    assert dataset.interactions.schema == INTERACTIONS_SCHEMA
    return [(r["user_id"], r["item_id"], r["timestamp"]) for r in dataset.interactions.to_pylist()]


@pytest.fixture
def root_50k(tmp_path: Path) -> Path:
    """Quoted titles with commas, quotes and a line break, sparse ids, a cover and a clip missing."""
    return put(
        tmp_path,
        {
            "MicroLens-50k_titles.csv": (
                "item,title\r\n"
                '7,"Cats, dogs, and more"\r\n'
                '2,"He said ""wow"""\r\n'
                '19000,"two\nlines"\r\n'
                "11,plain\r\n"
                '30,""\r\n'
            ),
            "MicroLens-50k_pairs.csv": (
                "user,item,timestamp\r\n36121,7,1583378629552\r\n36121,2,1583378629553\r\n9,55,1583378629551\r\n"
            ),
            "MicroLens-50k_pairs.tsv": "36121\t7 2\r\n9\t55\r\n",
            "MicroLens-50k_likes_and_views.txt": "7\t10\t20\r\n",
            "MicroLens-50k_covers/7.jpg": b"x",
            "MicroLens-50k_covers/2.jpg": b"x",
            "MicroLens-50k_covers/8.jpg": b"x",
            "MicroLens-50k_videos/7.mp4": b"x",
            "MicroLens-50k_audio/7.wav": b"x",
        },
    )


def test_50k_reads_to_exactly_its_items_and_interactions(root_50k: Path):
    dataset = load(root_50k)
    assert titles(dataset) == {
        "2": 'He said "wow"',
        "7": "Cats, dogs, and more",
        "8": None,
        "11": "plain",
        "19000": "two\nlines",
        "30": None,
        "55": None,
    }
    assert dataset.items["item_id"].to_pylist() == ["2", "7", "8", "11", "30", "55", "19000"]
    assert interactions(dataset) == [
        ("36121", "7", 1583378629552),
        ("36121", "2", 1583378629553),
        ("9", "55", 1583378629551),
    ]
    covers = root_50k / "MicroLens-50k_covers"
    assert media(dataset, "cover") == {i: str(covers / f"{i}.jpg") for i in ("2", "7", "8")}
    assert media(dataset, "video") == {"7": str(root_50k / "MicroLens-50k_videos" / "7.mp4")}
    assert media(dataset, "audio") == {"7": str(root_50k / "MicroLens-50k_audio" / "7.wav")}


def test_50k_notes_say_what_each_part_lacks(root_50k: Path):
    found = notes(load(root_50k))
    assert found["blank_title"].examples == ("30",)
    assert found["no_title"].examples == ("8", "30", "55")
    assert (found["no_cover"].count, found["no_video"].count) == (4, 6)
    assert found["nothing_to_encode"].examples == ("30", "55")
    assert "not_read" not in found


def test_likes_views_and_categories_are_fields_of_items_that_are_in_other_parts(root_50k: Path):
    put(root_50k, {"MicroLens-50k_tags_to_summary.csv": "id,category\n7,cats\n2, \n999,x\n"})
    (root_50k / "MicroLens-50k_likes_and_views.txt").write_text("7\t10\t20\r\n2\tmany\t5\r\n999\t1\t1\r\n")
    dataset = load(root_50k)
    assert "999" not in dataset.items["item_id"].to_pylist()
    assert media(dataset, "category") == {"7": "cats"}
    assert (media(dataset, "likes"), media(dataset, "views")) == ({"7": 10}, {"2": 5, "7": 20})
    assert notes(dataset)["unusable_cell"].examples == ("2: its likes holds 'many', no number",)


def test_fields_that_cannot_be_read_keep_nothing_else_from_being_read(root_50k: Path):
    (root_50k / "MicroLens-50k_likes_and_views.txt").write_text("7\t10\n")
    dataset = load(root_50k)
    assert titles(dataset)["11"] == "plain"
    assert "likes_and_views.txt, line 1" in notes(dataset)["unread_fields"].message
    assert "likes" not in dataset.items.column_names


def test_100k_titles_without_header_split_at_the_first_comma_and_user_ids_stay_as_written(tmp_path: Path):
    root = put(
        tmp_path,
        {
            "MicroLens-100k_title_en.csv": (
                '1,One, two, three\r\n2,\r\n3,"half a quote\r\n4, \r\n5,end" of it\r\n'
            ),
            "MicroLens-100k_pairs.csv": (
                "user,item,timestamp\n0036121,1,1662984066647\n999999,14632,1662984066648\n"
            ),
            "tags_to_summary.csv": "1,cats\n",
            "MicroLens-100k_comment_en.txt": "1\t1\tnice\n",
            "extracted_modality_features/x.npy": b"x",
        },
    )
    dataset = load(root)
    assert titles(dataset) == {
        "1": "One, two, three",
        "2": None,
        "3": '"half a quote',
        "4": None,
        "5": 'end" of it',
        "14632": None,
    }
    assert interactions(dataset) == [
        ("0036121", "1", 1662984066647),
        ("999999", "14632", 1662984066648),
    ]
    assert notes(dataset)["not_read"].examples == (
        "MicroLens-100k_comment_en.txt",
        "extracted_modality_features",
    )
    assert media(dataset, "category") == {"1": "cats"}


def test_1m_chinese_titles_with_unbalanced_quotes_keep_one_title_per_line(tmp_path: Path):
    text = '\ufeff1,"你好,世界\r\n2,他说"好"\r\n3,分隔\u2028符\x85\r\n10,最后'
    root = put(
        tmp_path, {"MicroLens-1M_title.csv": text, "MicroLens-1M_pairs.tsv": "\ufeff17\t1 3  10 \r\n4\t2\r\n"}
    )
    dataset = load(root)
    assert titles(dataset) == {"1": '"你好,世界', "2": '他说"好"', "3": "分隔\u2028符\x85", "10": "最后"}
    assert interactions(dataset) == [
        ("17", "1", None),
        ("17", "3", None),
        ("17", "10", None),
        ("4", "2", None),
    ]
    assert notes(dataset)["no_timestamp"].count == 4


@pytest.mark.parametrize(
    "files",
    [
        {"MicroLens-50k_titles.csv": "item,title\n1,a\n"},
        {"title.csv": "1,a\n"},
        {"x_pairs.tsv": "u\t1\n"},
        {"covers/1.jpg": "x"},
        {"MicroLens-100k_videos/videos/1.mp4": "x"},
    ],
)
def test_any_one_part_is_enough_to_start(tmp_path: Path, files: dict[str, str]):
    assert load(put(tmp_path, files)).items["item_id"].to_pylist() == ["1"]


def test_a_byte_order_mark_is_not_part_of_the_first_id_or_column(tmp_path: Path):
    files = {"a_titles.csv": "\ufeffitem,title\n1,x\n", "a_pairs.csv": "\ufeffuser,item,timestamp\n5,1,2\n"}
    dataset = load(put(tmp_path, files))
    assert titles(dataset) == {"1": "x"}
    assert interactions(dataset) == [("5", "1", 2)]


def test_covers_are_read_out_of_a_plain_zip(tmp_path: Path):
    put(tmp_path, {"MicroLens-50k_titles.csv": "item,title\n1,a\n2,b\n"})
    archive = tmp_path / "MicroLens-50k_covers.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("MicroLens-50k_covers/2.jpg", b"x")
        target.writestr("MicroLens-50k_covers/03.5.jpg", b"x")
        target.writestr("__MACOSX/._2.jpg", b"x")
    assert media(load(tmp_path), "cover") == {
        "2": f"zip://MicroLens-50k_covers/2.jpg::{archive}",
        "03.5": f"zip://MicroLens-50k_covers/03.5.jpg::{archive}",
    }


def test_an_extracted_folder_goes_before_its_archive(tmp_path: Path):
    dataset = load(put(tmp_path, {"covers/1.jpg": b"x", "covers.zip": b"", "covers.z01": b""}))
    assert media(dataset, "cover") == {"1": str(tmp_path / "covers" / "1.jpg")}
    assert notes(dataset)["spare_archive"].examples == ("covers.z01", "covers.zip")


@pytest.mark.parametrize(
    ("volumes", "extract"),
    [
        (("M_videos.z01", "M_videos.z02", "M_videos.zip"), "7z x M_videos.zip"),
        (("M_videos.zip.001", "M_videos.zip.002"), "7z x M_videos.zip.001"),
        (("item_images.rar",), "7z x item_images.rar"),
    ],
)
def test_a_split_archive_is_refused_with_the_command_that_extracts_it(
    tmp_path: Path, volumes: tuple[str, ...], extract: str
):
    put(tmp_path, {"titles.csv": "1,a\n", **dict.fromkeys(volumes, b"x")})
    with pytest.raises(DatasetError) as refused:
        load(tmp_path)
    assert extract in refused.value.hint
    assert volumes[0].split(".")[0] in refused.value.hint


def test_a_damaged_zip_is_refused(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"Cannot read the archive .*covers\.zip"):
        load(put(tmp_path, {"titles.csv": "1,a\n", "covers.zip": b"not a zip"}))


def test_a_media_folder_that_leads_out_of_the_root_is_refused(tmp_path: Path):
    root = put(tmp_path / "root", {"titles.csv": "1,a\n"})
    put(tmp_path / "elsewhere", {"1.jpg": b"x"})
    (root / "covers").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match="a link that leads out"):
        load(root)


def test_a_title_that_runs_over_two_lines_is_pointed_at(tmp_path: Path):
    dataset = load(put(tmp_path, {"M_title.csv": "1,first\nsecond, half\n2,b\nno comma\n"}))
    assert titles(dataset) == {"1": "first", "2": "b", "second": " half"}
    assert notes(dataset)["odd_id"].examples == ("second",)
    assert notes(dataset)["malformed_line"].examples == ("line 4",)


def test_interactions_without_user_or_item_are_left_out_and_counted(tmp_path: Path):
    dataset = load(put(tmp_path, {"a_pairs.csv": "user,item,timestamp\n1,2,3\n,2,4\n1,,5\n6,7,\n"}))
    assert interactions(dataset) == [("1", "2", 3), ("6", "7", None)]
    assert notes(dataset)["incomplete_interaction"].count == 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"readme.txt": "x"}, "nothing of MicroLens"),
        (
            {"a_title.csv": "1,a\n", "a_title_en.csv": "1,a\n"},
            "several titles files: a_title.csv, a_title_en.csv",
        ),
        ({"a_pairs.csv": "x", "b_pairs.csv": "x"}, "several datasets: a_pairs.csv, b_pairs.csv"),
        ({"covers/1.jpg": "x", "images/1.jpg": "x"}, "several folders or archives .* covers, images"),
        ({"a_pairs.csv": "user,item\n1,2\n"}, "'timestamp'"),
        ({"a_pairs.csv": "user,item,timestamp\n1,2\n"}, "line 2: it has 2 columns instead of 3"),
        (
            {"a_pairs.csv": "user,item,timestamp\n1,2,soon\n"},
            "line 2: its timestamp is 'soon', which is no whole number",
        ),
        ({"a_pairs.csv": ""}, "is empty"),
        ({"a_pairs.tsv": "1 2 3\n"}, "line 1: it has 1 columns instead of 2"),
        ({"a_pairs.tsv": b"1\t\xff\n"}, "not UTF-8: line 1"),
        ({"a_titles.csv": b"1,a\n2," + "你".encode("gb18030")}, "not UTF-8: line 2"),
        ({"a_titles.csv": 'item,title\n1,"a\n2,"b"\n'}, "line 2: a quote is left open"),
        ({"a_titles.csv": "item,title\n1,a\n2,b,c\n"}, "line 3: it has 3 columns instead of 2"),
    ],
)
def test_what_is_not_microlens_is_refused_by_name(
    tmp_path: Path, files: dict[str, str | bytes], message: str
):
    with pytest.raises(DatasetError, match=message):
        load(put(tmp_path, files))


def test_a_root_one_level_too_high_is_pointed_to_the_right_one(tmp_path: Path):
    put(tmp_path, {"MicroLens-50k-Dataset/MicroLens-50k_titles.csv": "item,title\n1,a\n"})
    with pytest.raises(DatasetError) as refused:
        load(tmp_path)
    assert refused.value.hint == f"Did you mean --root {tmp_path / 'MicroLens-50k-Dataset'}?"


def test_a_titles_file_is_chosen_by_name(tmp_path: Path):
    put(tmp_path, {"a_title.csv": "1,甲\n", "a_title_en.csv": "1,A\n"})
    assert titles(load(tmp_path, titles="a_title_en.csv")) == {"1": "A"}
    with pytest.raises(DatasetError, match=r"no titles file 'b\.csv'"):
        load(tmp_path, titles="b.csv")


def test_a_root_is_needed_and_must_be_a_folder_with_something_in_it(tmp_path: Path):
    put(tmp_path, {"file": "x"})
    (tmp_path / "empty").mkdir()
    for root, message in [
        (None, "needs a root"),
        ("none", "There is no"),
        ("file", "is a file"),
        ("empty", "is empty"),
    ]:
        with pytest.raises(DatasetError, match=message):
            datasets.load("microlens", root and tmp_path / root)

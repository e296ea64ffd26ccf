"""Tsinghua's ShortVideo: misspelt file names, byte order marks, empty transcripts, two kinds of ids."""

import shutil
from pathlib import Path

import pytest

from mmfeat.datasets import load
from mmfeat.schemas.errors import DatasetError

LOG = (
    "user_id,pid,exposed_time,p_date,watch_time,cvm_like,title\n"
    '101,2,1663471335,20220917,46,True,"海底, 抓\n龙虾"\n'
    "102,10,1663471336,20220917,3,False,\n"
    "101,10,1663471337,20220917,3,False,日落\n"
    "101,2023,1663471338,20220917,3,False,没有视频\n"
)


@pytest.fixture
def folder(tmp_path) -> Path:
    found = tmp_path / "ShortVideo"
    for name in ("raw_file", "title_en", "asr_en", "asr_zn", "video_feature_total"):
        (found / name).mkdir(parents=True)
    for item_id in ("1", "2", "10"):
        (found / "raw_file" / f"{item_id}.mp4").write_bytes(b"x")
    (found / "title_en" / "1.txt").write_bytes("\ufeffCatch lobsters\n".encode())
    (found / "title_en" / "2.txt").write_text("Sunset")
    (found / "asr_en" / "2.txt").write_text("")
    (found / "asr_en" / "10.txt").write_text("hello\nworld")
    (found / "asr_zn" / "10.txt").write_bytes("\ufeff你好".encode())
    (found / "interaciton_filtered.csv").write_text(LOG)
    return found


def rows(dataset, *columns: str) -> list[tuple]:
    return list(zip(*(dataset.items[c].to_pylist() for c in columns), strict=True))


def codes(dataset) -> dict[str, int]:
    return {note.code: note.count for note in dataset.notes}


def test_what_the_interactions_say_of_a_video_are_its_fields(folder):
    log = (
        "user_id,pid,exposed_time,category_id,duration,author_id,author_fans_count,tag_name\n"
        "101,2,1663471335,0135,138.566,78,138211,diving\n102,2,1663471336,1,1,1,1,x\n101,10,1663471337,,,,,\n"
    )
    (folder / "interaciton_filtered.csv").write_text(log)
    found = load("shortvideo", folder)
    assert rows(
        found, "item_id", "tag_name", "author_id", "category_id", "duration", "author_fans_count"
    ) == [
        ("1", None, None, None, None, None),
        ("2", "diving", "78", "0135", 138.566, 138211),
        ("10", None, None, None, None, None),
    ]


def test_videos_titles_transcripts_and_interactions_are_found_by_id(folder):
    found = load("shortvideo", folder)
    video = str(folder / "raw_file")
    assert rows(found, "item_id", "title", "description", "video") == [
        ("1", "Catch lobsters", None, f"{video}/1.mp4"),
        ("2", "Sunset", None, f"{video}/2.mp4"),
        ("10", None, "hello\nworld", f"{video}/10.mp4"),
        ("2023", None, None, None),
    ]
    assert [tuple(row.values())[:3] for row in found.interactions.to_pylist()] == [
        ("101", "2", 1663471335000),
        ("102", "10", 1663471336000),
        ("101", "10", 1663471337000),
        ("101", "2023", 1663471338000),
    ]
    assert codes(found) == {"blank_text": 1, "only_interactions": 1, "not_read": 2}


def test_what_is_said_is_the_transcript_as_well_as_the_description(folder):
    said = [("1", None), ("2", None), ("10", "hello\nworld"), ("2023", None)]
    assert rows(load("shortvideo", folder), "item_id", "transcript") == said
    chinese = load("shortvideo", folder, language="zh")
    assert rows(chinese, "description", "transcript")[2] == ("你好", "你好")
    shutil.rmtree(folder / "asr_en")
    assert "transcript" not in load("shortvideo", folder).items.column_names


def test_chinese_titles_come_from_the_first_interaction_that_has_one(folder):
    found = load("shortvideo", folder, language="zh")
    assert rows(found, "item_id", "title", "description") == [
        ("1", None, None),
        ("2", "海底, 抓\n龙虾", None),
        ("10", "日落", "你好"),
        ("2023", "没有视频", None),
    ]
    (folder / "interaciton_filtered.csv").write_text("user_id,pid,exposed_time\n1,2,3\n")
    with pytest.raises(DatasetError, match="no Chinese titles") as error:
        load("shortvideo", folder, language="zh")
    assert error.value.hint


def test_the_samples_ids_of_two_kinds_are_pointed_out(folder):
    (folder / "interaciton_filtered.csv").unlink()
    (folder / "interaction.csv").write_text("user_id,pid,exposed_time\n3524,82927753107,1663471335\n")
    found = load("shortvideo", folder)
    assert found.items["item_id"].to_pylist() == ["1", "2", "10", "82927753107"]
    assert codes(found)["ids_apart"] == 3


def test_one_text_that_is_not_utf8_does_not_keep_the_others_from_being_read(folder):
    (folder / "title_en" / "2.txt").write_bytes("日落".encode("gb18030"))
    found = load("shortvideo", folder)
    assert rows(found, "item_id", "title")[:2] == [("1", "Catch lobsters"), ("2", None)]
    note = next(note for note in found.notes if note.code == "not_utf8")
    assert (note.level, note.count, note.examples) == ("error", 1, ("2",))


def test_a_video_or_text_outside_the_root_is_refused(folder, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (folder / "title_en" / "10.txt").symlink_to(secret)
    found = load("shortvideo", folder)
    assert rows(found, "title")[2] == (None,)
    assert codes(found)["refused_text"] == 1
    (folder / "raw_file").rename(tmp_path / "videos")
    (folder / "raw_file").symlink_to(tmp_path / "videos")
    with pytest.raises(DatasetError, match="leads out") as error:
        load("shortvideo", folder)
    assert error.value.hint


def test_a_folder_of_something_else_or_a_log_cut_short_is_refused(tmp_path, folder):
    (tmp_path / "readme.md").write_text("x")
    with pytest.raises(DatasetError, match="nothing of ShortVideo") as error:
        load("shortvideo", tmp_path)
    assert error.value.hint
    (folder / "interaciton_filtered.csv").write_text(LOG + "101,2023,16634")
    with pytest.raises(DatasetError, match="line 7: it has 3 columns instead of 7") as error:
        load("shortvideo", folder)
    assert error.value.hint and "cut short" in error.value.hint

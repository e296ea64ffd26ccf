"""What a check counts: there, missing, broken and the same, before anything is decoded."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
from helpers.dataset_files import put
from helpers.interaction_rows import interactions_of

from mmfeat import datasets
from mmfeat.datasets import CheckReport, ColumnCount, Dataset, Note
from mmfeat.datasets.base import build_items
from mmfeat.schemas.catalog import zip_location


def check(columns: dict[str, dict[str, str]], ids: str | list[str], interactions=None) -> CheckReport:
    table = interactions and interactions_of(interactions)
    return datasets.check(
        Dataset("a", "/r", build_items(list(ids), columns), table, [Note("info", "own", "x")])
    )


def found(report: CheckReport) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {note.code: (note.count, note.examples) for note in report.notes if note.code != "own"}


def test_files_are_counted_by_what_is_wrong_with_them(tmp_path: Path):
    put(tmp_path, {"a.jpg": b"1", "b.jpg": b"", "d.jpg/x": b"1"})
    (tmp_path / "c.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "f.jpg")
    covers = {i: str(tmp_path / f"{i}.jpg") for i in "abcdef"} | {"g": "https://x.org/g.jpg"}
    report = check({"cover": covers}, "abcdefgh")
    assert report.columns == [
        ColumnCount("cover", "image", found=2, missing=1, unreadable=5, duplicates=0, values=7)
    ]
    assert found(report) == {
        "empty_file": (1, ("b",)),
        "broken_link": (1, ("c",)),
        "not_a_file": (2, ("d", "f")),
        "not_there": (1, ("e",)),
        "not_asked": (1, ("g",)),
    }


def test_the_same_content_is_told_from_the_same_size_and_ends(tmp_path: Path):
    noise = np.random.default_rng(0).bytes(50_000)
    middle = noise[:25_000] + bytes(10) + noise[25_010:]
    ends = b"x" + noise[1:]
    put(
        tmp_path,
        {"1.mp4": noise, "2.mp4": middle, "3.mp4": ends, "4.mp4": noise, "5.mp4": noise, "6.mp4": b"s"},
    )
    report = check({"video": {i: str(tmp_path / f"{i}.mp4") for i in "123456"}}, "123456")
    assert report.columns == [
        ColumnCount("video", "video", found=6, missing=0, unreadable=0, duplicates=2, values=6)
    ]
    assert found(report) == {"same_video": (1, ("1 = 4 = 5",))}


def test_members_of_zips_are_looked_up_without_unpacking(tmp_path: Path):
    archive = str(tmp_path / "c.zip")
    with zipfile.ZipFile(archive, "w") as target:
        for name, content in {"1.jpg": b"same", "2.jpg": b"same", "3.jpg": b"", "4.jpg": b"diff"}.items():
            target.writestr(name, content)
    places = {i: zip_location(archive, f"{i}.jpg") for i in "12345"}
    report = check({"cover": places | {"6": zip_location(str(tmp_path / "no.zip"), "6.jpg")}}, "123456")
    assert report.columns == [
        ColumnCount("cover", "image", found=3, missing=0, unreadable=3, duplicates=1, values=6)
    ]
    assert found(report) == {
        "empty_file": (1, ("3",)),
        "not_there": (1, ("5",)),
        "no_access": (1, ("6",)),
        "same_cover": (1, ("1 = 2",)),
    }


def test_blank_texts_are_missing_and_equal_ones_are_counted():
    titles = {"1": "a", "2": "b", "3": "a", "4": " ", "5": "a", "6": "b"}
    report = check({"title": titles, "description": {"7": "x"}}, "1234567")
    assert report.columns == [
        ColumnCount("title", "text", found=5, missing=2, unreadable=0, duplicates=3, values=5),
        ColumnCount("description", "text", found=1, missing=6, unreadable=0, duplicates=0, values=1),
    ]
    assert found(report)["same_title"] == (2, ("1 = 3 = 5", "2 = 6"))


def test_ids_that_file_systems_may_mix_up_are_pointed_at():
    report = check({}, ["A b", "ab", "a  B", "\u00e9", "e\u0301", "x", "x.", "1", "01"])
    assert found(report)["id_clash"] == (2, ("A b = ab = a  B", "\u00e9 = e\u0301"))


def test_interactions_are_counted_against_the_catalog():
    pairs = [("u1", "1"), ("u2", "1"), ("u1", "9"), ("u3", "8"), ("u3", "9")]
    report = check({"title": {"1": "a"}}, "12", pairs)
    assert (report.items, report.interactions, report.users) == (2, 5, 3)
    assert found(report) == {"no_interactions": (1, ("2",)), "unknown_items": (2, ("9", "8"))}
    assert any("items of 3 interactions" in note.message for note in report.notes)
    alone = check({"title": {"1": "a"}}, "1")
    assert (alone.interactions, alone.users) == (None, None)


def test_a_report_is_plain_json_and_keeps_the_adapters_own_notes_first(tmp_path: Path):
    report = check({"title": {"1": "a"}, "cover": {"1": str(tmp_path / "no.jpg")}}, "1", [("u", "1")])
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["columns"][1] == {
        "column": "cover",
        "modality": "image",
        "found": 0,
        "missing": 0,
        "unreadable": 1,
        "duplicates": 0,
        "values": 1,
    }
    assert [note["code"] for note in plain["notes"]] == ["own", "not_there"]
    assert (plain["items"], plain["interactions"], plain["users"]) == (1, 1, 1)

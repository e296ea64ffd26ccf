"""Both forms of titles files give back the titles that were written into them."""

import csv
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmfeat.datasets.titles import read_titles

# Whatever UTF-8 can hold, blank texts aside: those read as no title.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda t: t and not t.isspace())
IDS = st.lists(st.integers(0, 10**6).map(str) | st.sampled_from(["007", "a.b", "é"]), unique=True, max_size=8)
# The same file is written again for each example.
reuse_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@reuse_folder
@given(ids=IDS, data=st.data())
def test_quoted_titles_come_back_whatever_they_hold(tmp_path: Path, ids: list[str], data: st.DataObject):
    written = {i: data.draw(TEXT | st.sampled_from(['a,b "c"\r\nd', '"', "\n1,x"])) for i in ids}
    path = tmp_path / "titles.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("item", "title"), *written.items()])
    found = read_titles(path)
    assert found.texts == written
    # A title may look like a row, and a file may hold a header alone: both are said.
    assert {note.code for note in found.notes()} <= {"open_quote", "no_rows"}


@reuse_folder
@given(ids=IDS, data=st.data(), end=st.sampled_from(["\n", "\r\n"]), bom=st.booleans())
def test_unquoted_lines_come_back_whatever_their_quotes_and_commas(
    tmp_path: Path, ids: list[str], data: st.DataObject, end: str, bom: bool
):
    line = (TEXT | st.sampled_from(['"', ',,"', '"a",b'])).filter(lambda t: not {"\n", "\r"} & set(t))
    written = {i: data.draw(line) for i in ids}
    text = "\ufeff" * bom + "".join(f"{i},{title}{end}" for i, title in written.items())
    path = tmp_path / "title.csv"
    path.write_bytes(text.encode())
    assert read_titles(path).texts == written


@pytest.mark.parametrize("header", ["", "item,title\r"])
def test_lines_that_end_in_carriage_returns_alone_are_lines(tmp_path: Path, header: str):
    path = tmp_path / "titles.csv"
    path.write_bytes(f"{header}1,a\r2,b\r3,c\r".encode())
    assert read_titles(path).texts == {"1": "a", "2": "b", "3": "c"}


@pytest.mark.parametrize("header", ["item,title\n", "", "\ufeffitem_id,title\r\n"])
def test_repeated_ids_are_told_from_conflicting_ones_and_the_first_is_taken(tmp_path: Path, header: str):
    path = tmp_path / "titles.csv"
    path.write_text(f"{header}1,a\n2,b\n1,a\n2,c\n3,\n,x\n", encoding="utf-8", newline="")
    found = read_titles(path)
    assert found.texts == {"1": "a", "2": "b", "3": None}
    assert found.repeated == ["1"]
    assert found.conflicting == ["2"]
    assert found.malformed == ["line 7" if header else "line 6"]
    assert [note.level for note in found.notes()] == ["info", "info", "warning", "warning"]

"""The one reader of delimited text: what was written comes back, and no line is lost without a word."""

import csv
import gzip
import io
import re
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.dataset_files import column, notes, put
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmfeat import datasets
from mmfeat.datasets import delimited
from mmfeat.datasets.delimited import Delimited, read_delimited
from mmfeat.schemas.errors import DatasetError

CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ['"', '""', ",", "\n", "\r", "\r\n", 'a,"b"\n2,c,d', "\n2,b,b\n3", " x", "\u2028", "\ufeff", "7"]
)
NAMES = ["id", "title", "tag"]
ROWS = st.lists(st.tuples(CELLS.filter(bool), CELLS, CELLS), max_size=8)
reuse_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def written(rows, delimiter=",", quoting=csv.QUOTE_MINIMAL, end="\r\n") -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=end).writerows([NAMES, *rows])
    return file.getvalue()


def read(text: str) -> tuple[Delimited, list[tuple[int, list[str]]]]:
    rows = Delimited(io.StringIO(text, newline=""), "a.csv")
    return rows, list(rows)


@given(
    ROWS,
    st.sampled_from(",;\t|"),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(0, 2),
)
def test_whatever_rows_are_written_come_back_and_every_physical_line_is_theirs(
    rows, delimiter, quoting, end, blank
):
    # With line feeds alone, Python's writer leaves carriage returns without quotes.
    quoting = quoting if end == "\r\n" else csv.QUOTE_ALL
    text = end * blank + written(rows, delimiter, quoting, end) + end * blank
    reader, found = read(text)
    assert (reader.names, reader.delimiter) == (NAMES, delimiter)
    assert [tuple(cells) for _, cells in found] == rows
    lines = list(io.StringIO(text, newline=""))
    starts = [line for line, _ in found] + [len(lines) - blank + 1]
    for (line, cells), end_of_row in zip(found, starts[1:], strict=False):
        own = "".join(lines[line - 1 : end_of_row - 1])
        assert next(csv.reader(io.StringIO(own, newline=""), delimiter=delimiter)) == cells


@reuse_folder
@given(ROWS, st.booleans(), st.integers(0, 2))
def test_the_quick_way_for_files_without_quotes_gives_the_same(tmp_path: Path, rows, packed, blank):
    plain = [tuple(re.sub(r'["\r\n,]', "", cell) for cell in row) for row in rows]
    plain = [row for row in plain if row[0].strip()]
    path = tmp_path / ("a.csv.gz" if packed else "a.csv")
    text = (
        "\n" * blank + "\ufeff" * (not blank) + "id,title,tag\n" + "".join(",".join(r) + "\n" for r in plain)
    )
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    table, _ = read_delimited(path, {"tag": pa.string(), "id": pa.string()})
    assert [(r["id"], r["tag"]) for r in table.to_pylist()] == [(row[0], row[2]) for row in plain]


@reuse_folder
@given(ROWS, st.data())
def test_a_quote_too_many_is_an_error_that_names_a_line_or_no_row_is_lost_unsaid(
    tmp_path: Path, rows, data: st.DataObject
):
    """One quote is put at the start of a cell of rows without any: it may swallow the rows that follow."""
    plain = [
        (f"i{n}", *(re.sub(r'["\r\n,;|\t]', "", cell) for cell in row[1:])) for n, row in enumerate(rows)
    ]
    lines = [",".join(NAMES), *(",".join(row) for row in plain)]
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(lines) - 1))
        cells = lines[at].split(",")
        place = data.draw(st.integers(0, 2))
        cells[place] = data.draw(st.sampled_from(['"' + cells[place], cells[place] + '"']))
        lines[at] = ",".join(cells)
    try:
        reader, found = read("\n".join(lines) + "\n")
    except DatasetError as error:
        assert re.search(r"a\.csv, line \d+: ", error.message)
    else:
        assert len(found) == len(plain) or "open_quote" in notes_of(reader), [r for _, r in found]


def notes_of(reader: Delimited) -> dict[str, tuple[str, ...]]:
    return {note.code: note.examples for note in reader.notes()}


def test_a_header_that_runs_over_lines_is_pointed_at_as_it_may_have_swallowed_a_row():
    reader, found = read('id,title,"tag\n1",,\n2,,\n')
    assert [cells[0] for _, cells in found] == ["2"]
    assert notes_of(reader) == {"open_quote": ("lines 1 to 2",)}


def test_an_open_quote_that_closes_later_at_the_end_of_a_value_is_pointed_at():
    reader, found = read('id,title,tag\n1,"open,a\n2,b",b\n3,c,c\n4,"two\nlines, and more",d\n')
    assert [cells[0] for _, cells in found] == ["1", "3", "4"]
    assert notes_of(reader) == {"open_quote": ("lines 2 to 3",)}


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            'id,title\nred-shoe,Red shoe\nblue-shoe-2,"Blue shoe open\ngreen-hat,Green hat\n'
            'pink-hat,Pink 6"\nx-hat,X\n',
            "lines 3 to 5",
        ),
        ('id,title\n1,One\n2,"Two open\n3,Hello, world"\n4,Four\n', "lines 3 to 4"),
        ('id,title\nblue shoe,"Two open\ngreen shoe,Three"\n', "lines 2 to 3"),
        ('id,title\n商品乙2,"二\n商品丙,三"\n', "lines 2 to 3"),
        ('id,title\nabc1ef,"One\nabcdff,Two"\n', "lines 2 to 3"),
        ('title,id,tag\n"One,1,a\nTwo",2,b\n', "lines 2 to 3"),
        ('id,title,tag\n1,a,"b\n2,"\n\nx, y",c\n', "lines 2 to 3"),
        ('id;title;tag;\n1;"a;b;\n2;c";d\n', "lines 2 to 3"),
        ('id,title,tag\n1,",\n2",,\n', "lines 2 to 3"),
        ('id\n1\n"2\n3"\n4\n', "lines 3 to 4"),
    ],
)
def test_an_open_quote_that_took_rows_in_is_pointed_at_whatever_their_ids(text: str, lines: str):
    reader, _ = read(text)
    assert notes_of(reader) == {"open_quote": (lines,)}


@pytest.mark.parametrize(
    "text",
    [
        'id,title\n1,"A red\nshoe\r\n\nof leather"\n2,b\n',
        'title,id,tag\n"A red\nshoe",1,a\n"A\n\nhat",2,b\n',
        'id,title,tag,size\n1,"red, and\nblue, or green","a\nb",7\n',
    ],
)
def test_values_of_several_lines_that_look_like_no_row_are_read_without_a_word(text: str):
    reader, found = read(text)
    assert found and not notes_of(reader)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('id,title,tag\n1,"open,a\n2,b,b\n3,"c,c\n4,d,d\n', 2),
        ('id,title,tag\n\n1,a,a\n2,"open,a\n3,c,c\n', 4),
        ('id,title,tag\n1,"a\nb",a\n2,b\n', 4),
        ('id,title,tag\n1,"a" b,c\n', 2),
        ("id,title,tag\n1,a,b\n2,a,b,c\n", 3),
    ],
)
def test_a_line_that_is_no_row_is_named(text: str, line: int):
    with pytest.raises(DatasetError, match=rf"a\.csv, line {line}: ") as refused:
        read(text)
    assert refused.value.hint


OPEN = {
    "pixelrec": {"Pixel.csv": 'item_id,title,tag\n1,"open,a\n2,b,b\n3,"c,c\n4,d,d\n'},
    "ninerec": {"QB_item.csv": 'v1,"一,One\nv2,二,Two\nv3,"三,Three\n', "QB_cover/v1.jpg": "x"},
    "microlens": {"a_titles.csv": 'item,title\n1,"a\n2,b\n3,"c\n'},
    "folder": {"titles.csv": 'item,title\n1,"a\n2,b\n3,"c\n', "1.jpg": "x"},
    "shortvideo": {
        "interaction.csv": 'user_id,pid,exposed_time\nu,"1,1\nu,2,1\nu,"3,1\n',
        "title_en/1.txt": "x",
    },
    "mmrec": {"i_id_mapping.csv": 'asin\titemID\n"a\t0\nb\t1\n', "x.inter": "userID\titemID\n0\t0\n"},
    "amazon": {"meta_A.json": '{"asin":"1","title":"x"}\n', "ratings_A.csv": 'u,"1,5,1\nu,2,5,1\n'},
    "table": {"a.csv": 'item_id,title\n1,"a\n2,b\n3,"c\n'},
}


@pytest.mark.parametrize("adapter", OPEN)
def test_an_open_quote_in_any_dataset_is_an_error_that_names_file_and_line(tmp_path: Path, adapter: str):
    root = put(tmp_path, OPEN[adapter])
    with pytest.raises(DatasetError, match=r"\.csv, line [12]: a quote is left open"):
        datasets.load(adapter, root / "a.csv" if adapter == "table" else root)


def test_a_cell_may_be_as_long_as_it_likes(tmp_path: Path):
    long = "x" * 3_000_000
    put(
        tmp_path,
        {"a.csv": f'item_id,title\n1,"{long}"\n2,{long}\n', "b/titles.csv": f"item,title\n1,{long}\n"},
    )
    assert column(datasets.load("table", tmp_path / "a.csv"), "title") == {"1": long, "2": long}
    assert column(datasets.load("folder", tmp_path / "b"), "title") == {"1": long}


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_a_table_with_another_delimiter_is_read(tmp_path: Path, mark: str):
    text = f'item_id{mark}title{mark}tag\n1{mark}"a{mark} b"{mark}\n2{mark}c, d{mark}\n'
    put(tmp_path, {"a.csv": text, "b/titles.csv": text.replace(f"{mark}tag", "").replace(f"{mark}\n", "\n")})
    there = {"1": f"a{mark} b", "2": "c, d"}
    assert column(datasets.load("table", tmp_path / "a.csv"), "title") == there
    assert column(datasets.load("folder", tmp_path / "b"), "title") == there


def test_the_delimiter_can_be_named(tmp_path: Path):
    put(tmp_path, {"a.csv": "item_id~title\n1~a;b\n", "b.jsonl": '{"id":"1"}\n'})
    assert column(datasets.load("table", tmp_path / "a.csv", delimiter="~"), "title") == {"1": "a;b"}
    with pytest.raises(DatasetError, match="cannot be a delimiter"):
        datasets.load("table", tmp_path / "a.csv", delimiter="ab")
    with pytest.raises(DatasetError, match="has no delimiter"):
        datasets.load("table", tmp_path / "b.jsonl", delimiter=";")


@pytest.mark.parametrize("mark", [";", "\t", ",", "|"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_excels_first_line_names_the_delimiter_and_is_no_row(tmp_path: Path, mark: str, quote: str):
    rows = f"item_id{mark}title\r\n1{mark}a\r\n"
    put(
        tmp_path,
        {"a.csv": f"\ufeff{quote}sep={mark}{quote}\r\n{rows}", "b/titles.csv": f"sep={mark}\n{rows}"},
    )
    assert column(datasets.load("table", tmp_path / "a.csv"), "title") == {"1": "a"}
    assert column(datasets.load("folder", tmp_path / "b"), "title") == {"1": "a"}
    table, _ = read_delimited(tmp_path / "a.csv", {"title": pa.string(), "item_id": pa.int64()})
    assert table.to_pylist() == [{"title": "a", "item_id": 1}]
    with pytest.raises(DatasetError, match=r"a\.csv, line 3: its title is 'a'"):
        read_delimited(tmp_path / "a.csv", {"title": pa.int64()})


@pytest.mark.parametrize(
    "text",
    [
        "item_id;title;size, cm, about\n1;Red, big, wide, tall;5,5\n2;Blue;6\n",
        'item_id;title;size, cm, about\n1;"Red; big\n, wide";5,5\n2;Blue;6\n',
        "item_id;title;price, EUR\n1;Red;5,00\n2;Blue;7,50\n",
        "item_id,title,a;b;c;d;e\n1,Red,\n2,Blue,x\n",
        "item_id|title, short, plain|x\n1|Red|\n2|Blue|y\n",
        "item_id\ttitle\ta, b, c\n1\tRed\tx, y, z\n2\tBlue\t\n",
    ],
)
def test_the_delimiter_is_the_one_that_cuts_rows_as_it_cuts_the_header(text: str):
    rows, found = read(text)
    assert (rows.names[0], len(found)) == ("item_id", 2)
    assert [cells[0] for _, cells in found] == ["1", "2"]


@pytest.mark.parametrize("text", ["item_id~title\n1~a\n", "item_id,title\n1,a,b\n"])
def test_a_table_that_is_cut_wrongly_is_refused_with_the_option_that_helps(tmp_path: Path, text: str):
    with pytest.raises(DatasetError) as refused:
        datasets.load("table", put(tmp_path, {"a.csv": text}) / "a.csv")
    assert "--option 'delimiter=;'" in str(refused.value.hint)


def test_marks_in_quotes_and_in_rows_are_no_delimiters(tmp_path: Path):
    put(tmp_path, {"b.csv": "item_id,title,a|b|c|d\n1,x,\n"})
    assert column(datasets.load("table", tmp_path / "b.csv"), "title") == {"1": "x"}
    put(
        tmp_path, {"a.csv": 'item_id,"title; |of| it"\n1,a;b|c;d\n', "n/QB_item.csv": 'v1,"一;二;三|四|五"\n'}
    )
    table = datasets.load("table", tmp_path / "a.csv", title="title; |of| it")
    assert column(table, "title") == {"1": "a;b|c;d"}
    assert column(datasets.load("ninerec", tmp_path / "n", language="zh"), "title") == {
        "v1": "一;二;三|四|五"
    }


@pytest.mark.parametrize(
    ("adapter", "files"),
    [
        ("microlens", {"a_titles.csv": "item,title\n", "covers/1.jpg": "x"}),
        ("microlens", {"a_titles.csv": "item,title\n1,a\n", "a_pairs.csv": "user,item,timestamp\n"}),
        ("microlens", {"a_titles.csv": "item,title\n1,a\n", "a_pairs.tsv": ""}),
        ("pixelrec", {"Pixel.csv": "item_id,title\n", "log.csv": "item_id,user_id,timestamp\n1,u,5\n"}),
        ("ninerec", {"QB_item.csv": "v1,一,One\n", "QB_behaviour.tsv": "\n"}),
    ],
)
def test_a_part_without_a_row_is_told_of(tmp_path: Path, adapter: str, files: dict[str, str]):
    dataset = datasets.load(adapter, put(tmp_path, files))
    assert (len(dataset.items), notes(dataset)["no_rows"].level) == (1, "warning")


@pytest.mark.parametrize(
    "text",
    [
        "item_id,title,,\n1,a,,\n",
        "item_id,title,,\n1,a\n",
        "item_id,title\n1,a,, ,\n",
        "item_id, title\n1, a\n",
        ' item_id , "title"\n1, "a"\n',
        "item_id ,title \n1,a\n",
        "item_id,title,x,x\n1,a,2,3\n",
        ",item_id,title\n0,1,a\n",
        "\ufeff\r\nitem_id,title\r\n\r\n1,a\r\n   \r\n",
    ],
)
def test_odd_headers_cost_no_column(tmp_path: Path, text: str):
    dataset = datasets.load("table", put(tmp_path, {"a.csv": text}) / "a.csv")
    assert column(dataset, "title") == {"1": "a"}


def test_values_in_a_column_without_a_name_are_told_of(tmp_path: Path):
    dataset = datasets.load("table", put(tmp_path, {"a.csv": "item_id,title,\n1,a,\n2,b,lost\n"}) / "a.csv")
    assert column(dataset, "title") == {"1": "a", "2": "b"}
    assert notes(dataset)["nameless_column"].examples == ("line 3",)


def test_a_column_that_is_read_and_there_twice_is_an_error_that_names_it(tmp_path: Path):
    put(tmp_path, {"a.csv": "item_id,title,title\n1,a,b\n", "b/titles.csv": "item,title,x,x\n1,a,b,c\n"})
    with pytest.raises(DatasetError, match="several columns of one name: title"):
        datasets.load("table", tmp_path / "a.csv")
    with pytest.raises(DatasetError, match="several columns of one name: x"):
        datasets.load("folder", tmp_path / "b", columns={"x": "text"})


def test_rows_without_an_item_are_left_out_and_told_of(tmp_path: Path):
    put(tmp_path, {"p/Pixel.csv": "item_id,title\n1,a\n,b\n", "n/QB_item.csv": 'v1,一,"One"\n,二,Two\n'})
    for name, items in (("p", ["1"]), ("n", ["v1"])):
        dataset = datasets.load("pixelrec" if name == "p" else "ninerec", tmp_path / name)
        assert dataset.items["item_id"].to_pylist() == items
        assert notes(dataset)["no_id"].count == 1


@pytest.mark.parametrize(
    ("adapter", "files"),
    [
        ("table", {"a.csv": "item_id,title\n"}),
        ("table", {"a.parquet": b""}),
        ("microlens", {"a_titles.csv": "item,title\n"}),
        ("microlens", {"a_titles.csv": "1;a\n2;b\n"}),
        ("microlens", {"a_pairs.csv": "user,item,timestamp\n"}),
        ("pixelrec", {"Pixel.csv": "item_id,user_id,timestamp\n"}),
        ("ninerec", {"QB_cover/readme.txt": "x"}),
        ("shortvideo", {"interaction.csv": "user_id,pid,exposed_time\n"}),
        ("folder", {"titles.csv": "item,title\n"}),
    ],
)
def test_a_dataset_without_an_item_is_an_error(tmp_path: Path, adapter: str, files: dict[str, str | bytes]):
    root = put(tmp_path, files)
    if adapter == "table":
        root = root / next(iter(files))
        if root.suffix == ".parquet":
            pa.parquet.write_table(pa.table({"item_id": pa.array([], pa.string())}), root)
    with pytest.raises(DatasetError, match=r"no items in|no media in"):
        datasets.load(adapter, root)


@reuse_folder
@given(ROWS, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.sampled_from('\r\n,"x'), st.data())
def test_the_quick_way_for_quoted_files_gives_what_the_rows_give_or_leaves_the_file_to_them(
    tmp_path: Path, rows, quoting, mark, data: st.DataObject
):
    """A file as it was written, or with one character put somewhere: quotes are then in odd places."""
    text = written(rows, quoting=quoting)
    at = data.draw(st.integers(0, len(text)))
    text = text[:at] + data.draw(st.sampled_from(["", mark])) + text[at:]
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())

    def found(read) -> object:
        try:
            return read()
        except DatasetError as error:
            return str(error)

    def by_rows() -> list[tuple[str, str]]:
        reader = Delimited.of(path)
        places = [reader.place_of(name) for name in ("id", "tag")]
        return [tuple(cells[at] for at in places) for _, cells in reader]

    def at_once() -> list[tuple[str, str]]:
        table, _ = read_delimited(path, {"id": pa.string(), "tag": pa.string()})
        return list(zip(table["id"].to_pylist(), table["tag"].to_pylist(), strict=True))

    assert found(at_once) == found(by_rows)


def test_a_quoted_file_is_read_without_an_object_for_each_row(tmp_path: Path):
    path = put(tmp_path, {"a.csv": 'id,title\n"1","a, ""b"""\n2,c\n'}) / "a.csv"
    table = delimited._read_at_once(path, Delimited.of(path), {"id": 0, "title": 1})
    assert table.to_pydict() == {"id": ["1", "2"], "title": ['a, "b"', "c"]}

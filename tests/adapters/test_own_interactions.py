"""A person's own file of interactions: whatever it is written as, the same interactions come of it."""

import gzip
import io
import json
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
from helpers.dataset_files import notes, put
from helpers.interaction_rows import interactions_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmfeat import datasets
from mmfeat.datasets.own_interactions import read_own
from mmfeat.schemas.errors import DatasetError
from mmfeat.schemas.interactions import InteractionsConfig

NAMES = ["user_id", "item_id", "timestamp", "rating", "event"]
# Ids that a reader which guesses types would change.
ODD_IDS = ["007", "1e5", "ü/1", "2024-01-01", "NaN", "null", "-0", "1.0", " x ", 'a"b', "a,b", "true"]
ROWS = [("u1", i, 1_700_000_000_000 + k, k / 2, "view") for k, i in enumerate(ODD_IDS)]
MAY = 1_714_588_200_000  # 2024-05-01T18:30:00Z


def csv_of(rows, names) -> bytes:
    file = io.BytesIO()
    arrow_csv.write_csv(pa.table([list(c) for c in zip(*rows, strict=True)], names=names), file)
    return file.getvalue()


def json_of(rows, names) -> bytes:
    lines = (json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in rows)
    return "\n".join(lines).encode()


def parquet_of(rows, names) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table([list(c) for c in zip(*rows, strict=True)], names=names), file)
    return file.getvalue()


WRITERS = {
    "a.csv": csv_of,
    "a.tsv": lambda rows, names: csv_of(rows, names).replace(b'","', b'"\t"').replace(b",", b"\t"),
    "a.jsonl": json_of,
    "a.ndjson": json_of,
    "a.parquet": parquet_of,
    "a.csv.gz": lambda rows, names: gzip.compress(csv_of(rows, names)),
    "a.jsonl.gz": lambda rows, names: gzip.compress(json_of(rows, names)),
}
reuse_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)


def read(path: Path, **columns: str) -> pa.Table:
    return read_own(InteractionsConfig(file=str(path), **columns)).table


def rows_of(table: pa.Table) -> list[tuple]:
    return [tuple(row.values()) for row in table.to_pylist()]


def write(folder: Path, name: str, content: str | bytes) -> Path:
    return put(folder, {name: content}) / name


def refused(path: Path, **columns: str) -> str:
    with pytest.raises(DatasetError) as error:
        read(path, **columns)
    assert error.value.hint
    return f"{error.value.message} {error.value.hint}"


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "a.tsv"])
def test_every_kind_of_file_gives_the_same_and_ids_stay_as_they_are_written(tmp_path, name):
    path = write(tmp_path, name, WRITERS[name](ROWS, NAMES))
    assert read(path) == interactions_of(ROWS)


def test_a_tsv_is_read_by_its_tabs(tmp_path):
    path = write(tmp_path, "a.tsv", "user_id\titem_id\tstars\nu,1\t007\t4.5\n")
    assert rows_of(read(path)) == [("u,1", "007", None, 4.5, None)]


@reuse_folder
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
            st.integers(-(10**15), 10**15),
            st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
        ),
        min_size=1,
    ),
    st.sampled_from(["a.jsonl", "a.parquet"]),
)
def test_any_text_and_any_whole_number_can_be_an_id(tmp_path, rows, name):
    path = write(tmp_path, name, WRITERS[name](rows, ["user_id", "item_id", "rating"]))
    found = read(path)
    assert found["user_id"].to_pylist() == [user for user, _, _ in rows]
    assert found["item_id"].to_pylist() == [str(item) for _, item, _ in rows]
    assert found["rating"].to_pylist() == [rating for _, _, rating in rows]


def test_columns_are_found_by_their_usual_names_in_any_case_or_by_the_names_that_are_given(tmp_path):
    row = ["u", "i", 5, 1_700_000_000, "buy"]
    path = write(tmp_path, "a.csv", csv_of([row], ["userId", "ASIN", "overall", "unixReviewTime", "Action"]))
    found = read_own(InteractionsConfig(file=str(path)))
    assert rows_of(found.table) == [("u", "i", 1_700_000_000_000, 5.0, "buy")]
    assert found.columns == {
        "user": "userId", "item": "ASIN", "time": "unixReviewTime", "rating": "overall", "event": "Action",
    }  # fmt: skip
    path = write(tmp_path, "b.csv", csv_of([row], ["wer", "was", "note", "wann", "wie"]))
    named = {"user": "wer", "item": "was", "rating": "note", "time": "wann", "event": "wie"}
    assert read(path, **named) == found.table


def test_with_an_empty_name_a_usual_column_is_not_read(tmp_path):
    path = write(tmp_path, "a.csv", "user_id,item_id,rating,timestamp\nu,i,good,yesterday\n")
    assert "(none: time = '')" in refused(path)
    assert rows_of(read(path, rating="", time="")) == [("u", "i", None, None, None)]


@pytest.mark.parametrize(
    "values",
    [
        ["1714588200", "1714588260.5"],
        ["1714588200000", "1714588260500"],
        ["2024-05-01T18:30:00Z", "2024-05-01T18:31:00.500Z"],
        ["2024-05-01 18:30:00", "2024-05-01 20:31:00.500000+02:00"],
        ["2024-05-01T18:30", "2024-05-01T18:31:00.5"],
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_times_may_be_seconds_milliseconds_or_iso_texts_with_and_without_a_zone(tmp_path, kind, values):
    rows = [("u", "i", value) for value in values]
    path = write(tmp_path, f"a.{kind}", WRITERS[f"a.{kind}"](rows, ["user", "item", "time"]))
    assert read(path)["timestamp"].to_pylist() == [MAY, MAY + 60_500]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([MAY, None]).cast(pa.timestamp("ms")),
        pa.array([MAY * 1_000_000 + 999_999, None]).cast(pa.timestamp("ns", "Asia/Tokyo")),
        pa.array([MAY // 1000, None], pa.int64()),
        pa.array([MAY / 1000, None]),
    ],
    ids=lambda column: str(column.type),
)
def test_times_may_be_any_timestamp_of_parquet(tmp_path, column):
    table = pa.table({"user": ["u", "u"], "item": ["i", "j"], "time": column})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")["timestamp"].to_pylist() == [MAY, None]


def test_a_date_is_its_first_moment(tmp_path):
    table = pa.table({"user": ["u"], "item": ["i"], "date": [date(2024, 5, 1)]})
    pq.write_table(table, tmp_path / "a.parquet")
    day = int(datetime(2024, 5, 1, tzinfo=UTC).timestamp() * 1000)
    assert read(tmp_path / "a.parquet")["timestamp"].to_pylist() == [day]
    assert read(write(tmp_path, "b.csv", "user,item,date\nu,i,2024-05-01\n"))["timestamp"].to_pylist() == [
        day
    ]


def test_a_column_of_positions_gives_the_order_and_users_keep_that_of_the_file(tmp_path):
    path = write(tmp_path, "a.csv", "user,item,seq,event\nv,a,10,x\nu,b,2,y\nv,c,9,\nu,d,1,z\nu,e,1,w\n")
    found = read_own(InteractionsConfig(file=str(path)))
    assert rows_of(found.table) == [
        ("v", "c", None, None, None),
        ("v", "a", None, None, "x"),
        ("u", "d", None, None, "z"),
        ("u", "e", None, None, "w"),
        ("u", "b", None, None, "y"),
    ]
    assert found.columns["order"] == "seq"


def test_a_column_called_order_is_none_of_positions_where_there_are_times(tmp_path):
    path = write(tmp_path, "a.csv", "user,item,order,time\nu,a,A-17,5\nu,b,A-3,4\n")
    assert read(path)["item_id"].to_pylist() == ["a", "b"]
    assert "line 2: its order is 'A-17', which is no number" in refused(path, order="order")


def test_the_order_decides_beside_times(tmp_path):
    path = write(tmp_path, "a.csv", "user,item,seq,time\nu,a,2,5\nu,b,1,5\n")
    assert rows_of(read(path, order="seq")) == [("u", "b", 5000, None, None), ("u", "a", 5000, None, None)]


def test_categories_and_whole_numbers_of_parquet_are_texts(tmp_path):
    table = pa.table(
        {
            "user": pa.array(["u", "v"]).dictionary_encode(),
            "item": pa.array([7, 2**40]),
            "rating": pa.array([1, None], pa.int8()),
            "event": pa.array([3, None]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert rows_of(read(tmp_path / "a.parquet")) == [
        ("u", "7", None, 1.0, "3"),
        ("v", "1099511627776", None, None, None),
    ]


def test_lines_without_a_user_or_an_item_are_left_out_and_counted(tmp_path):
    lines = (
        '{"user": "u", "item": "i"}\n\n{"user": null, "item": "i"}\n{"user": "u"}\n{"user": " ", "item": 1}'
    )
    found = read_own(InteractionsConfig(file=str(write(tmp_path, "a.jsonl", lines))))
    assert rows_of(found.table) == [("u", "i", None, None, None)]
    assert {note.code: note.count for note in found.notes}["incomplete_interaction"] == 3


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "user,item,time\nu,i,5\nu,i,soon\n", "line 3: its time is 'soon', which is no number"),
        ("a.csv", "user,item,date\nu,i,2024-05-01\n\nu,i,05/01/24\n", "line 4: its date is '05/01/24'"),
        ("a.csv", "user,item,rating\nu,i,4\nu,i,good\n", "line 3: its rating is 'good', which is no number"),
        ("a.csv", "user,item,seq\nu,i,4\nu,i,\n", "line 3: its seq is nothing"),
        ("a.csv", "user,item\nu,i\nu\n", "line 3: it has 1 columns instead of 2"),
        ("a.csv", 'user,item\nu,"i\nu,j\n', "a quote is left open"),
        ("a.csv", "user,item,time\nu,i,1e20\n", "neither in seconds nor in milliseconds"),
        ("a.csv", "user,item,date\nu,i,20240501\nu,j,20240601\n", "dates without dashes"),
        ("a.csv", "who,item\nu,i\n", "has no column of users; its columns are: who, item"),
        ("a.csv", "user,item,item\nu,i,j\n", "several columns of one name: item"),
        ("a.csv", "", "has no column of users"),
        ("a.jsonl", '{"user": "u", "item": 1}\n{"user": "u", "item": 1.5}', "line 2: its item is 1.5"),
        ("a.jsonl", '{"user": "u", "item": true}', "cannot be the item: it is of type bool"),
        ("a.jsonl", '{"user": "u", "item": "i"}\n\n{"user": [1], "item": "i"}', "line 3: its user is [1]"),
        ("a.jsonl", '{"user": "u", "item": "i"}\n[1]', "line 2: it is not a JSON object"),
        ("a.jsonl", '{"user": "u", "item": "i"}\n{"user": ', "line 2: "),
        ("a.jsonl", '{"user": "u", "item": "i", "user": "v"}', "line 1: a key comes twice"),
        ("a.jsonl", '{"user": "\\ud800", "item": "i"}', "line 1: its user holds half a character"),
        ("a.parquet", "no", "is not a Parquet file"),
        ("a.xlsx", "", "is not a kind of file that is known"),
        ("a.parquet.gz", "", "is not a kind of file that is known"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_an_error_that_names_the_line_and_what_to_do(tmp_path, name, content, said):
    assert said in refused(write(tmp_path, name, content))


def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        path = write(tmp_path, name, WRITERS[name](ROWS, NAMES))
        said = refused(path, rating="ratin")
        assert "has no column 'ratin' for rating" in said
        assert "rating" in said.partition("for rating")[2]
    assert "There is no file of interactions" in refused(tmp_path / "b.csv")


def test_nanoseconds_of_parquet_are_told_to_be_neither_seconds_nor_milliseconds(tmp_path):
    table = pa.table({"user": ["u"], "item": ["i"], "time": [MAY * 1_000_000 + 1]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert "neither in seconds nor in milliseconds" in refused(tmp_path / "a.parquet")


def test_one_column_cannot_be_both_users_and_items(tmp_path):
    path = write(tmp_path, "a.csv", "user,item\nu,i\n")
    assert "'item' cannot be both the users and the items" in refused(path, user="item")


def test_floats_of_parquet_are_no_ids(tmp_path):
    pq.write_table(pa.table({"user": ["u"], "item": [1.0]}), tmp_path / "a.parquet")
    assert "'item' cannot be the item: it is of type double" in refused(tmp_path / "a.parquet")


def test_a_column_that_json_lines_have_only_late_is_read_all_the_same(tmp_path):
    lines = [json.dumps({"user": f"u{n}", "item": n}) for n in range(1_001)]
    lines.append(json.dumps({"user": "u", "item": 1, "rating": 4, "kind": "buy"}))
    path = write(tmp_path, "a.jsonl", "\n".join(lines))
    found = read(path, event="kind")
    assert rows_of(found)[-1] == ("u", "1", None, 4.0, "buy")
    assert "has no column 'sort' for event" in refused(path, event="sort")


def test_json_lines_of_mixed_types_are_read_line_by_line(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"user": 1, "item": "a"}\n{"user": "b", "item": 2, "rating": 0.5}')
    assert rows_of(read(path)) == [("1", "a", None, None, None), ("b", "2", None, 0.5, None)]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_reading_calls_nothing_for_each_row(tmp_path, name):
    n = 20_000
    rows = [(f"u{k}", f'"i{k}', 1_700_000_000 + k, float(k), "view") for k in range(n)]
    config = InteractionsConfig(file=str(write(tmp_path, name, WRITERS[name](rows, NAMES))))
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        found = read_own(config)
    finally:
        sys.setprofile(None)
    assert len(found.table) == n
    # Of JSON lines the first thousand are looked at, with a few calls each.
    assert calls < n


def test_table_and_folder_take_a_file_of_interactions_and_count_the_unknown_items(tmp_path):
    put(tmp_path, {"items.csv": "id,title\n007,a\n1e5,b\n", "media/007.jpg": b"x", "media/1e5.jpg": b"y"})
    clicks = write(tmp_path, "clicks.csv", "user,item\nu,007\nu,7\nv,1e5\nv,100000\nw,7\n")
    for name, root in (("table", tmp_path / "items.csv"), ("folder", tmp_path / "media")):
        found = datasets.load(name, root, interactions=str(clicks))
        assert found.items["item_id"].to_pylist() == ["007", "1e5"] or name == "folder"
        assert found.interactions["item_id"].to_pylist() == ["007", "7", "1e5", "100000", "7"]
        unknown = notes(found)["unknown_items"]
        assert (unknown.count, unknown.examples) == (3, ("7", "100000"))
        assert notes(found)["interaction_columns"].examples == ("user from user", "item from item")
        checked = [note for note in datasets.check(found).notes if note.code == "unknown_items"]
        assert checked == [unknown]


def test_a_file_of_interactions_in_the_folder_itself_is_not_told_to_be_unread(tmp_path):
    put(tmp_path, {"a.jpg": b"x", "notes.txt": b"n"})
    clicks = write(tmp_path, "clicks.csv", "user,item\nu,a\n")
    found = datasets.load("folder", tmp_path, interactions=str(clicks))
    assert found.interactions["item_id"].to_pylist() == ["a"]
    assert notes(found)["not_read"].examples == ("notes.txt",)


def test_a_dataset_with_interactions_of_its_own_takes_no_others(tmp_path):
    with pytest.raises(DatasetError, match="'amazon' takes no interactions of your own") as error:
        datasets.load("amazon", tmp_path, interactions={"file": "a.csv"})
    assert error.value.hint == "These do: folder, huggingface, table."
    with pytest.raises(DatasetError, match=r"interactions.*local file"):
        datasets.load("table", write(tmp_path, "i.csv", "id\n1\n"), interactions="s3://bucket/a.csv")
    with pytest.raises(DatasetError, match="colum"):
        datasets.load("table", tmp_path / "i.csv", interactions={"file": "a.csv", "colum": "x"})

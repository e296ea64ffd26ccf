"""Every run leaves a record and a log, without secrets; rows that are not conserved end it with an error."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers import unrayed, worlds

import mmfeat
from mmfeat.pipelines import record
from mmfeat.pipelines.execution.base import Executor
from mmfeat.pipelines.execution.batch import RESULTS_SCHEMA
from mmfeat.schemas.errors import ConservationError, GateFailed
from mmfeat.schemas.redact import redact, redact_values
from mmfeat.store import Store


@pytest.fixture
def table(tmp_path) -> Path:
    return unrayed.write_dataset(tmp_path / "items.csv", 0)


@pytest.fixture
def uri(tmp_path) -> str:
    return str(tmp_path / "store")


def test_a_record_says_what_was_run_with_what_where_by_whom_and_what_came_of_it(uri, table):
    unrayed.run_once(uri, table)
    (found,) = mmfeat.open(uri).runs()
    assert (found["kind"], found["end"], found["pid"]) == ("extract", "completed", os.getpid())
    assert found["seconds"] > 0
    assert found["by"].endswith(f"@{socket.gethostname()}")
    assert found["machine"]["cpus"] == os.cpu_count()
    assert found["packages"]["pylance"] and found["packages"]["mmfeat"] == mmfeat.__version__
    assert found["dataset"] == {"name": "table", "root": str(table), "items": unrayed.N_ITEMS}
    assert found["versions"] == [spec.version for spec in unrayed.specs()]
    assert [spec["name"] for spec in found["specs"]] == ["title_vector", "caption"]
    assert found["job"]["run"]["max_failed"] == 1.0
    caption = found["report"]["features"][1]
    assert (caption["ok"], caption["missing"], caption["failed"]) == (55, 0, 5)
    assert caption["reasons"] == {"encode: it is broken": 5}


def test_a_log_says_in_order_how_the_run_went(uri, table):
    unrayed.run_once(uri, table)
    (found,) = mmfeat.open(uri).runs()
    log = mmfeat.open(uri).run_log(found["run_id"])
    messages = [message for _, message in log]
    assert messages[0].startswith("extract started by ")
    assert "rows planned: 60 of title_vector@" in messages[1]
    assert sum(int(m.split(": ")[1].split()[0]) for m in messages if m.endswith("rows committed")) == 120
    assert messages[-1].startswith("completed after ")
    times = [time for time, _ in log]
    assert times == sorted(times) and times[-1] - times[0] < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("stop", "end"),
    [(KeyboardInterrupt(), "interrupted"), (RuntimeError("the model fell over"), "RuntimeError: the model")],
    ids=["Ctrl-C", "an error"],
)
def test_a_run_that_is_stopped_says_by_what_and_keeps_what_it_had(uri, table, stop, end):
    class Stopping(unrayed.InSmallBlocks):
        def results(self) -> Generator[pa.Table]:
            for number, results in enumerate(super().results()):
                if number == 4:
                    raise stop
                yield results

    with pytest.raises(type(stop)):
        unrayed.run_once(uri, table, executor=Stopping())
    (found,) = mmfeat.open(uri).runs()
    assert found["end"].startswith(end)
    assert mmfeat.open(uri).run_log(found["run_id"])[-1][1].startswith(end)
    kept = sum(len(rows) for rows in unrayed.contents(uri).values())
    assert 4 * 8 <= kept < 120
    features = found["report"]["features"]
    assert sum(f["ok"] + f["missing"] + f["failed"] for f in features) == kept
    assert features[1]["reasons"] == {"encode: it is broken": features[1]["failed"]}


def test_a_run_that_falls_short_of_its_gate_says_so(uri, table):
    with pytest.raises(GateFailed):
        unrayed.run_once(uri, table, max_failed=0.01)
    (found,) = mmfeat.open(uri).runs()
    assert found["end"].startswith("GateFailed: caption@")
    assert found["report"]["features"][1]["failed"] == 5


def test_runs_list_and_show_are_for_people_and_machines(uri, table, run):
    unrayed.run_once(uri, table)
    unrayed.write_dataset(table, 1)
    unrayed.run_once(uri, table)
    code, out, _ = run("runs", "list", "--store", uri, "--json")
    first, second = json.loads(out)
    code, out, _ = run("runs", "list", "--store", uri)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["run", "kind"]
    assert [line.split()[0] for line in lines[1:]] == [first["run_id"], second["run_id"]]
    assert lines[1].split()[-4:] == ["110", "5", "5", "completed"]  # ok, missing and failed
    code, out, _ = run("runs", "list", "--limit", 1, "--store", uri, "--json")
    assert [r["run_id"] for r in json.loads(out)] == [second["run_id"]]
    code, out, _ = run("runs", "show", first["run_id"][:6], "--store", uri)
    assert code == 0
    assert f"Run {first['run_id']} (extract): completed" in out
    assert "5 x encode: it is broken" in out and "extract started by" in out
    code, out, _ = run("runs", "show", "--store", uri, "--json")
    shown = json.loads(out)
    assert shown["run_id"] == second["run_id"] and shown["log"][-1]["message"].startswith("completed")


def test_a_run_that_is_not_there_is_wrong_use(uri, table, run):
    Store.open(uri, create=True)
    code, _, err = run("runs", "show", "--store", uri)
    assert code == 2 and "There is no run in" in err
    unrayed.run_once(uri, table)
    code, _, err = run("runs", "show", "no-such", "--store", uri)
    assert code == 2 and "There is no run 'no-such'" in err and "mmfeat runs list" in err
    unrayed.run_once(uri, table)
    code, _, err = run("runs", "show", "", "--store", uri)
    assert code == 2 and "2 runs begin with ''" in err


def test_secrets_of_the_command_line_and_the_job_are_nowhere_in_the_store(uri, tmp_path, run):
    # No item has a cover: nothing is computed, and neither Ray nor a model starts.
    (tmp_path / "items.csv").write_text("item_id,title\na,one\nb,two\n")
    settings = "\n".join(f'{key} = "{value}"' for key, value in worlds.CLIP.items())
    (tmp_path / "features.toml").write_text(f"[features.clip]\n{settings}\n")
    code, _, err = run(
        "extract", "--dataset", "table", "--root", tmp_path / "items.csv", "--store", uri,
        "--config", tmp_path / "features.toml", "--ray-address", "ray://user:hunter2@cluster:10001",
    )  # fmt: skip
    assert code == 0, err
    (found,) = mmfeat.open(uri).runs()
    assert "extract --dataset table" in found["command"]
    assert "ray://***@cluster:10001" in found["command"]
    assert found["job"]["resources"]["ray_address"] == "ray://***@cluster:10001"
    for path in Path(uri).rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("s3://KEY:SECRET@bucket/prefix", "s3://***@bucket/prefix"),
        ("https://h/x.jpg?X-Amz-Signature=ab12&w=1", "https://h/x.jpg?X-Amz-Signature=***&w=1"),
        ("https://h/x.jpg?sv=1&sig=ab%3D", "https://h/x.jpg?sv=1&sig=***"),
        ("-o token=abc", "-o token=***"),
        ("AWS_SECRET_ACCESS_KEY=abc", "AWS_SECRET_ACCESS_KEY=***"),
        ("the key hf_abcdefghijkl is wrong", "the key *** is wrong"),
        ("max_new_tokens=64 tokenizer=bert key=item_id", "max_new_tokens=64 tokenizer=bert key=item_id"),
        ("a@b.example and s3://bucket/a@b", "a@b.example and s3://bucket/a@b"),
    ],
)
def test_what_is_a_secret_is_hidden_and_what_is_none_is_kept(text, left):
    assert redact(text) == left


@pytest.mark.parametrize("text", ["x" * 300_000, "a." * 150_000, "://" * 100_000, "k=" * 150_000])
def test_hiding_secrets_takes_no_time_that_grows_with_the_square_of_a_text(text):
    began = time.process_time()
    assert redact(text) == text
    assert time.process_time() - began < 2


def test_a_setting_named_like_a_secret_is_hidden_whatever_it_holds():
    settings = {"api_key": 5, "api_key_env": "MY_KEY", "inner": [{"password": "x", "max_tokens": 7}]}
    hidden = {"api_key": "***", "api_key_env": "MY_KEY", "inner": [{"password": "***", "max_tokens": 7}]}
    assert redact_values(settings) == hidden


def test_a_log_is_bounded_and_says_what_it_left_out(uri, monkeypatch):
    monkeypatch.setattr(record, "MAX_LINES", 100)
    store = Store.open(uri, create=True)
    with store.lease("run r1"), record.recorded(store, "test", "r1", datetime.now(UTC), {}) as recording:
        for number in range(150):
            recording.say(f"{number} " + "x" * 10_000)
    log = [message for _, message in mmfeat.open(uri).run_log("r1")]
    assert len(log) == 100 + 2
    assert log[-2] == "51 more lines are left out"  # the run's own first line counts
    assert log[-1].startswith("completed")
    assert max(map(len, log)) <= 500


def test_logs_older_than_ninety_days_go_and_records_stay(uri, table):
    unrayed.run_once(uri, table)
    store = Store.open(uri)
    run_id = store.runs()[0]["run_id"]
    old = datetime.now(UTC) - timedelta(days=91)
    store.logs.add("old", [(old, "long ago")])
    store.record_run({"run_id": "old", "end": "completed"})
    assert len(store.logs.of("old")) == 1
    unrayed.run_once(uri, table)
    opened = mmfeat.open(uri)
    assert opened.run_log("old") == []
    assert len(opened.run_log(run_id)) > 3
    assert "old" in [r["run_id"] for r in opened.runs()]


class Dropping(unrayed.InSmallBlocks):
    """An executor with a defect: the last result of a block never comes."""

    def results(self) -> Generator[pa.Table]:
        for results in super().results():
            yield results.slice(0, len(results) - 1)

    def alone(self, work: pa.Table) -> Generator[pa.Table]:
        yield RESULTS_SCHEMA.empty_table()


def forgetful(commit: Any) -> Any:
    """A store with a defect: it says that it committed a row that it did not."""
    return lambda store, version, rows, replace: commit(store, version, rows.slice(1), replace)


def doubling(commit: Any) -> Any:
    """A store with a defect: a group is there twice."""

    def twice(store: Store, version: Any, rows: pa.Table, replace: bool) -> None:
        commit(store, version, rows, replace)
        commit(store, version, rows, replace=False)

    return twice


def not_conserved(uri: str, table: Path, said: str, executor: Executor | None = None) -> None:
    with pytest.raises(ConservationError, match=said) as caught:
        unrayed.run_once(uri, table, executor=executor)
    assert caught.value.exit_code == 1
    (found,) = mmfeat.open(uri).runs()
    assert found["end"].startswith("ConservationError: ") and said in found["end"]


def test_results_that_never_come_are_an_error_of_the_run(uri, table):
    not_conserved(uri, table, "60 rows were planned and", Dropping())


@pytest.mark.parametrize(
    ("defect", "said"),
    [
        (forgetful, "the store should hold 60 rows and holds"),
        (doubling, "the store should hold 60 rows and holds 120"),
    ],
    ids=["a lost row", "doubled rows"],
)
def test_rows_that_the_store_does_not_conserve_are_an_error_of_the_run(uri, table, monkeypatch, defect, said):
    monkeypatch.setattr(Store, "commit", defect(Store.commit))
    not_conserved(uri, table, said)


def test_a_replacement_that_loses_a_row_is_an_error_too(uri, table, monkeypatch):
    unrayed.run_once(uri, table)
    unrayed.write_dataset(table, 1)
    monkeypatch.setattr(Store, "commit", forgetful(Store.commit))
    # Of the four new items; a changed item's old row would stay, which the next run finds.
    with pytest.raises(ConservationError, match="the store should hold 64 rows and holds"):
        unrayed.run_once(uri, table)

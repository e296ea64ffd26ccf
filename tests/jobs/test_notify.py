"""Somebody is told how a run ended; whether that works changes nothing of how it ended."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Generator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest
from helpers import unrayed

import mmfeat
from mmfeat.schemas.errors import ConfigError, GateFailed, Interrupted, StoreError
from mmfeat.schemas.job import parse_job
from mmfeat.store import Store

WEBHOOK = {"webhook_env": "TEST_WEBHOOK"}


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted to it and answers ``status``, after ``seconds``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.seconds = 204, 0.0
        self.got: list[dict] = []


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        assert self.headers["Content-Type"] == "application/json"
        self.server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        time.sleep(self.server.seconds)
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()


@pytest.fixture
def receiver(monkeypatch) -> Iterator[Receiver]:
    server = Receiver()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("TEST_WEBHOOK", f"http://127.0.0.1:{server.server_port}/hook?key=s3cr3t")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def table(tmp_path) -> Path:
    return unrayed.write_dataset(tmp_path / "items.csv", 0)


@pytest.fixture
def uri(tmp_path) -> str:
    return str(tmp_path / "store")


def test_a_webhook_is_told_of_a_success_with_its_report(uri, table, receiver):
    report = unrayed.run_once(uri, table, {"notify": WEBHOOK})
    assert report.notices == []
    (told,) = receiver.got
    assert (told["event"], told["exit_code"], told["end"]) == ("success", 0, "completed")
    assert (told["run_id"], told["dataset"], told["store"]) == (report.run_id, "table", uri)
    assert told["report"]["promoted"] == report.promoted
    assert told["text"] == f"mmfeat: run {report.run_id} of 'table' completed"


def test_a_webhook_is_told_of_a_gate_that_fell_short_and_of_a_failure(uri, table, receiver):
    with pytest.raises(GateFailed):
        unrayed.run_once(uri, table, {"notify": WEBHOOK, "gates": {"min_coverage": 0.99}})
    with Store.open(uri).lease("another"), pytest.raises(StoreError):
        unrayed.run_once(uri, table, {"notify": WEBHOOK})
    assert [(told["event"], told["exit_code"]) for told in receiver.got] == [("gate", 3), ("failure", 1)]
    assert receiver.got[0]["report"]["gates"]
    assert "another" in receiver.got[1]["end"]


def test_only_what_the_job_asks_for_is_told(uri, table, receiver):
    unrayed.run_once(uri, table, {"notify": {**WEBHOOK, "on": ["failure", "gate"]}})
    assert receiver.got == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [((500, 0.0), "it answered 500"), ((302, 0.0), "it answered 302"), ((204, 2.0), "TimeoutError")],
)
def test_a_webhook_that_fails_is_noted_without_its_address_and_the_run_succeeds(
    uri, table, receiver, answer, said
):
    receiver.status, receiver.seconds = answer
    report = unrayed.run_once(uri, table, {"notify": {**WEBHOOK, "timeout_seconds": 0.5}})
    assert report.notices == [f"the webhook of TEST_WEBHOOK was not told: {said}"]
    (record,) = mmfeat.open(uri).runs()
    log = mmfeat.open(uri).run_log(record["run_id"])
    assert record["end"] == "completed"
    assert any(said in line for _, line in log)
    assert "s3cr3t" not in json.dumps(record) + str(log) + str(report)


def test_a_failing_webhook_leaves_the_error_that_ended_the_run(uri, table, receiver):
    receiver.status = 500
    with pytest.raises(GateFailed, match="min_coverage"):
        unrayed.run_once(uri, table, {"notify": WEBHOOK, "gates": {"min_coverage": 0.99}})


def test_a_program_gets_the_message_on_standard_input_and_no_shell_reads_it(uri, table, tmp_path):
    out = tmp_path / "told $(x).json"
    copy = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())"
    unrayed.run_once(uri, table, {"notify": {"command": [sys.executable, "-c", copy, str(out)]}})
    assert json.loads(out.read_text())["event"] == "success"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["/no/such/program"], "/no/such/program was not told: No such file or directory"),
        ([sys.executable, "-c", "import sys; sys.exit('it is late')"], "it ended with 1: it is late"),
        ([sys.executable, "-c", "import time; time.sleep(30)"], "it took longer than 0.5 s"),
    ],
)
def test_a_program_that_fails_is_noted(uri, table, command, said):
    report = unrayed.run_once(uri, table, {"notify": {"command": command, "timeout_seconds": 0.5}})
    assert said in report.notices[0]


@pytest.mark.parametrize("value", [None, "ftp://x/y", "/etc/passwd"])
def test_a_webhook_that_is_no_address_is_refused_before_any_work(uri, table, monkeypatch, value):
    monkeypatch.delenv("TEST_WEBHOOK", raising=False)
    if value is not None:
        monkeypatch.setenv("TEST_WEBHOOK", value)
    with pytest.raises(ConfigError, match="variable TEST_WEBHOOK"):
        unrayed.run_once(uri, table, {"notify": WEBHOOK})
    assert not Path(uri).exists()


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"notify": {}}, "needs webhook_env or command"),
        ({"notify": {"webhook_env": "https://hooks.example/s3cr3t"}}, "name of an environment variable"),
        ({"notify": {"command": []}}, "[notify]: command: "),
        ({"notify": {"command": ["x"], "on": ["sometimes"]}}, "[notify]: on.0: "),
        ({"gates": {"min_coverage": 1.5}}, "[gates]: min_coverage: "),
        ({"gates": {"coverage": 0.5}}, "[gates]: coverage: "),
        ({"keep": {"versions": 0}}, "[keep]: versions: "),
        ({"keep": {}}, "[keep]: versions: "),
    ],
)
def test_a_wrong_table_is_an_error_that_names_it_and_repeats_no_secret(tables, said):
    job = {"store": {"uri": "x"}, "dataset": {"name": "sample"}, "features": {"a": {"source": "title"}}}
    with pytest.raises(ConfigError) as caught:
        parse_job({**job, **tables}, "job.toml")
    assert said in caught.value.message and "s3cr3t" not in caught.value.message
    assert caught.value.exit_code == 2


class Interrupting(unrayed.InSmallBlocks):
    """Ctrl-C once everything is computed, and before the last rows are committed."""

    def results(self) -> Generator[pa.Table]:
        yield from super().results()
        raise KeyboardInterrupt


def test_a_run_that_is_interrupted_is_told_as_a_failure(uri, table, receiver):
    with pytest.raises(Interrupted) as ended:
        unrayed.run_once(uri, table, {"notify": WEBHOOK}, executor=Interrupting())
    committed = [(f.ok, f.missing, f.failed) for f in ended.value.report.features]
    assert [sum(counts) for counts in committed] == [unrayed.N_ITEMS, unrayed.N_ITEMS]
    (told,) = receiver.got
    assert (told["event"], told["exit_code"], told["end"]) == ("failure", 130, "interrupted")
    assert [(f["ok"], f["missing"], f["failed"]) for f in told["report"]["features"]] == committed


def test_a_wrong_job_file_is_told_where_its_notify_table_can_be_read(run, tmp_path, receiver):
    notify = '[notify]\nwebhook_env = "TEST_WEBHOOK"\n'
    (tmp_path / "wrong.toml").write_text(f"[dataset]\nname = 'sample'\n{notify}")
    code, _, err = run("run", "wrong.toml")
    assert code == 2 and "store" in err and "Traceback" not in err
    (told,) = receiver.got
    assert (told["event"], told["exit_code"], told["run_id"], told["report"]) == ("failure", 2, None, None)
    assert told["text"].startswith("mmfeat: a job failed: wrong.toml: store: ")
    for unreadable in (f"{notify}[dataset", "[dataset]\n[notify]\n", "x = 1\n"):
        (tmp_path / "wrong.toml").write_text(unreadable)
        assert run("run", "wrong.toml")[0] == 2
    assert run("run", "no-such.toml")[0] == 2
    assert len(receiver.got) == 1


def test_a_wrong_job_file_whose_webhook_is_not_told_says_so(run, tmp_path, monkeypatch):
    monkeypatch.delenv("TEST_WEBHOOK", raising=False)
    (tmp_path / "wrong.toml").write_text('[notify]\nwebhook_env = "TEST_WEBHOOK"\n')
    code, _, err = run("run", "wrong.toml")
    assert code == 2 and "the webhook of TEST_WEBHOOK was not told" in err


def test_a_webhook_that_is_no_address_leaves_the_command_to_be_told(uri, table, tmp_path, monkeypatch):
    monkeypatch.delenv("TEST_WEBHOOK", raising=False)
    out = tmp_path / "told.json"
    copy = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())"
    command = [sys.executable, "-c", copy, str(out)]
    with pytest.raises(ConfigError, match="TEST_WEBHOOK is not set"):
        unrayed.run_once(uri, table, {"notify": {**WEBHOOK, "command": command}})
    told = json.loads(out.read_text())
    assert (told["event"], told["exit_code"]) == ("failure", 2) and "TEST_WEBHOOK" in told["end"]

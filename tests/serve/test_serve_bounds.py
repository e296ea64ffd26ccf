"""What callers can make the service hold and wait for: before they are known, and after."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable

import httpx
import numpy as np
import pytest
from helpers.serving import IDS, is_problem, running
from test_serve_process import CLI, serving

from mmfeat.client import Client
from mmfeat.serve.budget import Budget
from mmfeat.serve.workers import Busy

HALF_A_HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Half: "
ONE_HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connect(url: str, first: bytes = b"", **options: int) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    line = socket.socket()
    if buffer := options.get("buffer"):
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    line.settimeout(60)
    line.connect((host, int(port)))
    line.sendall(first)
    return line


def rest(line: socket.socket) -> bytes:
    """All that comes until the service ends the connection."""
    parts = []
    try:
        while part := line.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def is_open(line: socket.socket) -> bool:
    line.setblocking(False)
    try:
        return line.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


def soon(what: Callable[[], bool]) -> bool:
    """Whether it comes to be so; how soon is the machine's affair."""
    for _ in range(1200):
        if what():
            return True
        time.sleep(0.05)
    return False


def post(path: str, body: bytes, announced: int | None = None) -> bytes:
    size = len(body) if announced is None else announced
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    )
    return head.encode() + body


def many(times: int) -> dict[str, object]:
    return {"ids": ["item-0"] * times, "features": ["clip"]}


def test_a_feature_named_again_and_again_is_read_once_and_a_long_list_is_refused(service):
    some, far_more = ["clip", "noise"] * 100, ["clip"] * 10_000
    found = service.http.post("/v1/lookup", json={"ids": ["item-0"], "features": some}).json()
    assert list(found["features"]) == ["clip", "noise"]
    is_problem(
        service.http.post("/v1/lookup", json={"ids": ["item-0"], "features": far_more}), 422, "InvalidRequest"
    )
    few = {"id": "item-0", "feature": some}
    assert list(service.http.get("/v1/lookup", params=few).json()["features"]) == ["clip", "noise"]
    is_problem(
        service.http.get("/v1/lookup", params={"id": "item-0", "feature": far_more[:300]}),
        422,
        "InvalidRequest",
    )


@pytest.mark.parametrize(
    "body",
    [
        {"feature": "clip", "vector": [0.5] * 70_000},
        {"feature": "clip", "text": "a" * 40_000},
        {"feature": "c" * 1_000, "item": "item-0"},
        {"feature": "clip", "item": "item-0", "snapshot": "s" * 1_000},
    ],
)
def test_a_question_without_measure_is_refused_before_it_is_read(served_store, body):
    with running(served_store) as service:
        problem = is_problem(service.http.post("/v1/search", json=body), 422, "InvalidRequest")
        assert len(json.dumps(problem)) < 1_000


@pytest.mark.parametrize("form", ["application/json", "application/vnd.apache.arrow.stream"])
def test_an_answer_without_measure_is_refused_and_one_in_parts_is_not(served_store, form):
    with running(served_store, max_answer_bytes=4_000) as service:
        headers = {"Accept": form}
        assert service.http.post(
            "/v1/lookup", json={"ids": ["item-0"], "features": ["noise"]}, headers=headers
        )
        is_problem(service.http.post("/v1/lookup", json=many(500), headers=headers), 413, "TooMuch")
        assert service.app.state.service.budget.held == 0


def test_a_page_without_measure_is_refused_too(served_store):
    with running(served_store, ui=True, max_answer_bytes=1_500) as service:
        is_problem(service.http.get("/items"), 413, "TooMuch")
        assert service.http.get("/v1/lookup", params={"id": "item-0", "feature": "noise"}).is_success


def test_the_client_asks_for_fewer_at_once_where_the_answer_would_be_too_large(served_store, opened):
    asked = IDS * 20
    with running(served_store, max_answer_bytes=12_000) as service, Client(service.url, retries=0) as client:
        found = client.lookup(asked, ["noise"])
    assert found.ids == asked
    np.testing.assert_array_equal(found["noise"].matrix, opened.lookup(asked, ["noise"])["noise"].matrix)


def test_clients_that_do_not_read_hold_no_more_than_the_budget_and_are_cut_off(served_store):
    body = post("/v1/lookup", json.dumps(many(20_000)).encode())
    with running(served_store, max_ids=20_000, max_held_bytes=64 << 20, timeout_seconds=20) as service:
        budget = service.app.state.service.budget
        whole = service.http.post("/v1/lookup", json=many(20_000))
        assert whole.is_success, whole.text
        size = len(whole.content)
        assert size > 4 << 20
        mute = [connect(service.url, body, buffer=4096) for _ in range(20)]
        assert soon(lambda: budget.held > size), "no answer waits for its reader"
        assert budget.held <= budget.total
        # Those who read go on: the rest is small, and so is what is asked for in parts.
        assert service.http.get("/v1/lookup", params={"id": "item-0"}).is_success
        assert soon(lambda: budget.held == 0), "an answer waits for ever"
        taken = [rest(line) for line in mute]
    refused = [answer for answer in taken if b"503 Service" in answer[:40]]
    assert refused and all(b"retry-after: 1" in answer.lower() for answer in refused)
    assert all(len(answer) < size for answer in taken)


def test_bodies_that_never_end_hold_no_more_than_the_budget(served_store):
    with running(served_store, max_held_bytes=100_000, timeout_seconds=300) as service:
        budget = service.app.state.service.budget
        slow = connect(service.url, post("/v1/lookup", b" " * 59_000, announced=60_000))
        assert soon(lambda: budget.held == 59_000)
        with connect(service.url, post("/v1/lookup", b" " * 59_000, announced=60_000)) as another:
            assert rest(another).startswith(b"HTTP/1.1 503 ")
        assert service.http.get("/v1/lookup", params={"id": "item-0"}).is_success
        slow.close()
        assert soon(lambda: budget.held == 0)


def test_what_does_not_fit_the_budget_is_refused_and_leaves_nothing_behind():
    budget = Budget(10)
    with budget.holding() as one, budget.holding() as other:
        one.take(4)
        one.take(4)
        with pytest.raises(Busy):
            other.take(3)
        other.take(2)
        assert budget.held == 10
    assert budget.held == 0


def test_half_sent_heads_make_room_for_whoever_sends_a_whole_one(served_store):
    with running(served_store, max_connections=8, head_seconds=300) as service:
        half = [connect(service.url, HALF_A_HEAD) for _ in range(40)]
        assert httpx.get(f"{service.url}/healthz", timeout=60).is_success
        assert soon(lambda: sum(map(is_open, half)) < 8)


def test_a_thousand_half_sent_heads_do_not_take_the_files_that_a_process_may_open(served_store):
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n"
    with serving(served_store, program=few + CLI) as (_, url):
        half = [connect(url, HALF_A_HEAD) for _ in range(400)]
        for _ in range(3):
            assert httpx.post(f"{url}/v1/lookup", json={"ids": ["item-0"]}, timeout=60).is_success
        for line in half:
            line.close()


@pytest.mark.parametrize(
    "sent", [b"", b"\r\n", b"G", HALF_A_HEAD, ONE_HEAD + b"G", ONE_HEAD + b"\r\n", ONE_HEAD + HALF_A_HEAD]
)
def test_a_head_that_does_not_come_ends_the_connection(served_store, sent):
    with running(served_store, head_seconds=0.3) as service:
        line = connect(service.url, sent)
        assert rest(line).count(b"HTTP/1.1 200 OK") == sent.count(ONE_HEAD)


def test_a_head_that_comes_a_byte_at_a_time_gains_no_time_by_it(served_store):
    with running(served_store, head_seconds=0.3) as service:
        line = connect(service.url, HALF_A_HEAD)

        def is_ended() -> bool:
            try:
                line.sendall(b"a")
            except OSError:
                return True
            return not is_open(line)

        assert soon(is_ended)


def test_a_head_without_end_is_refused(served_store):
    with running(served_store, head_seconds=300) as service:
        line = connect(service.url, HALF_A_HEAD + b"a" * 200_000)
        assert rest(line).startswith(b"HTTP/1.1 431 ") or not is_open(line)


@pytest.mark.parametrize(
    "host", ["LOCALHOST", "LocalHost:8080", "localhost.", "localhost.:80", "[0:0:0:0:0:0:0:1]"]
)
def test_this_machine_may_be_written_in_any_way(served_store, host):
    with running(served_store, local=True) as service:
        assert service.http.get("/v1/features", headers={"Host": host}).is_success
        for other in (f"{host}.evil.example", f"evil.{host}", "127.0.0.1.evil.example", "0x7f.evil"):
            is_problem(service.http.get("/v1/features", headers={"Host": other}), 403, "WrongHost")


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": "OWN"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "http://localhost:1"}, False),
        ({"Origin": "null"}, False),
        ({"Referer": "OWN/items?q=x"}, True),
        ({"Referer": "http://evil.example/page"}, False),
        ({"Referer": "OWN.evil.example/page"}, False),
        ({"Sec-Fetch-Site": "none", "Referer": "http://evil.example/"}, True),
        ({"Referer": "about:blank"}, True),
    ],
)
def test_a_page_of_another_site_can_start_no_work(served_store, headers, passes):
    with running(served_store, local=True, ui=True) as service:
        sent = {name: value.replace("OWN", service.url) for name, value in headers.items()}
        asked = [
            service.http.get("/v1/lookup", params={"id": "item-0"}, headers=sent),
            service.http.get("/search", params={"feature": "clip", "text": ""}, headers=sent),
            service.http.post("/v1/search", json={"feature": "noise", "item": "item-0"}, headers=sent),
        ]
        for answer in asked:
            if passes:
                assert answer.is_success
            else:
                is_problem(answer, 403, "OtherSite")
        assert service.http.get("/healthz", headers=sent).is_success


def test_errors_tell_no_part_of_where_a_store_lies_however_it_was_named(served_store, monkeypatch):
    monkeypatch.chdir(served_store.parent.parent)
    named = f"{served_store.parent.name}/store"
    with running(named, ui=True) as service:
        answers = [
            service.http.get("/v1/lookup", params={"id": "no such"}),
            service.http.get("/v1/features/nothing"),
            service.http.get("/v1/features/clip@ffffffff"),
            service.http.get("/v1/features", params={"snapshot": "nothing"}),
            service.http.get("/failures", params={"feature": "nothing"}),
        ]
    for answer in answers:
        detail = answer.json()["detail"] if "json" in answer.headers["content-type"] else answer.text
        assert answer.status_code == 404
        assert str(served_store.parent.parent).strip("/") not in answer.text
        assert served_store.parent.parent.name not in detail


def test_a_short_name_of_a_store_leaves_the_words_of_errors_alone(served_store, monkeypatch):
    monkeypatch.chdir(served_store.parent)
    with running("store") as service:
        problem = service.http.get("/v1/features/nothing").json()
    assert problem["detail"] == "There is no feature 'nothing' in the store."


def test_sigterm_ends_it_though_work_hangs_that_nobody_waits_for(served_store):
    # Looking for this module hangs in the thread that loads the encoder.
    hanging = (
        "import sys, threading\n"
        "class Hanging:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'mmfeat.extract.registry':\n"
        "            threading.Event().wait()\n"
        "sys.meta_path.insert(0, Hanging())\n"
    )
    with serving(served_store, "--timeout", "1", program=hanging + CLI) as (process, url):
        query = {"feature": "clip", "text": "a red circle"}
        assert httpx.post(f"{url}/v1/search", json=query, timeout=300).status_code == 504
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (0, "", "")

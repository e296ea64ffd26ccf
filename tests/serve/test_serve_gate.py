"""Keys, limits and what operators see."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import httpx
import pytest
from helpers.serving import is_problem, running

from mmfeat.schemas.errors import ConfigError
from mmfeat.serve.settings import read_keys
from mmfeat.serve.workers import Busy, TooSlow, Workers

KEY, OTHER = "k" * 32, "o" * 32
QUERY = {"params": {"id": "item-0"}}


@pytest.fixture(scope="module")
def locked(served_store):
    """A service with keys, one request at a time, and little patience."""
    with running(served_store, keys=(KEY, OTHER), max_concurrent=1, timeout_seconds=0.5) as service:
        yield service


def test_without_one_of_the_keys_nothing_is_told(locked):
    refused = [
        ({}, "NoKey"),
        ({"Authorization": f"Bearer {KEY}x"}, "WrongKey"),
        ({"Authorization": "Bearer"}, "WrongKey"),
        ({"Authorization": "Bearer \u00fc".encode()}, "WrongKey"),
        ({"Authorization": "Basic !!!"}, "WrongKey"),
        ({"Authorization": "Basic \u00e9".encode()}, "WrongKey"),
        ({"Authorization": b"Basic \xe9"}, "WrongKey"),
        ({"Authorization": KEY}, "WrongKey"),
    ]
    for path in ("/v1/lookup", "/metrics", "/openapi.json", "/no such page"):
        for headers, error in refused:
            answer = locked.http.get(path, headers=headers, **QUERY)
            is_problem(answer, 401, error)
            assert "Bearer" in answer.headers["www-authenticate"]


def test_each_key_opens_the_service_to_programs_and_to_browsers(locked):
    for key in (KEY, OTHER):
        assert locked.http.get("/v1/lookup", headers={"Authorization": f"Bearer {key}"}, **QUERY).is_success
        assert locked.http.get("/v1/lookup", auth=httpx.BasicAuth("anybody", key), **QUERY).is_success


def test_health_and_readiness_need_no_key(locked):
    assert locked.http.get("/healthz").json() == {"status": "ok"}
    assert locked.http.get("/readyz").json()["status"] == "ready"


def test_without_keys_only_this_machine_is_answered_by_its_own_name(served_store):
    with running(served_store, local=True) as service:
        for host in ("localhost:8080", "127.0.0.1", "[::1]:8080"):
            assert service.http.get("/v1/lookup", headers={"Host": host}, **QUERY).is_success
        for host in ("evil.example:8080", "localhost.evil.example", "", "evil.example:80:127.0.0.1"):
            is_problem(service.http.get("/v1/lookup", headers={"Host": host}, **QUERY), 403, "WrongHost")


def test_a_body_over_the_limit_is_refused_announced_or_not(service):
    body = b'{"ids": ["' + b"x" * 300_000 + b'"]}'
    headers = {"Content-Type": "application/json"}
    announced = service.http.post("/v1/lookup", content=body, headers=headers)
    streamed = service.http.post(
        "/v1/lookup", content=iter([body[:150_000], body[150_000:]]), headers=headers
    )

    for answer in (announced, streamed):
        is_problem(answer, 413, "TooLarge")


def test_a_body_that_does_not_arrive_is_given_up(locked):
    host, port = locked.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        head = (
            f"POST /v1/lookup HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 9\r\n\r\n"
        )
        line.sendall(head.encode() + b"{")
        assert line.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_at_its_limit_the_service_asks_to_come_again_and_then_answers(locked):
    service, release, begun = locked.app.state.service, threading.Event(), threading.Event()

    async def occupy() -> None:
        with pytest.raises(TooSlow):
            await service.workers.run(lambda: (begun.set(), release.wait(10)))

    occupied = threading.Thread(target=lambda: asyncio.run(occupy()))
    occupied.start()
    begun.wait(10)
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = locked.http.get("/v1/lookup", headers=headers, **QUERY)
    is_problem(answer, 503, "Busy")
    assert answer.headers["retry-after"] == "1"
    occupied.join()
    # Nobody waits for it any more, and it still uses the machine.
    assert locked.http.get("/v1/lookup", headers=headers, **QUERY).status_code == 503
    release.set()
    for _ in range(100):
        answer = locked.http.get("/v1/lookup", headers=headers, **QUERY)
        if answer.is_success:
            break
        time.sleep(0.02)
    assert answer.is_success


def test_an_answer_that_takes_too_long_is_given_up_and_its_error_goes_nowhere():
    async def ask() -> None:
        workers = Workers(limit=2, seconds=0.05)
        with pytest.raises(TooSlow):
            await workers.run(lambda: time.sleep(0.2))
        assert await workers.run(lambda: "quick") == "quick"
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 / 0)

    asyncio.run(ask())


def test_work_that_waits_counts_as_much_as_work_that_runs():
    async def ask() -> list[object]:
        workers = Workers(limit=3, seconds=5)
        asked = [workers.run(lambda: time.sleep(0.1)) for _ in range(5)]
        return await asyncio.gather(*asked, return_exceptions=True)

    outcomes = asyncio.run(ask())
    assert [type(outcome) for outcome in outcomes] == [type(None)] * 3 + [Busy] * 2


def test_metrics_count_by_route_and_never_by_id(service):
    for item_id in ("item-0", "item-1"):
        service.http.get("/v1/lookup", params={"id": item_id})
    service.http.get("/no/such/path/item-77")
    text = service.http.get("/metrics").text

    assert 'mmfeat_requests_total{method="GET",route="/v1/lookup",status="200"}' in text
    assert 'route="none",status="404"' in text
    assert "item-" not in text
    assert 'mmfeat_feature_current{feature="clip",version="clip@' in text
    assert "mmfeat_store_readable 1.0" in text


def test_the_service_has_nothing_that_changes_a_store(service):
    paths = service.http.get("/openapi.json").json()["paths"]
    offered = {(method, path) for path, methods in paths.items() for method in methods}
    reading = {("post", f"/v1/{name}") for name in ("items", "lookup", "search", "search/image")}
    assert {o for o in offered if o[0] != "get"} == reading
    for method in ("PUT", "PATCH", "DELETE"):
        is_problem(service.http.request(method, "/v1/lookup"), 405, "HttpError")


def test_keys_come_from_the_environment_and_a_file(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# of the nightly job\n{KEY}\n\n{OTHER}\n")
    assert read_keys({"MMFEAT_API_KEYS": f"{'e' * 16}, {KEY}"}, file) == ("e" * 16, KEY, OTHER)
    assert read_keys({}) == ()


@pytest.mark.parametrize("content", [None, "", "# none\n", "short\n"])
def test_a_file_without_a_good_key_is_refused(tmp_path, content):
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError):
        read_keys({}, file)

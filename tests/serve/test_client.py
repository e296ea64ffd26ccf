"""The client gives what an opened store gives, and bears a service that stumbles."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from helpers.serving import IDS, running

import mmfeat.client
from mmfeat.client import Client, ServiceError
from mmfeat.schemas.errors import UnknownFeature, UnknownItems, UsageError


@pytest.fixture(scope="module")
def client(service) -> Iterator[Client]:
    with Client(service.url, retries=0, timeout=300) as client:
        yield client


def test_a_lookup_gives_the_feature_set_of_the_store(client, opened):
    asked = [*reversed(IDS), IDS[0]]
    found, expected = client.lookup(asked), opened.lookup(asked)

    assert found.ids == expected.ids and list(found) == list(expected)
    for name, column in expected.items():
        assert found[name].spec.fingerprint == column.spec.fingerprint
        assert found[name].status.tolist() == column.status.tolist()
        assert found[name].reason.tolist() == column.reason.tolist()
        assert found[name].mask.tolist() == column.mask.tolist()
    np.testing.assert_array_equal(found["clip"].matrix, expected["clip"].matrix)
    assert found["caption"].texts == expected["caption"].texts


def test_many_ids_are_asked_for_in_parts_and_come_back_as_one(client, opened, monkeypatch):
    monkeypatch.setattr(mmfeat.client, "_IDS_PER_REQUEST", 3)
    found, expected = client.lookup(IDS), opened.lookup(IDS)
    assert found.ids == IDS
    np.testing.assert_array_equal(found["noise"].matrix, expected["noise"].matrix)
    assert found["caption"].texts == expected["caption"].texts
    assert found["clip"].status.tolist() == expected["clip"].status.tolist()


def test_fields_are_those_of_the_store_also_in_parts(client, opened, monkeypatch):
    monkeypatch.setattr(mmfeat.client, "_IDS_PER_REQUEST", 3)
    found = client.fields(IDS, ["title"])
    assert found.equals(opened.fields(IDS, ["title"]))
    assert client.fields(["nope"], unknown="mask").to_pylist() == [
        {"item_id": "nope", "title": None, "description": None}
    ]
    with pytest.raises(UnknownItems, match="'nope'"):
        client.fields(["nope"])


def test_searches_give_the_hits_of_the_store_and_their_version(client, opened):
    cover = Path(opened.items.to_pylist()[1]["cover"])
    found = client.search("clip", image=cover, k=2)
    assert found.version == opened.spec("clip").version
    assert [hit.item_id for hit in found] == [hit.item_id for hit in opened.search("clip", image=cover, k=2)]
    vector = np.array([1, 0, -1, 2], np.float16)
    near = client.search("noise", vector=vector, k=3)
    assert [hit.item_id for hit in near] == [
        hit.item_id for hit in opened.search("noise", vector=vector, k=3)
    ]
    assert near[0].score == pytest.approx(opened.search("noise", vector=vector, k=1)[0].score)


def test_specs_features_failures_and_snapshots_are_told(client, opened):
    assert client.spec("clip").fingerprint == opened.spec("clip").fingerprint
    assert {f["version"] for f in client.features()} == {f.version for f in opened.status()}
    assert [f["item_id"] for f in client.failures("noise")] == ["broken"]
    assert [s["name"] for s in client.snapshots()] == ["first"]
    assert client.ready()


def test_a_mistake_raises_what_the_store_raises(client):
    with pytest.raises(UnknownItems) as unknown:
        client.lookup(["item-0", "no such"])
    assert unknown.value.ids == ["no such"]
    with pytest.raises(UnknownFeature):
        client.lookup(["item-0"], ["nothing"])
    with pytest.raises(UnknownFeature):
        client.spec("no such?feature")
    with pytest.raises(UsageError, match="4 dims"):
        client.search("noise", vector=np.ones(3))
    with pytest.raises(UsageError):
        client.lookup([])
    assert client.lookup(["no such"], ["noise"], unknown="mask")["noise"].status.tolist() == ["absent"]


def test_a_key_is_sent_from_the_call_or_the_environment(served_store, monkeypatch):
    key = "k" * 32
    with running(served_store, keys=(key,)) as service:
        with pytest.raises(UsageError, match="asks for a key"):
            Client(service.url).lookup(["item-0"])
        assert Client(service.url, key).lookup(["item-0"]).ids == ["item-0"]
        monkeypatch.setenv("MMFEAT_API_KEY", key)
        assert Client(service.url).lookup(["item-0"]).ids == ["item-0"]


@contextmanager
def stumbling(answers: list[Callable[[BaseHTTPRequestHandler], None]]) -> Iterator[tuple[str, list[float]]]:
    """A stand-in for a service in trouble, which mmfeat's own cannot be brought into at will."""
    times: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            times.append(time.monotonic())
            answers[min(len(times), len(answers)) - 1](self)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", times
    finally:
        server.shutdown()
        server.server_close()


def _answer(status: int, body: bytes = b"[]", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def _hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()
    handler.close_connection = True


def test_refusals_and_lost_connections_are_tried_again_no_sooner_than_asked():
    with stumbling([_answer(503, Retry_After="1"), _hang_up, _answer(200)]) as (url, times):
        assert Client(url).snapshots() == []
    assert len(times) == 3
    assert times[1] - times[0] >= 1.0


def test_a_service_that_stays_in_trouble_is_given_up_with_its_reason():
    problem = b'{"error": "StoreError", "detail": "Could not read it.", "hint": "Look."}'
    with stumbling([_answer(503, problem)]) as (url, times):
        with pytest.raises(ServiceError, match="Could not read it") as error:
            Client(url, retries=1).snapshots()
        assert error.value.hint == "Look." and len(times) == 2


def test_what_is_no_mmfeat_and_what_does_not_listen_is_said():
    with stumbling([_answer(404, b"<html>")]) as (url, _), pytest.raises(ServiceError, match="not as mmfeat"):
        Client(url).snapshots()
    with pytest.raises(ServiceError, match="did not answer"):
        Client(url, retries=0).snapshots()
    assert not Client(url).ready()

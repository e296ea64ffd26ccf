"""Search over HTTP agrees with the opened store, whatever the query is."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.serving import is_problem, running
from helpers.storing import make_rows, token_spec

import mmfeat
from mmfeat.client import Client
from mmfeat.store import Store


def expected(hits) -> list[dict[str, object]]:
    return [{"item_id": hit.item_id, "score": pytest.approx(hit.score)} for hit in hits]


def test_a_search_by_vector_item_and_text_finds_what_the_store_finds(service, opened):
    vector = [0.5, -1.0, 0.25, 2.0]
    by_vector = service.http.post("/v1/search", json={"feature": "noise", "vector": vector, "k": 3}).json()
    by_item = service.http.post("/v1/search", json={"feature": "clip", "item": "a/b?c&d=e#f"}).json()
    by_text = service.http.post("/v1/search", json={"feature": "clip", "text": "a red circle", "k": 2}).json()

    assert by_vector["version"] == opened.spec("noise").version
    assert by_vector["hits"] == expected(opened.search("noise", vector=vector, k=3))
    assert by_item["hits"] == expected(opened.search("clip", item="a/b?c&d=e#f"))
    assert by_text["hits"] == expected(opened.search("clip", text="a red circle", k=2))


def test_a_picture_in_the_body_finds_the_item_that_it_is_the_cover_of(service, opened):
    items = opened.items.to_pylist()
    cover = Path(items[4]["cover"]).read_bytes()
    where = {"feature": "clip", "k": 2}
    found = service.http.post("/v1/search/image", params=where, content=cover).json()

    assert found["hits"][0]["item_id"] == items[4]["item_id"]
    assert found["hits"][0]["score"] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"feature": "noise", "vector": [1.0, 2.0]}, 400, "UsageError"),
        ({"feature": "noise", "vector": [0.0, 0.0, 0.0, 0.0]}, 400, "UsageError"),
        ({"feature": "noise", "vector": [[1.0, 2.0, 3.0, 4.0]]}, 400, "UsageError"),
        ({"feature": "noise", "vector": [[[1.0]]]}, 422, "InvalidRequest"),
        ({"feature": "noise"}, 400, "UsageError"),
        ({"feature": "noise", "item": "item-0", "text": "x"}, 400, "UsageError"),
        ({"feature": "noise", "item": "broken"}, 400, "UsageError"),
        ({"feature": "noise", "item": "no such"}, 404, "UnknownItems"),
        ({"feature": "nothing", "item": "item-0"}, 404, "UnknownFeature"),
        ({"feature": "caption", "item": "item-0"}, 400, "UsageError"),
        ({"feature": "clip", "text": "  "}, 400, "UsageError"),
        ({"feature": "noise", "item": "item-0", "k": 0}, 422, "InvalidRequest"),
        ({"feature": "noise", "item": "item-0", "k": 21}, 400, "UsageError"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_a_reason(service, body, status, error):
    is_problem(service.http.post("/v1/search", json=body), status, error)


def test_any_number_of_vectors_are_searched_by_one_or_several(served_store, tmp_path):
    place = Path(shutil.copytree(served_store, tmp_path / "late"))
    store, spec = Store.open(str(place)), token_spec()
    with store.lease("test"):
        rows = make_rows(spec, ["item-0", "item-1"], [[[1, 0, 0], [0, 1, 0]], [[0, 0, 1]]])
        store.commit(store.add_version(spec), rows, replace=False)
    opened = mmfeat.open(place)
    with running(place, timeout_seconds=300) as other, Client(other.url) as client:
        for query in ([1.0, 0.5, 0.2], [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]):
            near = client.search("late", vector=np.array(query))
            assert [vars(hit) for hit in near] == [vars(hit) for hit in opened.search("late", vector=query)]
        assert [hit.item_id for hit in client.search("late", item="item-1")] == ["item-0"]


@pytest.mark.parametrize("picture", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_a_picture_that_is_none_is_refused_with_a_reason(service, picture):
    answer = service.http.post("/v1/search/image", params={"feature": "clip"}, content=picture)
    is_problem(answer, 400, "UsageError")


def test_a_picture_is_never_a_path_that_the_service_opens(service, opened):
    cover = opened.items.to_pylist()[0]["cover"].encode()
    answer = service.http.post("/v1/search/image", params={"feature": "clip"}, content=cover)
    is_problem(answer, 400, "UsageError")


def test_an_answer_says_which_share_of_the_nearest_is_found(service, served_store, tmp_path):
    query = {"feature": "noise", "vector": [0.5, -1.0, 0.25, 2.0]}
    assert service.http.post("/v1/search", json=query).json()["recall"] == 1

    indexed = Path(shutil.copytree(served_store, tmp_path / "indexed"))
    index = mmfeat.open(str(indexed)).build_index("noise", target_recall=0.5)
    with running(indexed, ui=True, timeout_seconds=300) as other, Client(other.url) as client:
        assert other.http.post("/v1/search", json=query).json()["recall"] == index.recall
        assert client.search("noise", item="item-0").recall == index.recall
        assert client.search("noise", item="item-0", exact=True).recall == 1
        exact = other.http.post("/v1/search", json={**query, "exact": True}).json()
    assert exact == service.http.post("/v1/search", json=query).json()

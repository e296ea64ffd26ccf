"""Lookup over HTTP: what the opened store says, for any id, and a clear refusal of everything else."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from helpers.serving import IDS, is_problem

from mmfeat.schemas.featureset.arrow import from_arrow

ARROW = {"Accept": "application/vnd.apache.arrow.stream"}


def test_an_answer_has_the_values_statuses_and_versions_of_the_store_in_the_order_asked(service, opened):
    asked = ["item-2", "broken", "item-0", "item-2"]
    answer = service.http.post("/v1/lookup", json={"ids": asked}).json()
    expected = opened.lookup(asked)

    assert answer["ids"] == asked
    assert set(answer["features"]) == {"caption", "clip", "noise"}
    for name, column in expected.items():
        told = answer["features"][name]
        assert told["version"] == column.spec.version
        assert told["status"] == ["ok", "failed", "ok", "ok"]
        assert told["reason"][1] == "cannot decode broken"
        assert told["values"][1] is None
    assert answer["features"]["caption"]["values"][0] == expected["caption"].texts[0]
    told = np.array(answer["features"]["noise"]["values"][::2], dtype=np.float16)
    np.testing.assert_array_equal(told, expected["noise"].matrix[::2])


def test_an_arrow_answer_is_the_feature_set_to_the_bit(service, opened):
    answer = service.http.post("/v1/lookup", json={"ids": IDS, "features": ["clip"]}, headers=ARROW)
    found, expected = from_arrow(pa.ipc.open_stream(answer.content).read_all()), opened.lookup(IDS, ["clip"])

    assert answer.headers["content-type"] == ARROW["Accept"]
    assert found.ids == IDS
    assert found["clip"].spec.fingerprint == expected["clip"].spec.fingerprint
    assert found["clip"].status.tolist() == ["ok"] * 6 + ["failed", "absent"]
    np.testing.assert_array_equal(found["clip"].matrix, expected["clip"].matrix)


@pytest.mark.parametrize("item_id", IDS)
def test_an_id_of_any_characters_finds_its_own_row(service, opened, item_id):
    few = service.http.get("/v1/lookup", params={"id": item_id, "feature": "noise"}).json()
    many = service.http.post("/v1/lookup", json={"ids": [item_id], "features": ["noise"]}).json()

    column = opened.lookup([item_id], ["noise"])["noise"]
    values = [column.matrix[0].tolist()] if column.mask[0] else [None]
    assert few == many
    assert few["features"]["noise"]["values"] == values


def test_a_snapshot_is_read_as_it_was(service):
    answer = service.http.get("/v1/lookup", params={"id": "item-0", "snapshot": "first"})
    assert answer.status_code == 200
    assert set(answer.json()["features"]) == {"caption", "clip", "noise"}


def test_unknown_ids_are_named_and_can_be_masked(service):
    asked = ["item-0", "no such", "nor/this"]
    problem = is_problem(service.http.post("/v1/lookup", json={"ids": asked}), 404, "UnknownItems")
    masked = service.http.post("/v1/lookup", json={"ids": asked, "unknown": "mask"}).json()

    assert problem["ids"] == ["no such", "nor/this"]
    assert masked["features"]["noise"]["status"] == ["ok", "absent", "absent"]


def test_a_refusal_does_not_tell_where_the_store_lies(service, served_store):
    answers = [
        service.http.get("/v1/lookup", params={"id": "no such"}),
        service.http.get("/v1/features/nothing"),
    ]
    for answer in answers:
        assert str(served_store) not in answer.text


def test_an_answer_does_not_tell_where_weights_lie(service, opened):
    weights = opened.spec("clip").weights
    answers = [
        service.http.post("/v1/lookup", json={"ids": ["item-0"]}, headers=ARROW),
        service.http.get("/v1/features/clip"),
    ]
    assert weights.location
    for answer in answers:
        assert weights.location.encode() not in answer.content


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"ids": ["item-0"], "features": ["nothing"]}, 404, "UnknownFeature"),
        ({"ids": ["item-0"], "features": ["noise@ffffffff"]}, 404, "UnknownFeature"),
        ({"ids": ["item-0"], "snapshot": "nothing"}, 404, "UnknownSnapshot"),
        ({"ids": [f"item-{k}" for k in range(51)]}, 400, "UsageError"),
        ({"ids": []}, 422, "InvalidRequest"),
        ({"ids": [4]}, 422, "InvalidRequest"),
        ({"ids": "item-0"}, 422, "InvalidRequest"),
        ({"ids": ["item-0"], "unkown": "mask"}, 422, "InvalidRequest"),
        ({}, 422, "InvalidRequest"),
    ],
)
def test_what_cannot_be_looked_up_is_refused_with_a_reason(service, body, status, error):
    is_problem(service.http.post("/v1/lookup", json=body), status, error)


@pytest.mark.parametrize(
    "body", [b"{", b"", b"[1]", b'{"ids": ["\\ud800"]}', b"\xff\xfe", b"[" * 100_000, b'{"ids": NaN}']
)
def test_a_body_that_is_no_request_is_refused_with_a_reason(service, body):
    answer = service.http.post("/v1/lookup", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    is_problem(answer, answer.status_code, answer.json()["error"])


def test_features_say_what_made_them_and_how_many_items_have_them(service, opened):
    listed = service.http.get("/v1/features").json()
    assert all(f["state"] == "current" and f["problem"] == "" for f in listed["features"] if f["current"])
    noise = next(f for f in listed["features"] if f["version"].startswith("noise@"))
    detail = service.http.get(f"/v1/features/{noise['version']}").json()

    assert listed["items"] == len(IDS)
    assert (noise["ok"], noise["failed"], noise["missing"], noise["absent"]) == (6, 1, 0, 1)
    assert noise["current"] is True
    assert detail["fingerprint"] == opened.spec("noise").fingerprint
    assert detail["spec"]["output"]["dims"] == 4


def test_failures_come_with_stage_and_reason(service):
    told = service.http.get("/v1/features/clip/failures").json()
    assert told["total"] == 1
    assert told["failures"] == [
        {"item_id": "broken", "stage": "decode", "reason": "cannot decode broken"},
    ]


def test_snapshots_are_listed(service, opened):
    [snapshot] = service.http.get("/v1/snapshots").json()
    assert (snapshot["name"], snapshot["items"]) == ("first", len(IDS))
    assert snapshot["features"]["clip"] == opened.spec("clip").version


def test_fields_are_given_in_the_order_asked_and_locations_of_media_are_not(service):
    asked = ["item-2", "ü 🎬 %2F", "item-2"]
    answer = service.http.get("/v1/items", params={"id": asked}).json()
    titles = [f"Title of {i}" for i in asked]
    assert answer == {"ids": asked, "fields": {"title": titles, "description": [None] * 3}}
    one = service.http.get("/v1/items", params={"id": "item-2", "field": "title", "snapshot": "first"}).json()
    assert one["fields"] == {"title": ["Title of item-2"]}
    is_problem(service.http.get("/v1/items", params={"id": "item-2", "field": "cover"}), 400, "UsageError")
    problem = is_problem(service.http.get("/v1/items", params={"id": ["no such"]}), 404, "UnknownItems")
    assert problem["ids"] == ["no such"]
    masked = service.http.get(
        "/v1/items", params={"id": "no such", "field": "title", "unknown": "mask"}
    ).json()
    assert masked["fields"] == {"title": [None]}

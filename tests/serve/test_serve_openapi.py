"""The description of the API is true: its examples are requests, its schemas fit the answers."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest


@pytest.fixture(scope="module")
def described(service) -> dict[str, Any]:
    return service.http.get("/openapi.json").json()


def _schema(described: dict[str, Any], name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}", "components": described["components"]}


@pytest.mark.parametrize("name", ["LookupRequest", "SearchRequest"])
def test_every_example_is_a_request(described, name):
    examples = described["components"]["schemas"][name]["examples"]
    assert examples
    for example in examples:
        jsonschema.validate(example, _schema(described, name))


def test_answers_are_as_described(service, described):
    answers = {
        "LookupAnswer": service.http.post("/v1/lookup", json={"ids": ["item-0", "broken", "bare"]}),
        "SearchAnswer": service.http.post("/v1/search", json={"feature": "noise", "item": "item-0"}),
        "FeatureList": service.http.get("/v1/features"),
        "FeatureDetail": service.http.get("/v1/features/clip"),
        "FailureList": service.http.get("/v1/features/clip/failures"),
    }
    for name, answer in answers.items():
        jsonschema.validate(answer.json(), _schema(described, name))


def test_every_route_says_which_errors_it_answers(described):
    for path, methods in described["paths"].items():
        for operation in methods.values():
            assert path.startswith("/v1/") <= {"400", "401", "404", "503"}.issubset(operation["responses"])


def test_pages_are_no_part_of_the_api(described):
    assert all(
        path.startswith("/v1/") or path in ("/healthz", "/readyz", "/metrics") for path in described["paths"]
    )

"""The description of the API is true: its examples are requests, its schemas fit the answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import jsonschema
import pyarrow as pa
import pytest
from helpers.serving import running

from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.inputs import Input
from mmfeat.schemas.outputs import CodesOut, TextOut, TokensOut, VectorOut, VectorsOut
from mmfeat.schemas.spec import FeatureSpec, Weights
from mmfeat.store import Store, rows_schema


@pytest.fixture(scope="module")
def described(service) -> dict[str, Any]:
    return service.http.get("/openapi.json").json()


def _schema(described: dict[str, Any], name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}", "components": described["components"]}


@pytest.mark.parametrize("name", ["LookupRequest", "FieldsRequest", "SearchRequest"])
def test_every_example_is_a_request(described, name):
    examples = described["components"]["schemas"][name]["examples"]
    assert examples
    for example in examples:
        jsonschema.validate(example, _schema(described, name))


def test_answers_are_as_described(service, described):
    answers = {
        "LookupAnswer": service.http.post("/v1/lookup", json={"ids": ["item-0", "broken", "bare"]}),
        "FieldsAnswer": service.http.get("/v1/items", params={"id": ["item-0", "bare"]}),
        "SearchAnswer": service.http.post("/v1/search", json={"feature": "noise", "item": "item-0"}),
        "FeatureList": service.http.get("/v1/features"),
        "FeatureDetail": service.http.get("/v1/features/clip"),
        "FailureList": service.http.get("/v1/features/clip/failures"),
    }
    for name, answer in answers.items():
        jsonschema.validate(answer.json(), _schema(described, name))


def test_a_lookup_of_every_kind_of_feature_is_as_described(tmp_path, described):
    every = {
        VectorOut(dims=2): [0.5, -1.0],
        VectorsOut(count=2, dims=2): [0.5, -1.0, 2.0, 0.0],
        TokensOut(dims=2): [[0.5, -1.0], [2.0, 0.0], [1.0, 1.0]],
        CodesOut(levels=2, codebook_size=4): [3, 0],
        TextOut(role="caption"): "a red cup",
        TextOut(role="transcript"): "put the cup down",
    }
    shown = {VectorsOut: [[0.5, -1.0], [2.0, 0.0]]}
    store = Store.open(str(tmp_path / "store"), create=True)
    specs = {
        f"of_{number}": FeatureSpec(
            name=f"of_{number}",
            inputs=(Input(source="title", modality="text"),),
            output=output,
            method="some",
            model="m",
            weights=Weights(origin="package", ref="x"),
        )
        for number, output in enumerate(every)
    }
    with store.lease("test"):
        store.put_catalog(pa.Table.from_pylist([{"item_id": "a"}], schema=CATALOG_SCHEMA), {"name": "test"})
        for spec, value in zip(specs.values(), every.values(), strict=True):
            row = {"item_id": "a", "status": "ok", spec.form: value, "created": datetime.now(UTC)}
            rows = pa.Table.from_pylist([row], schema=rows_schema(spec))
            store.commit(store.add_version(spec), rows, replace=False)
    with running(tmp_path / "store") as service:
        answer = service.http.post("/v1/lookup", json={"ids": ["a"]}).json()
    jsonschema.validate(answer, _schema(described, "LookupAnswer"))
    for name, (output, value) in zip(specs, every.items(), strict=True):
        found = answer["features"][name]
        assert (found["kind"], found["values"]) == (specs[name].kind, [shown.get(type(output), value)])


def test_every_route_says_which_errors_it_answers(described):
    for path, methods in described["paths"].items():
        for operation in methods.values():
            assert path.startswith("/v1/") <= {"400", "401", "404", "503"}.issubset(operation["responses"])


def test_pages_are_no_part_of_the_api(described):
    assert all(
        path.startswith("/v1/") or path in ("/healthz", "/readyz", "/metrics") for path in described["paths"]
    )

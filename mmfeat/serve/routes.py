"""The routes of version 1 of the API, and those for whoever runs the service."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Header, Query, Request
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic_core import to_json
from starlette.responses import Response

from mmfeat.item_fields import fields_of
from mmfeat.schemas.catalog import ITEM_ID
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import FeatureSet
from mmfeat.schemas.featureset import json as featureset_json
from mmfeat.schemas.featureset.arrow import to_arrow
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.serve import models
from mmfeat.serve.live import View
from mmfeat.serve.problems import MEDIA_TYPE, TooMuch, problem
from mmfeat.serve.service import Service

ARROW = "application/vnd.apache.arrow.stream"
JSON = "application/json"

# A store that could not be looked at for so many refreshes is no longer to be relied on.
_REFRESHES_MISSED = 5
_LEAST_PATIENCE = timedelta(seconds=15)

_CODE_BYTES = 2  # the shortest in JSON: a digit and a comma

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {MEDIA_TYPE: {"schema": models.Problem.model_json_schema()}}}
    for status, text in (
        (400, "Wrong dims, too many ids, no direction, a query that the encoder cannot read"),
        (401, "No key, or a wrong one"),
        (404, "Unknown feature, version, snapshot or item"),
        (413, "Body too large, or the answer would be: ask in parts"),
        (422, "Not of this form"),
        (503, "Busy, or the store cannot be read: try again after Retry-After"),
        (504, "Too slow"),
    )
}
_LOOKUP_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": models.LookupAnswer,
        "description": "JSON, or with `Accept: " + ARROW + "` an Arrow IPC stream of one table",
        "content": {ARROW: {"schema": {"type": "string", "format": "binary"}}},
    },
    **_PROBLEMS,
}
_FIELDS_ANSWERS: dict[int | str, dict[str, Any]] = {200: {"model": models.FieldsAnswer}, **_PROBLEMS}
_SEARCH_ANSWERS: dict[int | str, dict[str, Any]] = {200: {"model": models.SearchAnswer}, **_PROBLEMS}
_PICTURE = {"required": True, "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}

Accept = Annotated[str, Header(description=f"`{JSON}` or `{ARROW}`.")]
K = Annotated[int, Query(ge=1, description="How many items.")]
SnapshotName = Annotated[
    models.Name | None, Query(description="Read the store as it was when this was created.")
]


def api_router(service: Service) -> APIRouter:
    """``/v1``: lookup, search, features, snapshots."""
    router = APIRouter(prefix="/v1")

    async def answer_lookup(request: models.LookupRequest, accept: str) -> Response:
        _refuse_more_than(service.settings.max_ids, len(request.ids), "ids", "one lookup")
        service.metrics.ids.inc(len(request.ids))
        form = _arrow if ARROW in accept else _json
        most = service.settings.max_answer_bytes

        def look_up(view: View) -> bytes:
            asked = list(dict.fromkeys(view.current if request.features is None else request.features))
            least = len(request.ids) * sum(_item_bytes(view.features.spec(feature)) for feature in asked)
            _refuse_too_much(least, most)
            with service.budget.holding() as held:
                held.take(least)
                features = None if request.features is None else asked
                return form(view.features.lookup(request.ids, features, request.unknown), most)

        body = await service.ask(look_up, request.snapshot)
        return Response(body, media_type=ARROW if form is _arrow else JSON)

    async def answer_search(view_query: models.SearchRequest, image: bytes | None = None) -> Response:
        _refuse_more_than(service.settings.max_k, view_query.k, "items", "one search")

        def search(view: View) -> bytes:
            return _search(view, view_query, image)

        return Response(await service.ask(search, view_query.snapshot), media_type=JSON)

    @router.post("/lookup", tags=["lookup"], responses=_LOOKUP_ANSWERS, summary="Features of items")
    async def lookup(request: models.LookupRequest, accept: Accept = JSON) -> Response:
        return await answer_lookup(request, accept)

    @router.get("/lookup", tags=["lookup"], responses=_LOOKUP_ANSWERS, summary="Features of a few items")
    async def lookup_few(
        id: Annotated[list[str], Query(description="Item id; may be given more than once.", examples=["4"])],
        feature: Annotated[
            list[models.Name] | None,
            Query(description="`name` or `name@fingerprint`.", max_length=models.MOST_FEATURES),
        ] = None,
        unknown: Literal["error", "mask"] = "error",
        snapshot: SnapshotName = None,
        accept: Accept = JSON,
    ) -> Response:
        request = models.LookupRequest(ids=id, features=feature, unknown=unknown, snapshot=snapshot)
        return await answer_lookup(request, accept)

    async def answer_fields(request: models.FieldsRequest) -> Response:
        _refuse_more_than(service.settings.max_ids, len(request.ids), "ids", "one lookup")

        def look_up(view: View) -> bytes:
            found = fields_of(view.items, request.ids, request.fields, request.unknown, "the catalog")
            columns = found.drop_columns([ITEM_ID]).to_pydict()
            body = to_json({"ids": request.ids, "fields": columns})
            _refuse_too_much(len(body), service.settings.max_answer_bytes)
            return body

        return Response(await service.ask(look_up, request.snapshot), media_type=JSON)

    @router.post("/items", tags=["lookup"], responses=_FIELDS_ANSWERS, summary="Fields of items")
    async def items(request: models.FieldsRequest) -> Response:
        return await answer_fields(request)

    @router.get("/items", tags=["lookup"], responses=_FIELDS_ANSWERS, summary="Fields of a few items")
    async def few_items(
        id: Annotated[list[str], Query(description="Item id; may be given more than once.", examples=["4"])],
        field: Annotated[
            list[models.Name] | None,
            Query(description="A column of texts or numbers.", max_length=models.MOST_FEATURES),
        ] = None,
        unknown: Literal["error", "mask"] = "error",
        snapshot: SnapshotName = None,
    ) -> Response:
        request = models.FieldsRequest(ids=id, fields=field, unknown=unknown, snapshot=snapshot)
        return await answer_fields(request)

    @router.post("/search", tags=["search"], responses=_SEARCH_ANSWERS, summary="By vector, item or text")
    async def search(request: models.SearchRequest) -> Response:
        return await answer_search(request)

    @router.post(
        "/search/image",
        tags=["search"],
        responses=_SEARCH_ANSWERS,
        summary="By a picture, which is the body",
        openapi_extra={"requestBody": _PICTURE},
    )
    async def search_image(
        request: Request,
        feature: Annotated[models.Name, Query(description="A vector feature whose encoder reads pictures.")],
        k: K = 10,
        exact: Annotated[bool, Query(description="Compare with every vector.")] = False,
        snapshot: SnapshotName = None,
    ) -> Response:
        picture = models.SearchRequest(feature=feature, k=k, exact=exact, snapshot=snapshot)
        return await answer_search(picture, await request.body())

    @router.get("/features", tags=["features"], responses=_PROBLEMS, summary="Every feature version")
    async def features(snapshot: SnapshotName = None) -> models.FeatureList:
        def listed(view: View) -> models.FeatureList:
            found = list(view.status)
            return models.FeatureList(items=view.n_items, features=found)

        return await service.ask(listed, snapshot)

    @router.get("/features/{feature}", tags=["features"], responses=_PROBLEMS, summary="What made a feature")
    async def feature(feature: str, snapshot: SnapshotName = None) -> models.FeatureDetail:
        def described(view: View) -> models.FeatureDetail:
            spec = view.features.spec(feature)
            body = spec.model_dump(mode="json", exclude_none=True, exclude={"weights": {"location"}})
            return models.FeatureDetail(version=spec.version, fingerprint=spec.fingerprint, spec=body)

        return await service.ask(described, snapshot)

    @router.get("/features/{feature}/failures", tags=["features"], responses=_PROBLEMS, summary="What failed")
    async def failures(
        feature: str,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
        offset: Annotated[int, Query(ge=0)] = 0,
        snapshot: SnapshotName = None,
    ) -> models.FailureList:
        def listed(view: View) -> models.FailureList:
            version = view.features.spec(feature).version
            rows = view.features.failures(version)
            shown = [models.Failure(**row) for row in rows.slice(offset, limit).to_pylist()]
            return models.FailureList(version=version, total=len(rows), failures=shown)

        return await service.ask(listed, snapshot)

    @router.get("/snapshots", tags=["snapshots"], responses=_PROBLEMS, summary="All snapshots, oldest first")
    async def snapshots() -> list[models.SnapshotEntry]:
        def listed(view: View) -> list[models.SnapshotEntry]:
            return [models.SnapshotEntry.model_validate(s) for s in view.features.snapshots()]

        return await service.ask(listed)

    return router


def operations_router(service: Service) -> APIRouter:
    """Health, readiness and metrics."""
    router = APIRouter(tags=["operations"])

    @router.get("/healthz", summary="Whether the process answers")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz", summary="Whether the store can be read", responses={503: _PROBLEMS[503]})
    async def ready() -> Response:
        live = service.live
        patience = max(
            _LEAST_PATIENCE, timedelta(seconds=_REFRESHES_MISSED * service.settings.refresh_seconds)
        )
        if live.error is not None or datetime.now(UTC) - live.checked > patience:
            detail = f"The store was last read at {live.checked:%Y-%m-%d %H:%M:%S} UTC."
            return problem(503, "NotReady", detail, "The service's log says why.")
        return Response(to_json({"status": "ready", "checked": live.checked}), media_type=JSON)

    @router.get("/metrics", summary="For Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router


def _json(found: FeatureSet, most: int) -> bytes:
    body = bytearray()
    for piece in featureset_json.pieces(found):
        body += piece
        _refuse_too_much(len(body), most)
    return bytes(body)


def _arrow(found: FeatureSet, most: int) -> bytes:
    table = to_arrow(_without_places(found))
    _refuse_too_much(table.nbytes, most)
    body = io.BytesIO()
    with pa.ipc.new_stream(body, table.schema) as stream:
        stream.write_table(table)
    return body.getvalue()


def _item_bytes(spec: FeatureSpec) -> int:
    """The fewest bytes that an item's value takes in an answer; texts and token vectors have any number."""
    if spec.form == "codes":
        return math.prod(spec.shape) * _CODE_BYTES
    return math.prod(spec.shape) * np.dtype(spec.store_dtype).itemsize if spec.form == "vector" else 0


def _without_places(found: FeatureSet) -> FeatureSet:
    """The same features, without where on this machine the weights lie: that is no caller's business."""
    columns = {}
    for name, column in found.items():
        weights = column.spec.weights.model_copy(update={"location": None})
        columns[name] = replace(column, spec=column.spec.model_copy(update={"weights": weights}))
    return FeatureSet(found.ids, columns)


def _search(view: View, request: models.SearchRequest, image: bytes | None) -> bytes:
    spec = view.features.spec(request.feature)
    feature = f"{spec.name}@{spec.fingerprint}"
    hits = view.features.search(
        feature,
        vector=None if request.vector is None else np.array(request.vector, dtype=np.float64),
        text=request.text,
        item=request.item,
        image=image,
        k=request.k,
        exact=request.exact,
    )
    index = None if request.exact else view.features.vector_index(feature)
    recall = 1.0 if index is None else index.recall
    return to_json({"version": spec.version, "recall": recall, "hits": hits})


def _refuse_too_much(size: int, most: int) -> None:
    if size > most:
        raise TooMuch(
            f"The answer would have more than the {most:,} bytes that one may have here.",
            hint="Ask for fewer ids or features at once.",
        )


def _refuse_more_than(most: int, asked: int, what: str, where: str) -> None:
    if asked > most:
        raise UsageError(
            f"{where.capitalize()} may ask for {most:,} {what} here, not {asked:,}.", hint="Ask in parts."
        )

"""Errors as problem bodies (RFC 9457): what happened, to which item, what to do. Never a traceback."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from mmfeat.schemas.errors import (
    MissingExtra,
    MmfeatError,
    StoreError,
    UnknownFeature,
    UnknownItems,
    UsageError,
)
from mmfeat.serve.live import UnknownSnapshot
from mmfeat.serve.workers import Busy, TooSlow


class TooMuch(UsageError):
    """The answer would have more bytes than the service gives at once."""


log = logging.getLogger("mmfeat.serve")

MEDIA_TYPE = "application/problem+json"
RETRY = {"Retry-After": "1"}
# The first that fits; an error of none of these is a defect.
_STATUS: tuple[tuple[type[MmfeatError], int], ...] = (
    (UnknownItems, 404),
    (UnknownFeature, 404),
    (UnknownSnapshot, 404),
    (MissingExtra, 501),
    (TooMuch, 413),
    (UsageError, 400),
    (Busy, 503),
    (TooSlow, 504),
    (StoreError, 503),
)
_TITLES = {
    400: "The request cannot be carried out as written",
    401: "A key is needed",
    403: "Not answered",
    404: "Not found",
    405: "Not allowed here",
    408: "The request did not arrive in time",
    413: "The request is too large, or its answer",
    422: "The request is not of the form asked for",
    500: "The service failed",
    501: "Not installed on this service",
    503: "Not possible at the moment",
    504: "It took too long",
}


def problem(
    status: int,
    error: str,
    detail: str,
    hint: str | None = None,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """A problem body. ``error`` is the name that programs go by; ``hint`` says what to do."""
    body: dict[str, Any] = {"type": "about:blank", "title": _TITLES.get(status, "Error"), "status": status}
    body |= {"error": error, "detail": detail} | ({} if hint is None else {"hint": hint}) | more
    return Response(to_json(body), status, headers, MEDIA_TYPE)


def status_of(error: MmfeatError) -> int:
    """The HTTP status that says what kind of error this is; 500 is a defect."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def add_handlers(app: FastAPI, unplaced: Callable[[str], str]) -> None:
    """Answer every error of ``app`` with a problem body.

    Args:
        unplaced: a text without where the store lies.
    """

    @app.exception_handler(MmfeatError)
    async def _mmfeat(request: Request, error: MmfeatError) -> Response:
        status = status_of(error)
        if isinstance(error, StoreError):
            log.error("%s", error.message)
        more = {"ids": error.ids} if isinstance(error, UnknownItems) else {}
        hint = error.hint and unplaced(error.hint)
        headers = RETRY if status in (503, 504) else None
        return problem(status, type(error).__name__, unplaced(error.message), hint, headers, **more)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        # Not what was sent: it may be large, and is the sender's already.
        errors = [{"at": list(e["loc"]), "message": str(e["msg"])} for e in error.errors()]
        first = errors[0]
        where = ".".join(str(part) for part in first["at"])
        return problem(422, "InvalidRequest", f"{where}: {first['message']}", errors=errors)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        hint = "What there is: /openapi.json" if error.status_code in (404, 405) else None
        return problem(error.status_code, "HttpError", str(error.detail), hint, error.headers)

    @app.exception_handler(Exception)
    async def _defect(request: Request, error: Exception) -> Response:
        return problem(500, "Defect", "This is a defect of mmfeat; the service's log says more.")

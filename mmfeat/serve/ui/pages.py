"""The pages: an overview, items, one item with its neighbours, search, failures and reports on vectors."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, File, Form, Query, UploadFile
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.responses import HTMLResponse, Response

from mmfeat.schemas.errors import ItemError, MmfeatError
from mmfeat.schemas.reasons import counted, distinct
from mmfeat.serve.live import View
from mmfeat.serve.problems import problem, status_of
from mmfeat.serve.service import Service
from mmfeat.serve.ui import catalog, facts
from mmfeat.serve.ui.reports import vectors_page
from mmfeat.serve.ui.thumbs import FRAMES, Thumbnails
from mmfeat.web import stylesheet

_PER_PAGE = 48
_SHOWN_FAILURES, _SHOWN_REASONS = 200, 100
# Of reasons in their own words, before those of one kind are put together.
_TOLD_APART = 1_000
_FOUND = 24
_POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)

# The page of a report says itself what may run in it: its own script, by its hash.
_REPORT_POLICY = "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8">'
    '<path fill="#0b57a4" d="M0 5h2v3H0zM3 2h2v6H3zM6 0h2v8H6z"/></svg>'
)

Offset = Annotated[int, Query(ge=0)]


def ui_router(service: Service) -> APIRouter:
    """The pages of one service; they are no part of the API."""
    router = APIRouter(include_in_schema=False)
    templates = _templates()
    thumbnails = Thumbnails()
    style = stylesheet() + (files(__package__) / "style.css").read_text("utf-8")

    async def page(name: str, prepared: Callable[[View], dict[str, Any]]) -> Response:
        def drawn(view: View) -> str:
            template = templates.get_template(f"{name}.html")
            return template.render(here=name, store=service.live.uri, **prepared(view))

        return await answered(drawn, _POLICY)

    async def answered(drawn: Callable[[View], str], policy: str) -> Response:
        status = 200
        try:
            html = await service.ask(drawn)
        except MmfeatError as error:
            status = status_of(error)
            unplaced = service.live.unplaced
            context = {"message": unplaced(error.message), "hint": error.hint and unplaced(error.hint)}
            html = templates.get_template("error.html").render(here="", store=service.live.uri, **context)
            policy = _POLICY
        return HTMLResponse(
            html, status, {"Content-Security-Policy": policy, "Referrer-Policy": "same-origin"}
        )

    @router.get("/style.css")
    async def css() -> Response:
        return Response(style, media_type="text/css")

    @router.get("/icon.svg")
    async def icon() -> Response:
        return Response(_ICON, media_type="image/svg+xml")

    @router.get("/")
    async def overview() -> Response:
        return await page("overview", _overview)

    @router.get("/items")
    async def items(q: str = "", offset: Offset = 0) -> Response:
        def prepared(view: View) -> dict[str, Any]:
            shown, total = catalog.page(view.items, q.strip(), offset, _PER_PAGE)
            more = {"before": max(0, offset - _PER_PAGE), "after": offset + _PER_PAGE}
            return {"items": shown, "total": total, "q": q, "offset": offset, **more}

        return await page("items", prepared)

    @router.get("/item")
    async def item(id: str) -> Response:
        def prepared(view: View) -> dict[str, Any]:
            shown = catalog.one(view.items, id)
            found, values = facts.values(view, id)
            return {"item": shown, "values": values, "near": facts.neighbours(view, found)}

        return await page("item", prepared)

    @router.get("/search")
    async def search(feature: str = "", text: str = "") -> Response:
        def prepared(view: View) -> dict[str, Any]:
            found = facts.search(view, feature, _FOUND, text=text) if feature and text.strip() else None
            asked = f"“{text.strip()}”"
            return {
                "features": facts.searchable(view),
                "by_text": facts.chosen(view, feature, "text"),
                "by_picture": facts.chosen(view, feature, "image"),
                "text": text,
                "found": found,
                "asked": asked,
            }

        return await page("search", prepared)

    @router.post("/search")
    async def search_picture(
        feature: Annotated[str, Form()], picture: Annotated[UploadFile, File()]
    ) -> Response:
        data = await picture.read()

        def prepared(view: View) -> dict[str, Any]:
            found = facts.search(view, feature, _FOUND, image=data)
            asked = f"the picture {picture.filename}"
            return {
                "features": facts.searchable(view),
                "by_text": facts.chosen(view, feature, "text"),
                "by_picture": facts.chosen(view, feature, "image"),
                "text": "",
                "found": found,
                "asked": asked,
            }

        return await page("search", prepared)

    @router.get("/vectors")
    async def vectors(feature: str) -> Response:
        return await answered(lambda view: vectors_page(view, feature, service.live.uri), _REPORT_POLICY)

    @router.get("/failures")
    async def failures(feature: str = "") -> Response:
        def prepared(view: View) -> dict[str, Any]:
            failed = [f for f in view.status if f.failed]
            chosen = feature or (failed[0].version if failed else "")
            return {"failed": failed, "chosen": chosen, **(_failures(view, chosen) if chosen else {})}

        return await page("failures", prepared)

    @router.get("/thumb")
    async def thumb(
        id: str,
        column: str,
        at: Annotated[int, Query(ge=0)] = 0,
        frame: Annotated[int, Query(ge=0)] = 0,
    ) -> Response:
        def made(view: View) -> bytes | str:
            file = catalog.one(view.items, id).location(column, at)
            if file is None:
                return f"this item has no such picture in {column!r}"
            try:
                frames = thumbnails.frames(*file, view.media_buckets)
            except ItemError as error:
                return error.reason
            return frames[min(frame, len(frames) - 1)]

        answer = await service.ask(made)
        if isinstance(answer, str):
            return problem(404, "NoPicture", answer)
        return Response(answer, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=60"})

    return router


def _failures(view: View, version: str) -> dict[str, Any]:
    """The first failures of a version and the commonest reasons: a version may have failed for millions."""
    failed = view.features.failures(version)
    commonest = distinct(failed).sort_by([("items", "descending")]).slice(0, _TOLD_APART)
    reasons = counted(commonest.to_pylist())[:_SHOWN_REASONS]
    return {
        "rows": failed.slice(0, _SHOWN_FAILURES).to_pylist(),
        "total": len(failed),
        "reasons": reasons,
        "others": len(failed) - sum(reason.items for reason in reasons),
    }


def _overview(view: View) -> dict[str, Any]:
    features = view.status
    runs = view.features.runs()
    return {
        "features": features,
        "n_items": view.n_items,
        "opened": view.opened,
        "failed": sum(f.failed for f in features if f.current),
        "snapshots": view.features.snapshots()[::-1],
        "runs": runs[::-1][:10],
        "n_runs": len(runs),
    }


def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("mmfeat.serve.ui"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"frames": range(FRAMES), "shares": facts.shares, "url": _url}
    environment.filters["thousands"] = "{:,}".format
    return environment


def _url(path: str, **query: object) -> str:
    """An address in this service; ids may hold any characters."""
    return f"{path}?{urlencode(query)}"

"""The service as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from mmfeat.serve.budget import Budget
from mmfeat.serve.gate import Gate
from mmfeat.serve.live import LiveStore, Refresher
from mmfeat.serve.metrics import Metrics
from mmfeat.serve.problems import add_handlers
from mmfeat.serve.routes import api_router, operations_router
from mmfeat.serve.service import Service
from mmfeat.serve.settings import Settings
from mmfeat.serve.workers import Workers

_ABOUT = """Features of items: looked up by id, searched by likeness, each with what made it.

Every answer is read from one state of the store and names the feature versions in it. The service never
changes a store. Errors are problem bodies (RFC 9457)."""


def create_app(uri: str, settings: Settings = Settings()) -> FastAPI:  # noqa: B008
    """The application that serves the store at ``uri``.

    Raises:
        StoreError: there is no store there, or it cannot be read.
    """
    live = LiveStore(uri)
    metrics = Metrics(live)
    workers = Workers(settings.max_concurrent, settings.timeout_seconds)
    budget = Budget(settings.max_held_bytes)
    service = Service(live, workers, settings, metrics, budget)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        refresher = Refresher(live, settings.refresh_seconds)
        refresher.start()
        yield
        refresher.stop()
        workers.close()

    # FastAPI's own documentation pages load scripts from elsewhere; /openapi.json needs nothing.
    app = FastAPI(
        title="mmfeat",
        version=version("mmfeat"),
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(api_router(service))
    app.include_router(operations_router(service))
    if settings.ui:
        from mmfeat.serve.ui.pages import ui_router

        app.include_router(ui_router(service))
    add_handlers(app, live.unplaced)
    app.add_middleware(Gate, settings=settings, metrics=metrics, budget=budget)
    if settings.keys:
        _describe_keys(app)
    return app


def _describe_keys(app: FastAPI) -> None:
    """Say in OpenAPI how a key is sent."""
    schema = app.openapi()
    schema.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    schema["security"] = [{"key": []}]

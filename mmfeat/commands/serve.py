"""``mmfeat serve``: the lookup service."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer

from mmfeat import api, console
from mmfeat.schemas.errors import ConfigError, MissingExtra
from mmfeat.serve.settings import KEYS_VARIABLE, Settings, read_keys

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_DEFAULTS = Settings()
_MOST_AT_ONCE, _DAY = 1_000_000, 86_400.0


def serve(
    store: Annotated[
        str, typer.Argument(envvar="MMFEAT_STORE", help="Local folder or object-store URI.")
    ] = api.DEFAULT_STORE,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8080,
    ui: Annotated[bool, typer.Option("--ui", help="Also pages to look at features.")] = False,
    keys_file: Annotated[
        Path | None, typer.Option(help=f"API keys, one a line; {KEYS_VARIABLE} gives some too.")
    ] = None,
    without_keys: Annotated[
        bool, typer.Option("--without-keys", help="Answer everybody who reaches --host.")
    ] = False,
    max_body_bytes: Annotated[
        int, typer.Option(min=1024, max=console.MOST, help="Of one request.")
    ] = _DEFAULTS.max_body_bytes,
    max_answer_bytes: Annotated[
        int, typer.Option(min=1024, max=console.MOST, help="Of one answer.")
    ] = _DEFAULTS.max_answer_bytes,
    max_held_bytes: Annotated[
        int,
        typer.Option(min=1024, max=console.MOST, help="Of all requests and answers under way; more get 503."),
    ] = _DEFAULTS.max_held_bytes,
    max_ids: Annotated[int, typer.Option(min=1, max=console.MOST, help="Of one lookup.")] = _DEFAULTS.max_ids,
    max_k: Annotated[int, typer.Option(min=1, max=console.MOST, help="Of one search.")] = _DEFAULTS.max_k,
    max_concurrent: Annotated[
        int, typer.Option(min=1, max=_MOST_AT_ONCE, help="Requests in work or waiting; more get 503.")
    ] = _DEFAULTS.max_concurrent,
    max_connections: Annotated[
        int, typer.Option(min=1, max=_MOST_AT_ONCE, help="Open at one time; beyond it the slowest make room.")
    ] = _DEFAULTS.max_connections,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=_DAY, callback=console.no_nan, help="Seconds for one answer.")
    ] = _DEFAULTS.timeout_seconds,
    refresh: Annotated[
        float,
        typer.Option(
            min=0.05, max=_DAY, callback=console.no_nan, help="Seconds between looks for something new."
        ),
    ] = _DEFAULTS.refresh_seconds,
    json: console.Json = False,
) -> None:
    """Answer lookups and searches over HTTP. Read-only; SIGTERM ends it when all in work is answered."""
    keys = read_keys(os.environ, keys_file)
    if not keys and host not in _LOOPBACK and not without_keys:
        raise ConfigError(
            f"Listening on {host} without a key would answer everybody who reaches this machine.",
            hint=f"Set {KEYS_VARIABLE} or --keys-file, or say --without-keys where a proxy asks for keys.",
        )
    settings = Settings(
        keys=keys,
        max_body_bytes=max_body_bytes,
        max_answer_bytes=max_answer_bytes,
        max_held_bytes=max_held_bytes,
        max_ids=max_ids,
        max_k=max_k,
        max_concurrent=max_concurrent,
        max_connections=max_connections,
        timeout_seconds=timeout,
        refresh_seconds=refresh,
        ui=ui,
        local=not keys and not without_keys,
    )
    # Before the first answer there is nothing to lose; after it uvicorn raises the signal again once it
    # has done what the signal asked for.
    with contextlib.suppress(KeyboardInterrupt):
        _answer(store, settings, host, port, json)


def _answer(store: str, settings: Settings, host: str, port: int, json: bool) -> None:
    """Serve until a signal ends it."""
    try:
        from mmfeat.serve.app import create_app
        from mmfeat.serve.server import address, listen
        from mmfeat.serve.server import serve as answer
    except ImportError as error:
        raise MissingExtra("mmfeat serve", "serve", error.name or "fastapi") from None
    app = create_app(store, settings)
    with listen(host, port) as listening:
        url = address(listening)

        def started() -> None:
            if json:
                facts = {"url": url, "store": store, "keys": len(settings.keys), "ui": settings.ui}
                console.print_json(facts)
            else:
                console.say(f"Serving {store} at {url}" + (f", pages at {url}/" if settings.ui else ""))
                console.say(f"The API is described at {url}/openapi.json. Ctrl-C or SIGTERM ends it.")

        answer(app, listening, started)

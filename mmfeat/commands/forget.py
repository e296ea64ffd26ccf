"""``forget``: remove items from a store for good, and look for what is left of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmfeat import api, console
from mmfeat.schemas.errors import UsageError

if TYPE_CHECKING:
    from mmfeat.pipelines.forget import ForgetReport, ForgottenReport
    from mmfeat.store import Exported

_SHOWN = 5


def forget(
    ids: Annotated[list[str] | None, typer.Argument(help="Item ids.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why; it is kept with the ids.")] = None,
    ids_from: Annotated[
        str | None, typer.Option(help="A file with an item id on each line; - for standard input.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="The URL cache, where a job names one of its own.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Look for forgotten items in every file of the store.")
    ] = False,
    store: console.StoreUri = api.DEFAULT_STORE,
    json: console.Json = False,
) -> None:
    """Remove items for good, from every feature, version, snapshot and index. It can't be undone."""
    wanted = [*(ids or []), *([] if ids_from is None else _ids_from(ids_from))]
    if not verify:
        _forget(wanted, reason, cache, store, json)
    elif wanted or reason is not None:
        raise UsageError("--verify takes no ids and no reason: it looks for every item ever forgotten.")
    else:
        _verify(store, json)


def _forget(wanted: list[str], reason: str | None, cache: Path | None, store: str, json: bool) -> None:
    if not wanted or reason is None:
        raise UsageError(
            "Forgetting needs item ids and a --reason.",
            hint="For example: mmfeat forget 4 11 --reason 'taken down by their owner'.",
        )
    report = api.open(store).forget(wanted, reason, cache=cache)
    if json:
        console.print_json(report.to_dict())
    else:
        _print_forgotten(report)


def _verify(store: str, json: bool) -> None:
    report = api.open(store).verify_forgotten()
    if json:
        console.print_json(report.to_dict())
    else:
        _print_verified(report)
    if not report.ok:
        raise typer.Exit(1)


def _ids_from(place: str) -> list[str]:
    try:
        text = sys.stdin.read() if place == "-" else Path(place).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Cannot read item ids from {place}: {error}.") from None
    return [line for line in text.splitlines() if line]


def _print_forgotten(report: ForgetReport) -> None:
    console.say(f"{_items(report.forgotten)} forgotten: {report.reason}")
    if report.snapshots:
        console.say(f"  rewritten without them: the snapshots {', '.join(report.snapshots)}")
    if report.urls:
        console.say(f"  addresses removed from the URL cache: {report.urls:,}")
    _print_exports(report.stale_exports)
    console.say("  media files of the dataset are not the store's: they are where they were")


def _print_verified(report: ForgottenReport) -> None:
    console.say(f"{len(report.forgotten):,} items were forgotten in {report.store}.")
    for table, left in report.remains.items():
        console.say(f"  {table} still holds {_items(left)}")
    if report.pending:
        console.say(f"  begun and not finished: {_items(report.pending)}; forget them again")
    elif report.ok:
        console.say("  nothing of them is in any of its files")
    _print_exports(report.stale_exports)


def _print_exports(stale: list[Exported]) -> None:
    for made in stale:
        console.say(
            f"  stale export: {made.path} on {made.host} ({made.format}, {made.created:%Y-%m-%d %H:%M} UTC)"
        )


def _items(ids: list[str]) -> str:
    shown = ", ".join(ids[:_SHOWN]) + (", ..." if len(ids) > _SHOWN else "")
    return f"{len(ids):,} {'item' if len(ids) == 1 else 'items'} ({shown})"

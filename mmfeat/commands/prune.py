"""``prune``: remove what a store still has of items that left their dataset."""

from __future__ import annotations

from typing import Annotated

import typer

from mmfeat import api, console
from mmfeat.schemas.errors import UsageError


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; the default.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it.")] = False,
    store: console.StoreUri = api.DEFAULT_STORE,
    json: console.Json = False,
) -> None:
    """Remove the rows of items that left their dataset. Says what would go; with --yes it goes."""
    if yes and dry_run:
        raise UsageError("Give --dry-run or --yes, not both.")
    opened = api.open(store)
    gone = opened.prune() if yes else opened.prunable()
    if json:
        console.print_json({**gone.to_dict(), "removed": yes})
        return
    for version, rows in gone.rows.items():
        console.say(f"  {version}: {rows:,} rows")
    if not gone.items:
        console.say("No item has left its dataset: nothing would go.")
    elif yes:
        console.say(
            f"{len(gone.items):,} items that had left their dataset are removed; snapshots keep theirs."
        )
    else:
        console.say(
            f"{len(gone.items):,} items are gone from their dataset"
            + (f", the first since {gone.since:%Y-%m-%d %H:%M} UTC" if gone.since else "")
            + ". Nothing is removed without --yes."
        )

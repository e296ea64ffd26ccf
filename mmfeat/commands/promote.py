"""``promote``, ``rollback`` and ``gc``: which versions are current, and which may go."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from mmfeat import api, console
from mmfeat.schemas.errors import UsageError

if TYPE_CHECKING:
    from mmfeat.store import Survey

_AGE = re.compile(r"(\d{1,6})([hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def promote(
    versions: Annotated[list[str], typer.Argument(help="NAME@FINGERPRINT, of one or more features.")],
    store: console.StoreUri = api.DEFAULT_STORE,
    json: console.Json = False,
) -> None:
    """Make versions current, all at once: their names alone mean them from then on."""
    promoted = api.open(store).lifecycle.promote(versions)
    if json:
        console.print_json({"promoted": promoted})
    elif promoted:
        console.say(f"Current now: {', '.join(promoted)}.")
    else:
        console.say("They were current already.")


def rollback(
    features: Annotated[list[str], typer.Argument(help="Names of one or more features.")],
    store: console.StoreUri = api.DEFAULT_STORE,
    json: console.Json = False,
) -> None:
    """Undo the last promotion of features, all at once. No run promotes what was rolled back."""
    current = api.open(store).lifecycle.rollback(features)
    if json:
        console.print_json({"promoted": current})
    else:
        console.say(f"Current again: {', '.join(current)}.")


def gc(
    keep: Annotated[
        int,
        typer.Option(
            min=1,
            max=console.MOST,
            help="Of each feature, the current version and the newest others: so many.",
        ),
    ],
    keep_snapshots: Annotated[
        int | None, typer.Option(min=0, max=console.MOST, help="The newest so many snapshots [default: all].")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(help="Only what was made longer ago: 12h, 30d or 8w.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; the default.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it, for good.")] = False,
    store: console.StoreUri = api.DEFAULT_STORE,
    json: console.Json = False,
) -> None:
    """Remove old feature versions and snapshots. Says what would go; with --yes it goes."""
    from mmfeat.store import Retention

    if yes and dry_run:
        raise UsageError("Give --dry-run or --yes, not both.")
    retention = Retention(keep, keep_snapshots, timedelta(0) if older_than is None else _age(older_than))
    lifecycle = api.open(store).lifecycle
    survey, freed = lifecycle.remove_old(retention) if yes else (lifecycle.old(retention), None)
    if json:
        console.print_json({**survey.to_dict(), "removed": yes, "freed_bytes": freed})
    else:
        _print_survey(survey, freed)


def _age(text: str) -> timedelta:
    found = _AGE.fullmatch(text)
    if found is None:
        raise UsageError(f"--older-than takes a number and h, d or w, not {text!r}.", hint="For example 30d.")
    return int(found[1]) * _UNITS[found[2]]


def _print_survey(survey: Survey, freed: int | None) -> None:
    if survey.garbage:
        console.table(
            ("what", "name", "made (UTC)", "bytes"),
            [
                (one.kind, one.name, f"{one.created:%Y-%m-%d %H:%M}" if one.created else "", one.bytes)
                for one in survey.garbage
            ],
            right=("bytes",),
        )
    for version, why in survey.kept.items():
        console.say(f"{version} stays: {why}.")
    if freed is not None:
        console.say(f"{len(survey.garbage):,} removed, {freed:,} bytes freed.")
    elif survey.garbage:
        total = sum(one.bytes for one in survey.garbage)
        console.say(
            f"{len(survey.garbage):,} would go, with {total:,} bytes. Nothing is removed without --yes."
        )
    else:
        console.say("Nothing would go.")

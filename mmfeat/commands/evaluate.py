"""``evaluate``: does a feature help to recommend?"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmfeat import api, console
from mmfeat.schemas.evaluation import CHEAP

if TYPE_CHECKING:
    from mmfeat.evaluate import Evaluation, FeatureVerdict, Finding

_INTERRUPTED = 130


class Split(StrEnum):
    """What is held out."""

    last = "last"
    time = "time"
    cold = "cold"


def evaluate(
    features: Annotated[
        list[str] | None,
        typer.Argument(help="Features or versions, side by side [default: all current ones]."),
    ] = None,
    protocols: Annotated[
        list[str] | None,
        typer.Option("--protocols", help=f"By comma or one by one [default: {','.join(CHEAP)}]."),
    ] = None,
    split: Annotated[
        Split,
        typer.Option(help="What is held out: every user's last item, the latest tenth, or whole items."),
    ] = Split.last,
    users: Annotated[
        int, typer.Option(min=10, max=10**9, help="Judge at most so many users, drawn by the seed.")
    ] = 10_000,
    ids: Annotated[
        bool, typer.Option("--ids", help="Trained models have a vector of their own for every item too.")
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, max=console.MOST_SEED, help="Of everything drawn at random.")
    ] = 0,
    store: console.StoreUri = api.DEFAULT_STORE,
    snapshot: console.SnapshotName = None,
    json: console.Json = False,
) -> None:
    """Hold features against the interactions, beside shuffled rows, random vectors and no feature at all."""
    given: dict[str, Any] = {"split": split.value, "users": users, "ids": ids, "seed": seed}
    if named := console.names(protocols):
        given["protocols"] = tuple(named)
    opened = api.open(store, snapshot)
    found = opened.evaluate(console.names(features) or (), console.note, **given)
    if json:
        console.print_json(found.to_dict())
    else:
        _print(found)
    if found.interrupted:
        raise typer.Exit(_INTERRUPTED)


def _print(found: Evaluation) -> None:
    console.paragraph(
        f"{found.items:,} items, {found.users:,} users, {found.interactions:,} interactions; held out: "
        f"{found.held_out}; {found.judged:,} users can be judged."
    )
    for note in found.notes:
        console.paragraph(f"Note: {note}.")
    for one in found.features:
        console.heading(one.version)
        console.paragraph(one.verdict)
        _print_figures(one)
        _print_slices(one)
    if found.comparisons:
        console.heading("Side by side")
        _print_comparisons(found)
        for words in found.agreement:
            console.paragraph(words)


def _print_figures(one: FeatureVerdict) -> None:
    columns = ("protocol", "metric", "value", "interval", "shuffled", "random", "cases")
    rows = [
        (name, metric, *_figures(finding, metric))
        for name, finding in one.findings.items()
        for metric in finding.metrics
    ]
    console.table(columns, rows, right=("value", "interval", "shuffled", "random", "cases"))
    for name, finding in one.findings.items():
        if (p := finding.lift.p) is not None and finding.lift.effect is not None:
            console.say(
                f"{name}: {finding.lift.effect:.1f} standard deviations of shuffled rows above them"
                f" (p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}, {finding.lift.tested:,} shuffles)"
            )


def _figures(finding: Finding, metric: str) -> tuple[str, ...]:
    own = finding.metrics[metric]
    beside = [
        f"{group[metric].mean:.4f}" if metric in group else "" for group in (finding.shuffled, finding.random)
    ]
    return f"{own.mean:.4f}", f"[{own.low:.4f}, {own.high:.4f}]", *beside, f"{own.cases:,} {finding.cases}"


def _print_slices(one: FeatureVerdict) -> None:
    rows = [
        (name, finding.main, part, f"{value.mean:.4f}", f"[{value.low:.4f}, {value.high:.4f}]", value.cases)
        for name, finding in one.findings.items()
        for part, value in finding.slices.items()
    ]
    if rows:
        columns = ("protocol", "metric", "items sought", "value", "interval", "cases")
        console.table(columns, rows, right=("value", "interval", "cases"))


def _print_comparisons(found: Evaluation) -> None:
    console.table(
        ("protocol", "first", "second", "metric", "second - first", "interval", "p", "effect", "better"),
        [
            (
                c.protocol,
                c.first,
                c.second,
                c.metric,
                f"{c.difference.mean:+.4f}",
                f"[{c.difference.low:+.4f}, {c.difference.high:+.4f}]",
                f"{c.p:.3f}",
                f"{c.difference.effect:+.2f}",
                c.better or "neither",
            )
            for c in found.comparisons
        ],
        right=("second - first", "interval", "p", "effect"),
    )

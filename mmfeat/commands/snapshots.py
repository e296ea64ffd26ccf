"""``snapshot create``, ``list``, ``diff`` and ``delete``: names for the state of a store."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmfeat import api, console

if TYPE_CHECKING:
    from mmfeat.store import FeatureDiff, Snapshot, StoreDiff

app = typer.Typer(no_args_is_help=True, help="Names for the state of a store, which then stays readable.")

_SHOWN = 5

Name = Annotated[str, typer.Argument(help="The snapshot's name.")]


@app.command("create")
def create(name: Name, store: console.StoreUri = api.DEFAULT_STORE, json: console.Json = False) -> None:
    """Pin every feature version and the catalog as they are now."""
    made = api.open(store).create_snapshot(name)
    if json:
        console.print_json(_json(made))
        return
    console.say(f"Snapshot {name} of {store}: {made.items:,} items, {len(made.features)} features.")
    for version in made.features.values():
        console.say(f"  {version}")


@app.command("list")
def list_snapshots(store: console.StoreUri = api.DEFAULT_STORE, json: console.Json = False) -> None:
    """Every snapshot, oldest first."""
    found = api.open(store).snapshots()
    if json:
        console.print_json([_json(snapshot) for snapshot in found])
        return
    rows = [
        (
            s.name,
            f"{s.created:%Y-%m-%d %H:%M:%S}",
            s.items,
            ", ".join(s.features.values()),
            _rewritten(s),
        )
        for s in found
    ]
    console.table(("snapshot", "created (UTC)", "items", "features", "rewritten"), rows, right=("items",))


@app.command("diff")
def diff(
    before: Annotated[str, typer.Argument(help="The earlier snapshot.")],
    after: Annotated[
        str | None, typer.Argument(help="The later one; the store as it is now if left out.")
    ] = None,
    store: console.StoreUri = api.DEFAULT_STORE,
    json: console.Json = False,
) -> None:
    """Items added, gone and changed, specs that differ, and how far vectors moved."""
    found = api.open(store).diff(before, after)
    if json:
        console.print_json(found.to_dict())
    else:
        _print_diff(found, before, after or "now")


@app.command("delete")
def delete(name: Name, store: console.StoreUri = api.DEFAULT_STORE, json: console.Json = False) -> None:
    """Forget a snapshot. What only it kept is removed by a run a day later."""
    api.open(store).delete_snapshot(name)
    if json:
        console.print_json({"deleted": name})
    else:
        console.say(f"Snapshot {name} of {store} is deleted.")


def _json(snapshot: Snapshot) -> dict[str, Any]:
    # The tables' Lance versions are the store's own affair.
    return {key: value for key, value in asdict(snapshot).items() if key != "tables"}


def _rewritten(snapshot: Snapshot) -> str:
    if snapshot.rewritten is None:
        return ""
    items = "item" if snapshot.forgotten == 1 else "items"
    return f"{snapshot.forgotten:,} {items} forgotten, {snapshot.rewritten:%Y-%m-%d %H:%M:%S}"


def _print_diff(found: StoreDiff, before: str, after: str) -> None:
    console.say(
        f"From {before} to {after}: {_counted(found.added, 'added')}, {_counted(found.gone, 'gone')}."
    )
    console.table(
        ("feature", "before", "after", "rows added", "gone", "content changed"),
        [
            (f.name, _hash(f.before), _hash(f.after), len(f.added), len(f.gone), len(f.changed))
            for f in found.features
        ],
        right=("rows added", "gone", "content changed"),
    )
    for feature in found.features:
        _print_feature(feature)
    _print_drift([f for f in found.features if f.drift is not None])


def _print_feature(feature: FeatureDiff) -> None:
    for field, (old, new) in feature.spec.items():
        console.say(f"{feature.name}: {field} was {old!r} and is {new!r}")
    for move, count in feature.status.items():
        console.say(f"{feature.name}: {count:,} rows {move}")
    if feature.changed:
        console.say(f"{feature.name}: the content changed of {_examples(feature.changed)}")
    if feature.drift is None:
        console.say(f"{feature.name}: no cosine, for {feature.no_drift}")


def _print_drift(features: list[FeatureDiff]) -> None:
    rows = []
    for feature in features:
        drift = feature.drift
        assert drift is not None, "only features with a drift are listed"
        numbers = (drift.mean, drift.minimum, *drift.quantiles.values())
        rows.append((feature.name, drift.items, *(f"{number:.4f}" for number in numbers)))
    if rows:
        quantiles = [f"q{key}" for key in features[0].drift.quantiles] if features[0].drift else []
        columns = ("cosine of", "items", "mean", "lowest", *quantiles)
        console.table(columns, rows, right=columns[1:])


def _counted(ids: list[str], what: str) -> str:
    plural = "item" if len(ids) == 1 else "items"
    return f"{len(ids):,} {plural} {what}" + (f" ({_examples(ids)})" if ids else "")


def _examples(ids: list[str]) -> str:
    return ", ".join(ids[:_SHOWN]) + (", ..." if len(ids) > _SHOWN else "")


def _hash(version: str | None) -> str:
    return "" if version is None else version.partition("@")[2]

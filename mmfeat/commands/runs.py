"""``runs list`` and ``runs show``: what was done to a store, when, by whom, and how it ended."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from mmfeat import api, console
from mmfeat.schemas.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="The records that runs left in a store.")

_SHOWN_END = 60
_COUNTS = ("up_to_date", "ok", "missing", "failed")


@app.command("list")
def list_runs(
    store: console.StoreUri = api.DEFAULT_STORE,
    limit: Annotated[int, typer.Option(min=1, max=console.MOST, help="At most this many, the latest.")] = 20,
    json: console.Json = False,
) -> None:
    """The latest runs, oldest first, and how each ended."""
    found = api.open(store).runs()[-limit:]
    if json:
        console.print_json(found)
        return
    rows = [
        (r["run_id"], r.get("kind"), _time(r["began"]), _seconds(r), r["by"], *_totals(r), _short(r["end"]))
        for r in found
    ]
    numbers = ("seconds", "ok", "missing", "failed")
    columns = ("run", "kind", "began (UTC)", "seconds", "by", *numbers[1:], "end")
    console.table(columns, rows, right=numbers)


@app.command("show")
def show(
    run: Annotated[
        str | None, typer.Argument(help="The run's id or how it begins; the latest run if left out.")
    ] = None,
    store: console.StoreUri = api.DEFAULT_STORE,
    json: console.Json = False,
) -> None:
    """One run: its record and its log."""
    opened = api.open(store)
    record = _chosen(opened.runs(), run, store)
    log = opened.run_log(record["run_id"])
    if json:
        lines = [{"time": time.isoformat(), "message": message} for time, message in log]
        console.print_json({**record, "log": lines})
        return
    _print_record(record)
    console.heading("Log")
    for time, message in log:
        console.say(f"{time:%H:%M:%S}  {message}")


def _chosen(records: list[dict[str, Any]], run: str | None, store: str) -> dict[str, Any]:
    matches = records[-1:] if run is None else [r for r in records if r["run_id"].startswith(run)]
    if len(matches) != 1:
        several = "There is no run" if not matches else f"{len(matches)} runs begin with"
        raise UsageError(
            f"{several}{'' if run is None else f' {run!r}'} in {store}.",
            hint=f"See `mmfeat runs list --store {store}`.",
        )
    return matches[0]


def _print_record(record: dict[str, Any]) -> None:
    console.say(f"Run {record['run_id']} ({record.get('kind', 'extract')}): {record['end']}")
    took = f", {record['seconds']:,.1f} s" if record["seconds"] is not None else ""
    console.say(f"began {_time(record['began'])} UTC{took}, by {record['by']}")
    if "command" in record:
        console.say(f"command: {record['command']}")
    machine = record["machine"]
    if isinstance(machine, dict):
        machine = f"{machine['platform']}, Python {machine['python']}, {machine['cpus']} CPUs"
    console.say(f"machine: {machine}")
    console.say("packages: " + ", ".join(f"{name} {v}" for name, v in record["packages"].items()))
    dataset = record["dataset"]
    console.say(f"dataset: {dataset.get('name')} {dataset.get('root') or ''}".rstrip())
    features = (record["report"] or {}).get("features")
    if features is None:
        console.say("features: " + ", ".join(record["versions"]))
        if record.get("kind") == "import" and record["report"]:
            console.say(_imported(record["report"]))
        return
    rows = [(f["version"], *(f[name] for name in _COUNTS), f"{f['seconds']:.1f}") for f in features]
    columns = ("feature", "up to date", *_COUNTS[1:], "model s")
    console.table(columns, rows, right=columns[1:])
    for feature in features:
        for reason, count in feature["reasons"].items():
            console.say(f"  {feature['version']}: {count:,} x {reason}")


def _imported(report: dict[str, Any]) -> str:
    """What an import did, in a line."""
    left_out = report["skipped"] + report["empty"]
    return (
        f"imported: {report['vectors']:,} vectors of {report['dims']} dims ({report['digest']}); "
        f"{report['ok']:,} items have one, {report['missing']:,} have none, {left_out:,} rows were left out, "
        f"{report['committed']:,} rows committed"
    )


def _totals(record: dict[str, Any]) -> list[int | None]:
    """Rows that the run committed: ok, missing and failed over all features; nothing if it did not say."""
    features = (record["report"] or {}).get("features")
    return [sum(f[name] for f in features) if features is not None else None for name in _COUNTS[1:]]


def _time(began: str) -> str:
    return f"{datetime.fromisoformat(began):%Y-%m-%d %H:%M:%S}"


def _seconds(record: dict[str, Any]) -> str | None:
    return None if record["seconds"] is None else f"{record['seconds']:,.1f}"


def _short(end: str) -> str:
    return end if len(end) <= _SHOWN_END else end[: _SHOWN_END - 3] + "..."

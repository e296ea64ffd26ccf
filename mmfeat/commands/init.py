"""``init``: a first job file for a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmfeat import api, console
from mmfeat.commands.jobs import ColumnOption, parse_columns, parse_dataset_options


def init(
    dataset: Annotated[str, typer.Option(help="Dataset adapter; see `mmfeat datasets list`.")],
    root: Annotated[str | None, typer.Option(help="The dataset's folder or file.")] = None,
    out: Annotated[Path, typer.Option(help="The job file; must not be there yet.")] = Path("job.toml"),
    preset: Annotated[str, typer.Option(help="Named set of features.")] = api.DEFAULT_PRESET,
    store: console.StoreUri = api.DEFAULT_STORE,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="An option of the dataset: KEY=VALUE.")
    ] = None,
    column: ColumnOption = None,
    json: console.Json = False,
) -> None:
    """Look at a dataset and write a job file that fits what it has."""
    from mmfeat.starter import write_job

    asked = parse_columns(column or [])
    found = write_job(dataset, root, parse_dataset_options(option or []), asked, store, preset, out)
    if json:
        console.print_json({"job": str(out), "dataset": found.to_dict()})
        return
    columns = ", ".join(f"{one.found:,} with a {one.column}" for one in found.columns if one.found)
    console.say(f"{found.dataset}: {found.items:,} items: {columns}.")
    console.say(f"Written to {out}. Read it, then: mmfeat run {out}")

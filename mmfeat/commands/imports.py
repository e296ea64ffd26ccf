"""``import``: vectors that others made into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmfeat import api, console


def import_(
    name: Annotated[str, typer.Argument(help="Name of the feature.")],
    vectors: Annotated[
        Path, typer.Option(help="A .npy, .safetensors, .parquet or .json file, or the folder of an export.")
    ],
    ids: Annotated[
        Path | None, typer.Option(help="The item of each row: a .json, .npy or .txt list of ids.")
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(help="Or by which rule a row is an item's: zero-based, one-based, padded or microlens."),
    ] = None,
    feature: Annotated[
        str | None, typer.Option(help="Which column, tensor or role, where the file has several.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="What made the vectors, for people.")] = None,
    unknown: Annotated[
        str, typer.Option(help="Rows of ids that the store does not know: error or skip.")
    ] = "error",
    empty: Annotated[
        str, typer.Option(help="Rows of zeros, or with NaN or infinity: error or missing.")
    ] = "error",
    min_coverage: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            callback=console.no_nan,
            metavar="SHARE",
            help="Least share of the items that must have one for it to become current.",
        ),
    ] = None,
    min_neighbour_overlap: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            callback=console.no_nan,
            metavar="SHARE",
            help="Least share of nearest neighbours that stay those of the current version.",
        ),
    ] = None,
    store: console.StoreUri = api.DEFAULT_STORE,
    json: console.Json = False,
) -> None:
    """Import vectors that others made, as a version of a feature."""
    gates = {"min_coverage": min_coverage, "min_neighbour_overlap": min_neighbour_overlap}
    report = api.import_vectors(
        name,
        vectors,
        store=store,
        ids=ids,
        rows=rows,
        feature=feature,
        model=model,
        unknown=unknown,
        empty=empty,
        **{gate: least for gate, least in gates.items() if least is not None},
    )
    if json:
        console.print_json(report.to_dict())
        return
    for notice in report.notices:
        console.say(f"Note: {notice}.")
    left_out = [
        (
            report.skipped,
            "rows of ids that the store does not know, or of items that are gone, were left out",
        ),
        (report.empty, "rows are no vectors, and their items are missing"),
    ]
    for count, what in left_out:
        if count:
            console.say(f"{count:,} {what}.")
    console.say(
        f"{report.version}: {report.vectors:,} vectors of {report.dims} dims ({report.digest[:19]}); "
        f"{report.ok:,} of {report.ok + report.missing:,} items have one; "
        + (f"{report.committed:,} rows committed" if report.committed else "nothing to do")
        + f" in {report.seconds:.1f} s."
    )

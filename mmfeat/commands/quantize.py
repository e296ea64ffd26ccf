"""``quantize``: a vector feature to semantic ids."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from mmfeat import api, console

if TYPE_CHECKING:
    from mmfeat.pipelines.quantize import QuantizeReport


class Method(StrEnum):
    """How vectors become codes."""

    residual_kmeans = "residual_kmeans"
    rqvae = "rqvae"


def quantize(
    feature: Annotated[str, typer.Argument(help="Vector feature or version.")],
    name: Annotated[str | None, typer.Option(help="Name of the codes [default: FEATURE_codes].")] = None,
    method: Annotated[Method, typer.Option(help="How vectors become codes.")] = Method.residual_kmeans,
    levels: Annotated[int, typer.Option(min=1, help="Codes per item, coarse to fine.")] = 3,
    codebook_size: Annotated[int, typer.Option(min=1, help="Different codes per level.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn at random.")] = 0,
    collision_level: Annotated[
        bool, typer.Option("--collision-level", help="Add a last code that makes every item's codes unique.")
    ] = False,
    store: console.StoreUri = api.DEFAULT_STORE,
    json: console.Json = False,
) -> None:
    """Turn a vector feature into semantic ids: a few discrete codes per item."""
    report = api.quantize(
        feature,
        store=store,
        name=name,
        method=method.value,
        levels=levels,
        codebook_size=codebook_size,
        seed=seed,
        collision_level=collision_level,
    )
    if json:
        console.print_json(report.to_dict())
    else:
        _print_report(report)


def _print_report(report: QuantizeReport) -> None:
    quality = report.quality
    console.table(
        ("level", "codes used", "perplexity"),
        [
            (k + 1, f"{used:.1%}", f"{perplexity:.1f}")
            for k, (used, perplexity) in enumerate(zip(quality.used, quality.perplexity, strict=True))
        ],
        right=("level", "codes used", "perplexity"),
    )
    console.say(
        f"Reconstruction: relative squared error {quality.relative_mse:.4f}, cosine {quality.cosine:.4f}."
    )
    console.say(
        f"Collisions: {quality.collision_rate:.2%} of the items share their codes with another, "
        f"at most {quality.largest_collision:,} the same ones"
        + ("; the collision level tells them apart." if report.collision_level else ".")
    )
    console.say(
        f"{report.version} from {report.source}: {report.ok:,} ok, {report.missing:,} missing, "
        f"{report.failed:,} failed, {report.absent:,} without a row in the source; "
        + (f"{report.committed:,} rows committed" if report.committed else "nothing to do")
        + f" in {report.seconds:.1f} s."
    )

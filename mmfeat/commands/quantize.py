"""``quantize``: a vector feature to semantic ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mmfeat import api, console
from mmfeat.schemas.errors import UsageError

if TYPE_CHECKING:
    from mmfeat.pipelines.quantize import QuantizeReport


def quantize(
    features: Annotated[
        list[str], typer.Argument(help="Vector feature or version; several become codes together.")
    ],
    name: Annotated[str | None, typer.Option(help="Name of the codes [default: FEATURE_codes].")] = None,
    method: Annotated[
        str,
        typer.Option(help="How vectors become codes: residual_kmeans, balanced_kmeans, rqvae, pq or opq."),
    ] = "residual_kmeans",
    levels: Annotated[
        int | None, typer.Option(min=1, max=console.MOST, help="Codes per item, coarse to fine [default: 3].")
    ] = None,
    codebook_size: Annotated[
        int | None, typer.Option(min=1, max=console.MOST, help="Different codes per level [default: 256].")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=console.MOST_SEED, help="Of everything drawn at random [default: 0]."),
    ] = None,
    collision_level: Annotated[
        bool, typer.Option("--collision-level", help="Add a last code that makes every item's codes unique.")
    ] = False,
    collisions: Annotated[
        str | None,
        typer.Option(help="popularity: the last code numbers items by interactions [default: by id]."),
    ] = None,
    sinkhorn_epsilon: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=console.MOST,
            callback=console.no_nan,
            help="The last level tells items apart by LC-Rec's rule: 0.003 there [default: off].",
        ),
    ] = None,
    fit_sample: Annotated[
        int | None,
        typer.Option(min=1, max=console.MOST, help="Fit to so many vectors at most [default: all]."),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(help="Of several features: concat, or parallel codes of each [default: concat]."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Of several features, by comma: 1,0.5 [default: all 1].")
    ] = None,
    refit: Annotated[
        bool, typer.Option("--refit", help="Fit new codebooks, which makes a new version of the codes.")
    ] = False,
    store: console.StoreUri = api.DEFAULT_STORE,
    json: console.Json = False,
) -> None:
    """Turn vector features into semantic ids: a few discrete codes per item."""
    given = {
        "levels": levels,
        "codebook_size": codebook_size,
        "seed": seed,
        "collision_level": collision_level or None,
        "collisions": collisions,
        "sinkhorn_epsilon": sinkhorn_epsilon,
        "fit_sample": fit_sample,
        "mode": mode,
        "weights": None if weights is None else _numbers(weights),
    }
    # What was not said is left to the defaults of the quantizer's own options.
    options = {key: value for key, value in given.items() if value is not None}
    report = api.quantize(features, store=store, name=name, method=method, refit=refit, **options)
    if json:
        console.print_json(report.to_dict())
    else:
        _print_report(report)


def _numbers(by_comma: str) -> list[float]:
    try:
        return [float(number) for number in by_comma.split(",")]
    except ValueError:
        raise UsageError(
            f"--weights {by_comma!r} are no numbers.", hint="Write one for each feature, by comma: 1,0.5."
        ) from None


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
    if report.kept is not None:
        console.say(f"Fitted anew: {report.kept}.")
    console.say(f"Drift: {report.drift}.")
    for notice in report.notices:
        console.say(f"Note: {notice}.")
    console.say(
        f"{report.version} from {report.source}: {report.ok:,} ok, {report.missing:,} missing, "
        f"{report.failed:,} failed, {report.absent:,} without a row in the source; "
        + (f"{report.committed:,} rows committed" if report.committed else "nothing to do")
        + f" in {report.seconds:.1f} s."
    )

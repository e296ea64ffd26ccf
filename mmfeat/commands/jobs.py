"""``demo``, ``extract`` and ``run``: commands that bring a store up to date."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmfeat import api, console
from mmfeat.schemas.errors import GateFailed, UsageError

if TYPE_CHECKING:
    from mmfeat.pipelines.progress import Reporter
    from mmfeat.pipelines.run_report import RunReport
    from mmfeat.schemas.job import JobConfig

_SHOWN_REASONS = 3
_INTERACTIONS = "interactions"

ColumnOption = Annotated[
    list[str] | None,
    typer.Option("--column", help="A column that the dataset's adapter can't know of: NAME=MODALITY."),
]
AddOption = Annotated[
    bool, typer.Option("--add", help="Put the dataset beside another one that the store has.")
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Put the dataset in the place of all that the store has.")
]
AcceptOption = Annotated[
    bool, typer.Option("--accept-loss", help="Go on although the store loses more than [run] max_lost of it.")
]
AcceptChangedOption = Annotated[
    bool,
    typer.Option(
        "--accept-changed",
        help="Go on although a model gives other values than when its feature's version was begun.",
    ),
]


class Executor(StrEnum):
    """What runs the models."""

    auto = "auto"
    local = "local"
    ray = "ray"


ExecutorOption = Annotated[
    Executor | None,
    typer.Option(help="What computes: Ray, this process alone, or what is done sooner [default: auto]."),
]


def extract(
    dataset: Annotated[
        str | None, typer.Option(help="Dataset adapter; see `mmfeat datasets list` [default: --config's].")
    ] = None,
    root: Annotated[str | None, typer.Option(help="The dataset's folder or file.")] = None,
    store: Annotated[
        str | None,
        typer.Option(
            envvar="MMFEAT_STORE", help="Local folder or object-store URI [default: --config's, or features]."
        ),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Named set of features [default: offline].")] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with [features.NAME] tables, and defaults for what is not said here."),
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(help="Only these features, by comma or one by one, and what they read."),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="An option of the dataset: KEY=VALUE.")
    ] = None,
    column: ColumnOption = None,
    dataset_id: Annotated[str | None, typer.Option(help="What tells the dataset from others.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=console.MOST, help="Only the first N items.")
    ] = None,
    max_failed: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            callback=console.no_nan,
            help="Share of failed rows that is too many [default: 0.05].",
        ),
    ] = None,
    add: AddOption = False,
    replace: ReplaceOption = False,
    accept_loss: AcceptOption = False,
    accept_changed: AcceptChangedOption = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try items again that failed before.")
    ] = False,
    wait: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1e6,
            callback=console.no_nan,
            help="Seconds to wait for another process that writes the store [default: 0].",
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=console.MOST, help="Rows a model sees at a time.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=console.MOST, help="Encoding processes per model group.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=console.MOST, help="Compute threads of each of them.")
    ] = None,
    ray_address: Annotated[str | None, typer.Option(help="A running Ray cluster.")] = None,
    executor: ExecutorOption = None,
    base_url: Annotated[
        str | None, typer.Option(help="Server of captioner 'openai' [default: $OPENAI_BASE_URL].")
    ] = None,
    max_requests: Annotated[
        int | None, typer.Option(min=1, max=console.MOST, help="Most requests to that server.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, max=console.MOST, help="Most tokens read and made there.")
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Compute a few items, say what all would take, and stop.")
    ] = False,
    json: console.Json = False,
) -> None:
    """Extract what is missing or changed from a dataset into a store."""
    from mmfeat import presets

    if preset is not None and config is not None:
        raise UsageError("Give --preset or --config, not both.")
    chosen = api.load_features(config) if config else presets.load(preset or api.DEFAULT_PRESET)
    if features is not None:
        chosen = api.select_features(chosen, console.names(features) or [])
    tables: dict[str, Any] = {} if config is None else _tables(config, dataset, store)
    given: dict[str, Any] = {
        "run": _given(
            limit=limit,
            max_failed=max_failed,
            retry_failed=retry_failed or None,
            **_given_of_store(add, replace, accept_loss, accept_changed),
            wait_seconds=wait,
            estimate=estimate or None,
        ),
        "server": _given(base_url=base_url),
        "spending": _given(max_requests=max_requests, max_tokens=max_tokens),
        "resources": _given(
            batch_size=batch_size,
            workers=workers,
            threads=threads,
            ray_address=ray_address,
            executor=None if executor is None else executor.value,
        ),
    }
    own, place = tables.pop("dataset", {}), tables.pop("store", {})
    name = dataset or own.get("name")
    if name is None:
        raise UsageError("Which dataset?", hint="Say it with --dataset; `mmfeat datasets list` shows them.")
    job = api.make_job(
        name,
        root or own.get("root"),
        store=store or place.get("uri") or api.DEFAULT_STORE,
        features=chosen,
        dataset_options=_dataset_options(own, parse_dataset_options(option or [])),
        where="this call" if config is None else str(config),
        dataset_columns={**own.get("columns", {}), **parse_columns(column or [])},
        dataset_id=dataset_id or own.get("id"),
        **{**tables, **{name: {**tables.get(name, {}), **flags} for name, flags in given.items()}},
    )
    _run(job, json)


def run(
    job: Annotated[Path, typer.Argument(help="The job's TOML file.")],
    refit: Annotated[
        list[str] | None,
        typer.Option(help="A feature that is fitted to another, to be fitted anew: a new version of it."),
    ] = None,
    executor: ExecutorOption = None,
    add: AddOption = False,
    replace: ReplaceOption = False,
    accept_loss: AcceptOption = False,
    accept_changed: AcceptChangedOption = False,
    json: console.Json = False,
) -> None:
    """Run a job from its file, for schedulers. Safe to start at any time, and twice."""
    options = _given_of_store(add, replace, accept_loss, accept_changed)
    _run(job, json, refit=refit or (), executor=executor and executor.value, **options)


def _tables(config: Path, dataset: str | None, store: str | None) -> dict[str, dict[str, Any]]:
    """What a job's file says beside its features; says what of it counts, and what does not."""
    from mmfeat.schemas.job import settings_of
    from mmfeat.schemas.steps import in_order

    tables = settings_of(config)
    steps = [name for name in in_order() if name in tables]
    used = {name: table for name, table in tables.items() if name not in steps}
    if (other := used.get("dataset", {}).get("name", dataset)) != dataset and dataset is not None:
        del used["dataset"]
        console.note(f"{config}: [dataset] is of {other!r} and not used: --dataset says {dataset!r}.")
    if store is not None and used.pop("store", None) is not None:
        console.note(f"{config}: [store] is not used: --store or MMFEAT_STORE says {store}.")
    if used:
        console.note(f"From {config}, where no flag says otherwise: {_listed(used)}.")
    if steps:
        console.note(f"{config}: {_listed(steps)} only for `mmfeat run {config}`.")
    return used


def _listed(tables: Iterable[str]) -> str:
    return ", ".join(f"[{name}]" for name in tables)


def _run(job: JobConfig | Path, json: bool, **options: Any) -> None:
    try:
        report = api.run(job, _reporter(json), **options)
    except GateFailed as error:
        if error.report is not None and not json:
            print_report(error.report)
        raise
    except KeyboardInterrupt as stopped:
        if json:
            console.print_interrupted(getattr(stopped, "report", None))
        raise
    if json:
        console.print_json(report.to_dict())
    else:
        print_report(report)


def _reporter(json: bool) -> Reporter:
    from mmfeat.pipelines.progress import Silent, for_stream

    return Silent() if json else for_stream()


def print_report(report: RunReport) -> None:
    """What a run made, for people."""
    # The most useful number of a vector is its length; of a text, what kind of text it is.
    rows = [
        (
            f.version,
            f.source,
            console.dims(f.dims, f.vectors) or f.kind,
            f.up_to_date,
            f.ok,
            f.missing,
            f.failed,
            f"{f.seconds:.1f}",
        )
        for f in report.features
    ]
    columns = ("feature", "reads", "dims", "up to date", "ok", "missing", "failed", "model s")
    console.table(columns, rows, right=columns[2:])
    for feature in report.features:
        if feature.estimate is not None:
            console.say(f"  {feature.version}: estimated {feature.estimate}")
        if feature.needs is not None:
            console.say(f"  {feature.version}: would take {feature.needs}")
        if feature.cost is not None and feature.cost.requests:
            console.say(f"  {feature.version}: took {feature.cost}")
        for reason, count in list(feature.reasons.items())[:_SHOWN_REASONS]:
            console.say(f"  {feature.version}: {count:,} x {reason}")
        for kind, count in feature.marks.items():
            console.say(f"  {feature.version}: {count:,} values are marked: {kind} (see `mmfeat failures`)")
    for notice in report.notices:
        console.say(f"Note: {notice}.")
    if report.promoted:
        console.say(f"Current now: {', '.join(report.promoted)}.")
    console.say(
        f"{report.items:,} items of {report.dataset!r} in {report.seconds:.1f} s: "
        f"{report.computed:,} contents computed, {report.copied:,} rows copied from equal content."
    )


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """``KEY=VALUE`` pairs of the command line; UsageError for anything else."""
    options = {key.replace("-", "_"): value for key, value in _pairs(pairs, "--option takes KEY=VALUE")}
    if "columns" in options:
        raise UsageError(
            "columns is no option.", hint="Name further columns one by one: --column photos=image."
        )
    return options


def parse_dataset_options(pairs: list[str]) -> dict[str, Any]:
    """As :func:`parse_options`; ``interactions=FILE`` and ``interactions.user=COLUMN`` make one table."""
    options = parse_options(pairs)
    parts = {key: options.pop(key) for key in [*options] if key.startswith(f"{_INTERACTIONS}.")}
    if not parts:
        return options
    file = {"file": options[_INTERACTIONS]} if _INTERACTIONS in options else {}
    columns = {key.removeprefix(f"{_INTERACTIONS}."): value for key, value in parts.items()}
    return {**options, _INTERACTIONS: {**file, **columns}}


def _dataset_options(own: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    """The adapter's options of a job's file and of flags, which go before them."""
    table = {_INTERACTIONS: own[_INTERACTIONS]} if _INTERACTIONS in own else {}
    return {**own.get("options", {}), **table, **flags}


def parse_columns(pairs: list[str]) -> dict[str, str]:
    """``NAME=MODALITY`` pairs of the command line; UsageError for anything else."""
    return dict(_pairs(pairs, "--column takes NAME=MODALITY, such as photos=image"))


def _pairs(pairs: list[str], takes: str) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"{takes}, not {pair!r}.")
        yield key, value


def _given_of_store(add: bool, replace: bool, accept_loss: bool, accept_changed: bool) -> dict[str, Any]:
    """What of ``[run]`` is about what a store has, and may lose or mix."""
    return _given(
        add=add or None,
        replace=replace or None,
        max_lost=1.0 if accept_loss else None,
        accept_changed=accept_changed or None,
    )


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}

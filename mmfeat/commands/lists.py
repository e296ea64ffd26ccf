"""``datasets``, ``encoders``, ``prompts`` and ``presets``: what can be read, run, asked and run together; and
which engines may run an encoder."""

from __future__ import annotations

from dataclasses import asdict
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated

import typer

from mmfeat import api, console
from mmfeat.commands.jobs import ColumnOption, parse_columns, parse_dataset_options
from mmfeat.schemas.errors import GateFailed

if TYPE_CHECKING:
    from mmfeat.pipelines.certify import Certificate
    from mmfeat.pipelines.media_check import Opened
    from mmfeat.schemas.spec import ModelCard

_MOST_BROKEN = 50
_COUNTS = ("found", "missing", "unreadable", "duplicates", "values")

datasets_app = typer.Typer(no_args_is_help=True, help="Dataset adapters: list them, check a dataset.")
encoders_app = typer.Typer(
    no_args_is_help=True, help="Encoders, captioners, transcribers, OCR, quantizers, transforms."
)
prompts_app = typer.Typer(no_args_is_help=True, help="What captioners can ask.")
presets_app = typer.Typer(no_args_is_help=True, help="Named sets of features.")


@datasets_app.command("list")
def list_datasets(json: console.Json = False) -> None:
    """Every dataset adapter."""
    from mmfeat import datasets

    found = datasets.names()
    if json:
        console.print_json(found)
    else:
        console.table(("dataset", "reads"), list(found.items()))


@datasets_app.command("check")
def check_dataset(
    dataset: Annotated[str, typer.Argument(help="Dataset adapter.")],
    root: Annotated[str | None, typer.Option(help="The dataset's folder or file.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="An option of the dataset: KEY=VALUE.")
    ] = None,
    column: ColumnOption = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Decode all media, URLs included; else 50 local files of a column.")
    ] = False,
    json: console.Json = False,
) -> None:
    """What is there, missing or broken, before any model loads."""
    from mmfeat import datasets
    from mmfeat.pipelines import media_check

    asked = parse_columns(column or [])
    loaded = datasets.load(dataset, root, columns=asked, **parse_dataset_options(option or []))
    report = datasets.check(loaded)
    opened = media_check.open_media(loaded, deep) if deep or media_check.can_open_media() else None
    if json:
        media = None if opened is None else [asdict(one) for one in opened]
        console.print_json({**report.to_dict(), "opened": media})
        return
    console.say(f"{report.dataset}: {report.items:,} items in {report.root}")
    console.table(
        ("column", "modality", *_COUNTS),
        [(c.column, c.modality, *(getattr(c, count) for count in _COUNTS)) for c in report.columns],
        right=_COUNTS,
    )
    if report.interactions is not None:
        console.say(f"{report.interactions:,} interactions of {report.users:,} users")
    for note in report.notes:
        examples = f" ({', '.join(note.examples)}{', ...' if note.count > len(note.examples) else ''})"
        console.say(f"{note.level}: {note.count:,} x {note.message}{examples if note.examples else ''}")
    _say_opened(opened)


def _say_opened(opened: list[Opened] | None) -> None:
    if opened is None:
        console.say('Media were not opened: that needs pip install "mmfeat[extract]".')
        return
    for one in opened:
        rest = "" if one.opened == one.files else "; --deep opens all"
        broken = f"{len(one.broken):,} of them cannot be decoded" if one.broken else "all can be decoded"
        console.say(f"{one.column}: {one.opened:,} of {one.files:,} files opened, {broken}{rest}")
        for file in one.broken[:_MOST_BROKEN]:
            console.say(f"  {file.item}: {file.reason} ({file.location})")
        if len(one.broken) > _MOST_BROKEN:
            console.say(f"  and {len(one.broken) - _MOST_BROKEN:,} more: --json lists all")


@encoders_app.command("list")
def list_encoders(json: console.Json = False) -> None:
    """Every encoder, captioner, transcriber, OCR, quantizer and transform, a model card of each, and the
    families of models that were compared with their own library."""
    from mmfeat.extract import registry
    from mmfeat.extract.tested import families_tested

    found = registry.methods()
    families = families_tested()
    if json:
        of = {m.name: [asdict(one) for one in families if one.method == m.name] for m in found}
        console.print_json(
            [
                {**asdict(m), "example": m.example and m.example.model_dump(), "tested": of[m.name]}
                for m in found
            ]
        )
        return
    console.table(
        ("method", "kind", "reads", "for example", "dims", "input", "licence", "weights"),
        [(m.name, m.kind, *_card_cells(m.example)) for m in found],
        right=("dims",),
    )
    console.table(
        ("family", "encoder", "least cosine", "against", "compared", "how"),
        [
            (one.family, one.method, f"{one.least_cosine:.6f}", one.against, one.reads, one.how)
            for one in families
        ],
        right=("least cosine",),
    )
    for method in found:
        if method.problem:
            console.note(f"{method.name}: {method.problem}")


@encoders_app.command("certify")
def certify_encoder(
    feature: Annotated[str, typer.Argument(help="A feature of vectors, or one of its versions.")],
    engines: Annotated[
        list[str] | None,
        typer.Option(
            help="torch, cuda, openvino, http://HOST/v1; by comma or one by one [default: torch,openvino]."
        ),
    ] = None,
    sample: Annotated[int, typer.Option(min=2, max=console.MOST, help="Most items to compare.")] = 200,
    store: console.StoreUri = api.DEFAULT_STORE,
    json: console.Json = False,
) -> None:
    """Whether engines give the vectors that are stored, on your items; exit code 3 where one does not."""
    from mmfeat.pipelines.certify import certify
    from mmfeat.store import Store

    asked = console.names(engines) or ["torch", "openvino"]
    found = certify(Store.open(store), feature, asked, sample)
    if json:
        console.print_json(found.to_dict())
    else:
        _print_certificate(found)
    if not found.passed:
        _refuse(found, json)


def _refuse(found: Certificate, json: bool) -> None:
    below = "; ".join(f"{one.engine}: {one.problem}" for one in found.engines if one.problem)
    error = GateFailed(
        f"{found.version} must not be written by every engine: {below}.",
        hint="Compute it by an engine that passed, and by another one a feature of another name.",
    )
    if not json:
        raise error
    # The certificate is the one JSON value; it says which engines failed.
    console.print_error(error, as_json=False)
    raise typer.Exit(error.exit_code)


def _print_certificate(found: Certificate) -> None:
    columns = (
        "engine",
        "runtime",
        "items",
        "least cosine",
        "mean cosine",
        f"kept@{found.neighbours}",
        "verdict",
    )
    console.table(
        columns,
        [
            (one.engine, one.runtime or "", one.items, *map(_digits, (one.least, one.mean)),
             "" if one.kept is None else f"{one.kept:.1%}", "passed" if one.passed else "FAILED")
            for one in found.engines
        ],
        right=columns[2:6],
    )  # fmt: skip
    console.say(f"{found.version}: {found.sample:,} items beside what is stored; the bar is {found.bar}.")
    if found.changed:
        console.say(
            f"{found.changed:,} more hold other content than their rows were made of, and are left out."
        )


def _digits(cosine: float | None) -> str:
    return "" if cosine is None else f"{cosine:.6f}"


def _card_cells(card: ModelCard | None) -> tuple[object, ...]:
    if card is None:
        return ("",) * 6
    size = "x".join(map(str, card.input_size)) if card.input_size else ""
    return ", ".join(card.reads), card.model, card.dims, size, card.licence, card.weights_from


@prompts_app.command("list")
def list_prompts(json: console.Json = False) -> None:
    """Every prompt that comes with mmfeat."""
    from mmfeat.extract.describers import prompts

    found = [prompts.load_prompt(name) for name in prompts.list_prompts()]
    if json:
        console.print_json([prompt.model_dump(by_alias=True) for prompt in found])
        return
    console.table(
        ("prompt", "version", "uses", "reply", "most tokens", "what it asks"),
        [
            (p.name, p.version, ", ".join(p.variables), "JSON" if p.reply_schema else "text",
             p.max_new_tokens, shorten(p.text, 60, placeholder=" ..."))
            for p in found
        ],
        right=("version", "most tokens"),
    )  # fmt: skip


@prompts_app.command("show")
def show_prompt(
    prompt: Annotated[str, typer.Argument(help="A prompt's name, or the path of a file of your own.")],
    json: console.Json = False,
) -> None:
    """A prompt's file, checked: copy it to make one of your own."""
    from mmfeat.extract.describers import prompts

    asked = prompts.load_prompt(prompt)
    if json:
        console.print_json(asked.model_dump(by_alias=True))
    else:
        console.say(prompts.path_of(prompt).read_text(encoding="utf-8").rstrip())


@presets_app.command("list")
def list_presets(json: console.Json = False) -> None:
    """Every preset."""
    from mmfeat import presets

    found = presets.names()
    if json:
        console.print_json(found)
    else:
        console.table(("preset", "what it is"), list(found.items()))


@presets_app.command("show")
def show_preset(name: Annotated[str, typer.Argument(help="The preset.")], json: console.Json = False) -> None:
    """A preset's file: copy it to make a job of your own."""
    from mmfeat import presets

    if json:
        features = presets.load(name)
        console.print_json({n: f.model_dump(exclude_none=True) for n, f in features.items()})
    else:
        console.say(presets.path_of(name).read_text(encoding="utf-8").rstrip())

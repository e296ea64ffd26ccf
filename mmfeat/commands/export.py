"""``export``: features in the files that a recommender loads; the list of formats; the check of an export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmfeat import api, console
from mmfeat.commands.jobs import parse_options
from mmfeat.commands.read import WhereOption
from mmfeat.schemas.errors import UsageError

if TYPE_CHECKING:
    from mmfeat.export import ExportReport, VerifyReport
    from mmfeat.feature_store import FeatureStore

_SHOWN = 5


class Items(StrEnum):
    """Which items are exported."""

    present = "present"
    all = "all"
    interacted = "interacted"


def export(
    format: Annotated[str | None, typer.Argument(help="The format; see --list.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="A new folder. Its name is what the target calls the dataset.")
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(help="ROLE=FEATURE by comma, or the features to choose among [default: all current]."),
    ] = None,
    force_role: Annotated[
        bool,
        typer.Option("--force-role", help="Take a feature of pictures for a role of sounds, or the reverse."),
    ] = False,
    missing: Annotated[
        str | None,
        typer.Option(
            help="Items without a value: mask, mean, zero, empty, drop, error; or ROLE=POLICY by comma"
            " [default: the format's]."
        ),
    ] = None,
    items: Annotated[
        Items | None,
        typer.Option(
            help="Items that the dataset has (present); all, with those gone from it; or those with"
            " interactions [default: present]."
        ),
    ] = None,
    where: WhereOption = None,
    interactions: Annotated[
        Path | None,
        typer.Option(help="A file of interactions, for a store without: CSV, TSV, JSON lines or Parquet."),
    ] = None,
    interactions_column: Annotated[
        list[str] | None,
        typer.Option(help="A column of that file by another than its usual name: user=NAME, item, time, ..."),
    ] = None,
    replace_interactions: Annotated[
        bool,
        typer.Option("--replace-interactions", help="Take that file's in the place of the store's own."),
    ] = False,
    k_core: Annotated[
        int | None,
        typer.Option(min=1, max=console.MOST, help="Only users and items with N interactions among them."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="leave-one-out, ratio:0.8,0.1,0.1 or time:VALID,TEST [default: the format's own rule]."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=console.MOST_SEED, help="Of everything drawn at random [default: 0]."),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="NAME=TEMPLATE: a text of several, '{title}: {caption?}', as the feature NAME."),
    ] = None,
    join: Annotated[
        list[str] | None, typer.Option(help="a+b=NAME: concatenate features, each normalised.")
    ] = None,
    cut: Annotated[
        list[str] | None, typer.Option(help="FEATURE:DIMS: the first DIMS numbers, normalised again.")
    ] = None,
    project: Annotated[
        list[str] | None, typer.Option(help="FEATURE:DIMS: onto the first principal components.")
    ] = None,
    quantize: Annotated[
        list[str] | None, typer.Option(help="FEATURE: as int8, with the scale beside it.")
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option(help="Columns of the catalog by comma, written beside the features: texts and numbers."),
    ] = None,
    ids_of: Annotated[
        Path | None,
        typer.Option(
            help="Folder of an export to be used together with: take its id map [default: a new map]."
        ),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="An option of the format: KEY=VALUE.")
    ] = None,
    store: console.StoreUri = api.DEFAULT_STORE,
    snapshot: console.SnapshotName = None,
    list_formats: Annotated[
        bool, typer.Option("--list", help="Every format, what it needs and for which systems it is.")
    ] = False,
    verify: Annotated[
        Path | None, typer.Option(help="Check an export's files, and that every item finds its own value.")
    ] = None,
    json: console.Json = False,
) -> None:
    """Write features in the exact files that a recommender loads."""
    if list_formats:
        _list(json)
        return
    if verify is not None:
        _verify(verify, json)
        return
    if format is None or out is None:
        raise UsageError(
            "An export needs a format and --out.",
            hint="For example: mmfeat export npy --out exported. `mmfeat export --list` shows the formats.",
        )
    from mmfeat.export import Shaping

    shaping = Shaping(
        text=_unique("text", [_template(word) for word in text or []]),
        join=_unique("join", [_join(word) for word in join or []]),
        cut=_unique("cut", [_dims("cut", word) for word in cut or []]),
        project=_unique("project", [_dims("project", word) for word in project or []]),
        quantize=quantize or [],
    )
    settings = {
        "features": None if features is None else _chosen(console.names(features) or []),
        "force_role": force_role or None,
        "missing": None if missing is None else _policies(missing),
        "interactions": _own_interactions(interactions, interactions_column or []),
        "replace_interactions": replace_interactions or None,
        "k_core": k_core,
        "split": split,
        "seed": seed,
        "shaping": shaping,
        "fields": console.names(fields),
        "ids_of": ids_of,
        "options": parse_options(option or []),
    }
    # What cannot be meant is said before a store is opened, which may be far away.
    opened = api.open(store, snapshot)
    settings["items"] = _items(opened, items, where)
    # What was not said is left to the defaults of a Request.
    said = {name: value for name, value in settings.items() if value is not None}
    report = opened.export(format, out, **said)
    if json:
        console.print_json(asdict(report))
    else:
        _print_report(report)


def _items(opened: FeatureStore, items: Items | None, where: str | None) -> str | list[str] | None:
    """The items that are exported: of a kind, or those of which a condition is true."""
    if where is None:
        return None if items is None else items.value
    if items not in (None, Items.present):
        raise UsageError(f"--where chooses among the items that are present, not among {items}.")
    found = opened.ids_where(where)
    if not found:
        raise UsageError(f"No item fits {where!r}.", hint="`mmfeat lookup --where` tries a condition.")
    return found


def _list(json: bool) -> None:
    from mmfeat.export import listing

    found = listing()
    if json:
        console.print_json([asdict(line) for line in found])
        return
    console.table(
        ("format", "for", "features", "interactions", "items", "missing", "options"),
        [
            (
                f.name,
                f.title + (f" ({', '.join(f.systems)})" if f.systems else ""),
                f.features,
                f.interactions,
                f.ids,
                ", ".join(f.missing),
                ", ".join(f.options),
            )
            for f in found
        ],
    )


def _verify(folder: Path, json: bool) -> None:
    from mmfeat.export import verify

    report = verify(folder)
    if json:
        console.print_json({**asdict(report), "ok": report.ok})
    else:
        _print_verified(report)
    if not report.ok:
        raise typer.Exit(1)


def _print_verified(report: VerifyReport) -> None:
    for problem in report.problems:
        examples = f": {', '.join(problem.examples)}" if problem.examples else ""
        more = ", ..." if problem.count > len(problem.examples) > 0 else ""
        counted = f"{problem.count:,} {problem.message}" if problem.examples else problem.message
        console.say(f"{problem.kind}: {counted}{examples}{more}")
    if report.unlisted:
        console.say(f"Not written by the export: {', '.join(report.unlisted[:_SHOWN])}")
    verdict = "is as written, and every item finds its own value" if report.ok else "is not as written"
    console.say(f"{report.path} ({report.format}, {report.items:,} items, {report.files} files) {verdict}.")


def _print_report(report: ExportReport) -> None:
    console.say(f"{report.items:,} items to {report.path} ({report.format}).")
    for role, version in report.features.items():
        lacking = report.missing.get(role, [])
        gaps = f", {len(lacking):,} without a value ({report.policies[role]})" if lacking else ""
        console.say(f"  {role} = {version}{gaps}")
    if report.left_out:
        console.say(f"  {report.left_out:,} items are left out; manifest.json says why")
    if report.interactions:
        counts = report.interactions
        unmatched = counts["item_not_exported"]
        lost = f", {unmatched:,} with items that are not exported" if unmatched else ""
        console.say(f"  {counts['written']:,} of {counts['given']:,} interactions{lost}")
        for said in counts.get("source", {}).get("unused", []):
            console.note(f"{said}.")
        unrated = counts["written"] - counts.get("rated", counts["written"])
        if unrated:
            console.say(f"  {unrated:,} of these have no rating: no ratings are written")
        if untimed := counts.get("without_time"):
            console.say(f"  {untimed:,} of these have no time: all are in the dataset's order, without times")
    console.say(f"  {len(report.files)} files, {sum(report.files.values()):,} bytes")
    if report.unrecorded is not None:
        console.note(
            f"The store does not know of this export: {report.unrecorded} "
            "`mmfeat forget` cannot name it when one of its items is forgotten."
        )


def _chosen(words: list[str]) -> dict[str, str] | list[str]:
    """``image=a``, ``text=b`` as role to feature, ``a``, ``b`` as features."""
    if not words:
        raise UsageError("--features names no feature.")
    named = ["=" in word for word in words]
    if not any(named):
        return words
    if not all(named):
        raise UsageError("--features takes ROLE=FEATURE for each, or features only, not both.")
    return _unique("features", [_pair("features", word, "=", "ROLE=FEATURE", str) for word in words])


def _policies(text: str) -> str | dict[str, str]:
    """``drop`` as one policy for all, ``image=mean,words=drop`` as role to policy."""
    words = console.names([text]) or []
    if not any("=" in word for word in words):
        return text
    if not all("=" in word for word in words):
        raise UsageError("--missing takes ROLE=POLICY for each, or one policy for all, not both.")
    return _unique("missing", [_pair("missing", word, "=", "ROLE=POLICY", str) for word in words])


def _own_interactions(file: Path | None, columns: list[str]) -> dict[str, str] | None:
    """The file and what its columns are, as a job's [dataset.interactions] says it."""
    if file is None:
        if columns:
            raise UsageError("--interactions-column is of a file: --interactions FILE.")
        return None
    named = [_part(word) for word in columns]
    return {"file": str(file), **_unique("interactions-column", named)}


def _part(text: str) -> tuple[str, str]:
    """``user=uid``; an empty name says that nothing is read as that."""
    part, separator, column = text.partition("=")
    if not separator:
        raise UsageError(f"--interactions-column takes PART=COLUMN, such as user=uid, not {text!r}.")
    return part.strip(), column


def _template(word: str) -> tuple[str, str]:
    """A name and its template, whose blanks at the ends are meant."""
    name, _, template = word.partition("=")
    if not name.strip() or not template.strip():
        raise UsageError(f"--text takes NAME=TEMPLATE, not {word!r}.")
    return name.strip(), template


def _join(text: str) -> tuple[str, list[str]]:
    parts, name = _pair("join", text, "=", "a+b=NAME", str)
    return name, [part.strip() for part in parts.split("+")]


def _dims(option: str, text: str) -> tuple[str, int]:
    return _pair(option, text, ":", "FEATURE:DIMS", int)


def _pair(option: str, text: str, separator: str, form: str, kind: Callable[[str], Any]) -> tuple[str, Any]:
    """The two sides of a word; UsageError where it has not the form."""
    left, _, right = (part.strip() for part in text.partition(separator))
    try:
        if left and right:
            return left, kind(right)
    except ValueError:
        pass
    raise UsageError(f"--{option} takes {form}, not {text!r}.")


def _unique(option: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for name, _ in pairs:
        if sum(other == name for other, _ in pairs) > 1:
            raise UsageError(f"--{option} names {name!r} twice.")
    return dict(pairs)

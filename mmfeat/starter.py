"""A first job file for a dataset that was looked at: ``mmfeat init``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmfeat import datasets, presets
from mmfeat.datasets import CheckReport, ColumnCount
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.interactions import InteractionsConfig
from mmfeat.schemas.spec import FeatureConfig
from mmfeat.schemas.templates import without

_TAIL = """
[run]
max_failed = 0.05                # more failed rows than this share: exit code 3, nothing becomes current
# wait_seconds = 600             # for another run that writes to this store; ends at once otherwise

# What must hold before new versions become current, all of them together:
# [gates]
# min_coverage = 0.95            # share of the items that have the source
# min_neighbour_overlap = 0.3    # of each item's 10 nearest neighbours, against the current version

# Who is told how a run ended. The variable holds the webhook's address:
# [notify]
# on = ["failure", "gate"]
# webhook_env = "MMFEAT_WEBHOOK"

# Of each feature, the current version and the newest others up to so many stay:
# [keep]
# versions = 3
# older_than_days = 30
"""


def write_job(
    dataset: str,
    root: str | None,
    options: Mapping[str, Any],
    columns: Mapping[str, str],
    store: str,
    preset: str,
    out: Path,
) -> CheckReport:
    """Look at a dataset and write a job that fits what it has; what was found in it.

    Args:
        root: the dataset's folder, file or URL in an object store.
        columns: columns that its adapter can't know of, to their modality.
        preset: named set of features; those that read something the dataset lacks are left out.
        out: a file that is not there yet.

    Raises:
        DatasetError: the adapter cannot read the dataset.
        UsageError: ``out`` is there already or cannot be written, or no feature fits the dataset.
    """
    if out.exists():
        raise UsageError(f"{out} is there already.", hint="Choose another --out; nothing is overwritten.")
    configs = presets.load(preset)
    loaded = datasets.load(dataset, root, columns=columns, **options)
    found = datasets.check(loaded)
    there = {column.column for column in found.columns if column.found}
    fitting = _fitting(configs, there)
    if not fitting:
        has = ", ".join(sorted(there)) or "nothing"
        raise UsageError(
            f"No feature of the preset {preset!r} reads what {dataset!r} has: {has}.",
            hint="Choose another --preset; see `mmfeat presets list` and `mmfeat datasets check`.",
        )
    place = root if root is None or "://" in root else str(Path(root).expanduser().resolve())
    tables = {**_options_apart(dataset, options), "columns": columns}
    lines = [
        *_head(found, dataset, place, tables, store, preset),
        *_features(fitting, {column.column: column for column in found.columns}, found.items),
    ]
    try:
        out.write_text("\n".join(lines) + "\n" + _TAIL, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"Cannot write {out}: {error.strerror}.") from None
    return found


def _fitting(configs: Mapping[str, FeatureConfig], there: set[str]) -> dict[str, FeatureConfig]:
    """Features of which the dataset has all that an item may not lack, and anything at all: columns, or
    features that fit. What these may lack of the features that do not fit is taken out of them."""
    fitting: dict[str, FeatureConfig] = {}
    while new := {
        name: config
        for name, config in configs.items()
        if name not in fitting and _fits(config, there | set(fitting))
    }:
        fitting |= new
    left_out = set(configs) - set(fitting)
    return {name: _without(config, left_out) for name, config in configs.items() if name in fitting}


def _fits(config: FeatureConfig, there: set[str]) -> bool:
    has = {source: source in there or _column_of(source) in there for source in config.sources}
    return any(has.values()) and all(has[source] or optional for source, optional in config.sources.items())


def _without(config: FeatureConfig, left_out: set[str]) -> FeatureConfig:
    """The feature without the features that it may lack and the job does not have."""
    inputs = tuple(one for one in config.inputs if one.removesuffix("?") not in left_out)
    if inputs == config.inputs:
        return config
    text = None if config.text is None else without(config.text, left_out)
    return config.model_copy(update={"inputs": inputs, "text": text})


def _head(
    found: CheckReport,
    dataset: str,
    root: str | None,
    tables: Mapping[str, Mapping[str, Any]],
    store: str,
    preset: str,
) -> Iterator[str]:
    yield f"# {found.items:,} items of the dataset {dataset!r}, features of the preset {preset!r}."
    yield "# Start it with `mmfeat run` and this file's name, as often as you like: only what is missing or"
    yield "# changed is computed. Paths are relative to this file."
    yield ""
    yield "[store]"
    yield f"uri = {toml_value(store)}"
    yield ""
    yield "[dataset]"
    yield f"name = {toml_value(dataset)}"
    if root is not None:
        yield f"root = {toml_value(root)}"
    for name, table in tables.items():
        if table:
            yield ""
            yield f"[dataset.{name}]"
            yield from (f"{toml_value(key)} = {toml_value(value)}" for key, value in table.items())


def _options_apart(dataset: str, options: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """An adapter's options; and its file of interactions, which has its own table, as an absolute path."""
    if "interactions" not in options or not datasets.takes_interactions(dataset):
        return {"options": options}
    own = InteractionsConfig.model_validate(options["interactions"]).seen_from(Path.cwd())
    rest = {name: value for name, value in options.items() if name != "interactions"}
    return {"options": rest, "interactions": own.model_dump()}


def _features(
    configs: Mapping[str, FeatureConfig], columns: Mapping[str, ColumnCount], items: int
) -> Iterator[str]:
    for name, config in configs.items():
        yield ""
        for column in filter(None, (columns.get(_column_of(source)) for source in config.sources)):
            yield f"# {column.found:,} of {items:,} items have a {column.column}" + (
                f", {column.unreadable:,} cannot be read." if column.unreadable else "."
            )
        yield f"[features.{name}]"
        for key, value in config.table().items():
            yield f"{key} = {toml_value(value)}"


def _column_of(source: str) -> str:
    """The column of a source: ``video`` of ``video.sound``."""
    return source.partition(".")[0]


def toml_value(value: Any) -> str:
    """A value in TOML; JSON's strings, numbers, booleans and lists are TOML's too."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{toml_value(key)} = {toml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        # The one character that JSON may hold as it is and TOML may not.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)

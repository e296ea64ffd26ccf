"""Dataset adapters by name. A new one is one file and one line here, or an entry point elsewhere.

An adapter is a function ``load(root: Path | None, *, option: type = default, ...) -> Dataset``. One
that reads object stores as well declares ``root: str | Path | None``, a URL then being a string. One
that can read columns that a person names declares ``columns: ColumnConfigs | None = None``; one that takes a
person's own file of interactions, ``interactions: InteractionsConfig | None = None``. The first line of its
docstring is its description. Other packages add theirs in the entry point group ``mmfeat.datasets``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError, validate_call

from mmfeat.datasets.base import Dataset
from mmfeat.schemas.columns import ColumnConfig, ColumnConfigs
from mmfeat.schemas.errors import DatasetError
from mmfeat.schemas.interactions import InteractionsConfig
from mmfeat.schemas.registry import Registry
from mmfeat.schemas.validation import in_words

ENTRY_POINT_GROUP = "mmfeat.datasets"

_ADAPTERS = {
    "microlens": "mmfeat.datasets.microlens:load",
    "table": "mmfeat.datasets.table:load",
    "folder": "mmfeat.datasets.folder:load",
    "huggingface": "mmfeat.datasets.huggingface:load",
    "sample": "mmfeat.datasets.sample:load",
    "amazon": "mmfeat.datasets.amazon:load",
    "mmrec": "mmfeat.datasets.mmrec:load",
    "shortvideo": "mmfeat.datasets.shortvideo:load",
    "pixelrec": "mmfeat.datasets.pixelrec:load",
    "ninerec": "mmfeat.datasets.ninerec:load",
}

Adapter = Callable[..., Dataset]

_REGISTRY: Registry[Adapter] = Registry(
    "dataset adapter", _ADAPTERS, [ENTRY_POINT_GROUP], fits=callable, error=DatasetError
)
_CONFIGS: TypeAdapter[dict[str, ColumnConfig]] = TypeAdapter(ColumnConfigs)


def load(
    name: str,
    root: str | Path | None = None,
    *,
    columns: Mapping[str, Any] | None = None,
    **options: Any,
) -> Dataset:
    """Reads a dataset with the adapter ``name``.

    Args:
        root: the folder or file to read; None for adapters that need none. ``folder`` also reads a
            URL of an object store.
        columns: columns that the adapter can't know of: name to modality, or to
            ``{"modality": ..., "from": ...}`` where the dataset calls it something else.
        options: the adapter's own options, see ``docs/datasets.md``.

    Raises:
        DatasetError: unknown adapter or option, columns that the adapter can't read, or the root is
            not what it reads, or holds no item.
    """
    function = _REGISTRY.get(name)
    if isinstance(root, str) and "://" in root:
        if str not in get_args(get_type_hints(function).get("root")):
            raise DatasetError(
                f"The dataset {name!r} is read from a local path, not from {root}.",
                hint="Media may lie anywhere: list their URLs in a table, or name them by item id "
                "for the dataset 'folder'.",
            )
    elif root is not None:
        root = Path(root)
    if isinstance(options.get("interactions"), Mapping | InteractionsConfig):
        _refuse_interactions(name, function)
    asked = {"columns": _checked(name, function, columns)} if columns else {}
    adapter = validate_call(function)
    try:
        dataset: Dataset = adapter(root, **options, **asked)
    except ValidationError as error:
        problems = "; ".join(f"{p['loc'][-1]}: {in_words(p)}" for p in error.errors())
        raise DatasetError(
            f"The dataset {name!r} does not take these options: {problems}.",
            hint=f"It takes: {', '.join(options_of(name)) or 'no options'}.",
        ) from None
    if not len(dataset.items):
        said = "".join(f" {note.count} {note.message}." for note in dataset.notes if note.level != "info")
        raise DatasetError(
            f"There are no items in {dataset.root}.{said}",
            hint="A table with a header alone, or a file that was cut short, has none.",
        )
    return dataset


def names() -> dict[str, str]:
    """Every adapter's name and its one-line description, sorted by name."""
    return {one.name: one.problem or _description(one.thing) for one in _REGISTRY.listing()}


def options_of(name: str) -> list[str]:
    """Names of the options that an adapter takes beside its root."""
    return [keyword for keyword in _keywords(_REGISTRY.get(name)) if keyword != "columns"]


def takes_interactions(name: str) -> bool:
    """Whether an adapter takes a person's own file of interactions."""
    return _takes_interactions(_REGISTRY.get(name))


def _takes_interactions(function: Adapter) -> bool:
    return InteractionsConfig in get_args(get_type_hints(function).get("interactions"))


def _refuse_interactions(name: str, function: Adapter) -> None:
    if not _takes_interactions(function):
        able = [one.name for one in _REGISTRY.listing() if one.thing and _takes_interactions(one.thing)]
        raise DatasetError(
            f"The dataset {name!r} takes no interactions of your own.", hint=f"These do: {', '.join(able)}."
        )


def _checked(name: str, function: Adapter, columns: Mapping[str, Any]) -> dict[str, ColumnConfig]:
    if "columns" not in _keywords(function):
        able = [one.name for one in _REGISTRY.listing() if one.thing and "columns" in _keywords(one.thing)]
        raise DatasetError(
            f"The dataset {name!r} takes no further columns: {', '.join(columns)}.",
            hint=f"These do: {', '.join(able)}.",
        )
    try:
        return _CONFIGS.validate_python(dict(columns))
    except ValidationError as error:
        problems = (
            ".".join(map(str, problem["loc"])) + f": {in_words(problem)}" for problem in error.errors()
        )
        raise DatasetError(f"Columns: {'; '.join(p.removeprefix(': ') for p in problems)}.") from None


def _keywords(function: Adapter) -> tuple[str, ...]:
    """The names of a function's keyword-only arguments."""
    code = function.__code__
    return code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]


def _description(adapter: Adapter | None) -> str:
    return (getattr(adapter, "__doc__", "") or "").strip().partition("\n")[0]

"""Dataset adapters by name. A new one is one file and one line here, or an entry point elsewhere.

An adapter is a function ``load(root: Path | None, *, option: type = default, ...) -> Dataset``;
one that reads object stores as well declares ``root: str | Path | None``, a URL then being a string;
the first line of its docstring is its description. Other packages add theirs in the entry point
group ``mmfeat.datasets``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import ValidationError, validate_call

from mmfeat.datasets.base import Dataset
from mmfeat.schemas.errors import DatasetError

ENTRY_POINT_GROUP = "mmfeat.datasets"

_ADAPTERS = {
    "microlens": "mmfeat.datasets.microlens:load",
    "table": "mmfeat.datasets.table:load",
    "folder": "mmfeat.datasets.folder:load",
    "sample": "mmfeat.datasets.sample:load",
    "amazon": "mmfeat.datasets.amazon:load",
    "mmrec": "mmfeat.datasets.mmrec:load",
    "shortvideo": "mmfeat.datasets.shortvideo:load",
    "pixelrec": "mmfeat.datasets.pixelrec:load",
    "ninerec": "mmfeat.datasets.ninerec:load",
}

Adapter = Callable[..., Dataset]


def load(name: str, root: str | Path | None = None, **options: Any) -> Dataset:
    """Reads a dataset with the adapter ``name``.

    Args:
        root: the folder or file to read; None for adapters that need none. ``folder`` also reads a
            URL of an object store.
        options: the adapter's own options, see ``docs/datasets.md``.

    Raises:
        DatasetError: unknown adapter or option, or the root is not what the adapter reads.
    """
    function = _adapter(name)
    if isinstance(root, str) and "://" in root:
        if str not in get_args(get_type_hints(function).get("root")):
            raise DatasetError(
                f"The dataset {name!r} is read from a local path, not from {root}.",
                hint="Media may lie anywhere: list their URLs in a table, or name them by item id "
                "for the dataset 'folder'.",
            )
    elif root is not None:
        root = Path(root)
    adapter = validate_call(function)
    try:
        return adapter(root, **options)
    except ValidationError as error:
        problems = "; ".join(f"{p['loc'][-1]}: {p['msg']}" for p in error.errors())
        raise DatasetError(
            f"The dataset {name!r} does not take these options: {problems}.",
            hint=f"It takes: {', '.join(options_of(name)) or 'no options'}.",
        ) from None


def names() -> dict[str, str]:
    """Every adapter's name and its one-line description, sorted by name."""
    return {name: _description(name) for name in sorted(_targets())}


def options_of(name: str) -> list[str]:
    """Names of the options that an adapter takes beside its root."""
    function = _adapter(name)
    code = function.__code__
    return list(code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount])


def _targets() -> dict[str, str]:
    others = {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}
    return {**others, **_ADAPTERS}


def _adapter(name: str) -> Adapter:
    targets = _targets()
    if name not in targets:
        close = difflib.get_close_matches(name, targets, n=3)
        hint = f"Did you mean {' or '.join(close)}? " if close else ""
        raise DatasetError(
            f"There is no dataset adapter {name!r}.", hint=f"{hint}There are: {', '.join(sorted(targets))}."
        )
    module, _, function = targets[name].partition(":")
    try:
        adapter: Adapter = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise DatasetError(f"The dataset adapter {name!r} cannot be loaded: {error}.") from error
    return adapter


def _description(name: str) -> str:
    try:
        return (_adapter(name).__doc__ or "").strip().partition("\n")[0]
    except DatasetError as error:
        # One broken third-party package must not hide the other adapters from a listing.
        return error.message

"""Plug-ins of tests, installed as those of other packages are: by a ``dist-info`` folder on the path."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def write_plugin(folder: Path, points: Mapping[str, Mapping[str, str]]) -> Path:
    """A package of entry points in ``folder``, which it gives back.

    Args:
        points: by group, name to ``module:attribute``.
    """
    info = folder / "plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    sections = [
        "\n".join([f"[{group}]", *(f"{name} = {target}" for name, target in named.items())])
        for group, named in points.items()
    ]
    (info / "entry_points.txt").write_text("\n\n".join(sections) + "\n")
    return folder


@contextmanager
def on_path(folder: Path) -> Iterator[None]:
    """While this holds, what is installed in ``folder`` is found in this process."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))

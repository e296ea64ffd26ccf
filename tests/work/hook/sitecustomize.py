"""Counts, in every Python process that has this folder on its path, calls of a few of mmfeat's functions and
the media files that are opened. Each function still does what it does.

A count is a line of the file ``$MMFEAT_COUNTS``: what it was, and of what.
"""

from __future__ import annotations

import functools
import os
import sys
from importlib.machinery import PathFinder

_LOG = os.open(os.environ["MMFEAT_COUNTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_MEDIA = os.environ["MMFEAT_MEDIA"]

# Module, where in it a function is, and what its call is about, from the arguments.
_COUNTED = {
    "mmfeat.extract.fence.decode": ("render", lambda request, *_: request.location),
    "mmfeat.pipelines.execution.stages": ("_call", lambda method, spec, *_: spec.name),
    "mmfeat.extract.modalities.image": ("ImageModality.decode", lambda modality, *_: modality.name),
    "mmfeat.extract.registry": ("load_method", lambda spec, *_, **__: spec.name),
    "mmfeat.store.store": ("Store.commit", lambda store, version, rows, **_: len(rows)),
}


def _count(what: str, of: object) -> None:
    os.write(_LOG, f"{what} {of}\n".encode())


def _counting(module) -> None:
    name, about = _COUNTED[module.__name__]
    *inside, name = name.split(".")
    place = functools.reduce(getattr, inside, module)
    function = getattr(place, name)

    @functools.wraps(function)
    def counted(*arguments, **named):
        _count(name, about(*arguments, **named))
        return function(*arguments, **named)

    setattr(place, name, counted)


class _Finder(PathFinder):
    """Finds what the usual one finds, and counts in the modules above from when they are loaded."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        spec = super().find_spec(fullname, path, target) if fullname in _COUNTED else None
        if spec is not None:
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                _counting(module)

            spec.loader.exec_module = exec_module
        return spec


def _audited(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(_MEDIA):
        _count("open", arguments[0])


sys.addaudithook(_audited)
sys.meta_path.insert(0, _Finder)

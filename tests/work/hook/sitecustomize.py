"""Counts, in every Python process that has this folder on its path, calls of a few of mmfeat's functions and
the media files that are opened. Nothing is replaced: the interpreter itself tells of each call.

A count is a line of the file ``$MMFEAT_COUNTS``: what it was, and of what.
"""

from __future__ import annotations

import os
import sys
import threading

_LOG = os.open(os.environ["MMFEAT_COUNTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_MEDIA = os.environ["MMFEAT_MEDIA"]

# A function and the file it is in, and what its call was about, from the function's locals.
_COUNTED = {
    ("render", "extract/media/decode.py"): lambda given: given["request"].location,
    ("_call", "pipelines/stage.py"): lambda given: given["spec"].name,
    ("load_model", "extract/registry.py"): lambda given: given["spec"].name,
    ("commit", "store/store.py"): lambda given: len(given["rows_"]),
}
_NAMES = {name for name, _ in _COUNTED}


def _count(what: str, of: object) -> None:
    os.write(_LOG, f"{what} {of}\n".encode())


def _called(frame, event, argument):
    code = frame.f_code
    if event != "call" or code.co_name not in _NAMES:
        return
    for (name, file), about in _COUNTED.items():
        if code.co_name == name and code.co_filename.endswith(f"mmfeat/{file}"):
            _count(name, about(frame.f_locals))


def _audited(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(_MEDIA):
        _count("open", arguments[0])


sys.addaudithook(_audited)
sys.setprofile(_called)
threading.setprofile(_called)

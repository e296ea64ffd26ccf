"""Processes that tests start and kill by the dozen."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Forked from a process that has only imported what is named here: starting a new one each takes seconds.
# There is one such process per test session, so that what it imports is said in one place. It finds
# installed modules only.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["mmfeat.store", "mmfeat.pipelines.run", "mmfeat.datasets.table", "mmfeat.feature_store"]
)


@contextlib.contextmanager
def ctrl_c_heard() -> Iterator[None]:
    """Ctrl-C ends this process and what is started meanwhile, also where it was ignored.

    What nohup or a script's ``&`` starts ignores it, and so would all children.
    """
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, kept)


def descendants(root: int) -> list[int]:
    """Ids of a process and of all that it and its children have started and that are there still."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        parents[int(entry.parent.name)] = int(fields[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def command_of(pid: int) -> str:
    """A process's command line; empty if it has ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def wait_until(
    holds: Callable[[], object], what: str = "it did not come to that", seconds: float = 300
) -> None:
    """Until something holds; AssertionError where it never does."""
    until = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.02)

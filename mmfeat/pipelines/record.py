"""What everything which writes features leaves in the store, however it ends: a record and a log.

The record is written twice: when the work starts and when it ends. So a run that was killed left one
too, and is distinguished from one that is running by who holds the store's lease.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mmfeat.schemas.errors import StoreError
from mmfeat.schemas.redact import command_line, redact, redact_values
from mmfeat.store import Store

COMPLETED, RUNNING, INTERRUPTED, KILLED = "completed", "running", "interrupted", "killed"

# A run says a few dozen things; whatever says more than this would fill the store with its log.
MAX_LINES = 2000
_MAX_LINE = 500

_RECORDED_PACKAGES = (
    "mmfeat", "torch", "torchvision", "open-clip-torch", "transformers", "timm", "sentence-transformers",
    "faiss-cpu", "vector-quantize-pytorch", "openai", "vllm", "scenedetect-headless", "rapidocr",
    "onnxruntime", "ray", "av", "pillow", "simplejpeg", "openvino", "lancedb", "pylance",
    "pyarrow", "numpy",
)  # fmt: skip


class Recording:
    """What a run says of itself while it works.

    Attributes:
        report: what it did, JSON types; None until there is something to tell.
        waiting: its record, where that could not be written when it started.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self.report: dict[str, Any] | None = None
        self.waiting: dict[str, Any] | None = None
        self._store = store
        self._run_id = run_id
        self._waiting: list[tuple[datetime, str]] = []
        self._said = 0

    def say(self, message: str) -> None:
        """A line of the run's log. It names no item: what is forgotten must not live on in a log."""
        self._said += 1
        if self._said > MAX_LINES:
            return
        self._waiting.append((datetime.now(UTC), redact(message)[:_MAX_LINE]))
        # At once: a run that is killed leaves what it had said. A log that can't be written just now must
        # not end the run: its lines wait for the next one.
        with contextlib.suppress(StoreError):
            self._write()

    def close(self, ending: str) -> None:
        """The log's last lines."""
        if self._said > MAX_LINES:
            self._waiting.append((datetime.now(UTC), f"{self._said - MAX_LINES:,} more lines are left out"))
        self._waiting.append((datetime.now(UTC), redact(ending)[:_MAX_LINE]))
        self._write()

    def _write(self) -> None:
        self._store.logs.add(self._run_id, self._waiting)
        self._waiting = []


@contextmanager
def recorded(
    store: Store, kind: str, run_id: str, began: datetime, what: Mapping[str, Any], makes_room: bool = False
) -> Iterator[Recording]:
    """Record a run that holds the store's lease, whose owner names ``run_id``.

    Args:
        kind: what was started, ``extract`` for one.
        began: when, UTC.
        what: further facts of the record, JSON types; secrets in them are left out.
        makes_room: the work frees space: if there is none for a record now, it is written at the end.

    Yields:
        What takes the run's report and the lines of its log.
    """
    recording = Recording(store, run_id)
    started = _started(kind, run_id, began, what)
    try:
        store.record_run(started)
    except StoreError:
        if not makes_room:
            raise
        recording.waiting = started
    recording.say(f"{kind} started by {_user()}@{socket.gethostname()}, process {os.getpid()}")
    try:
        yield recording
        store.logs.remove_old()
    except BaseException as error:
        # What went wrong is the news, and no second error of writing it down may hide it.
        with contextlib.suppress(StoreError):
            _leave(store, recording, run_id, began, _ending(error))
        raise
    _leave(store, recording, run_id, began, COMPLETED)


def runs(store: Store) -> list[dict[str, Any]]:
    """The records of all runs, oldest first.

    ``end`` of each is ``completed``, ``interrupted`` (Ctrl-C or SIGTERM), ``running``, ``killed`` (it
    is not running any more and never came to its end) or the error that ended it.
    """
    records = _folded(store.runs())
    unfinished = [r for r in records if r["end"] == RUNNING]
    if unfinished:
        writer = store.writer() or ""
        # Read again after asking for the writer: a run may have ended in between.
        later = {r["run_id"]: r for r in _folded(Store.open(store.uri).runs())}
        for record in unfinished:
            record.update(later.get(record["run_id"], {}))
            if record["end"] == RUNNING and record["run_id"] not in writer:
                record["end"] = KILLED
    return records


def was_killed(store: Store, before: str) -> bool:
    """Whether the last run before ``before``, which holds the lease, never came to its end."""
    earlier = [record for record in _folded(store.runs()) if record["run_id"] != before]
    return bool(earlier) and earlier[-1]["end"] == RUNNING


def _started(kind: str, run_id: str, began: datetime, what: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "kind": kind,
        "began": began.isoformat(),
        "seconds": None,
        "end": RUNNING,
        "by": f"{_user()}@{socket.gethostname()}",
        "pid": os.getpid(),
        "command": command_line(),
        "machine": {
            "platform": platform.platform(),
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
        },
        "packages": _packages(),
        **redact_values(what),
        "report": None,
    }


def _leave(store: Store, recording: Recording, run_id: str, began: datetime, end: str) -> None:
    if recording.waiting is not None:
        store.record_run(recording.waiting)
    seconds = round((datetime.now(UTC) - began).total_seconds(), 3)
    store.record_run({"run_id": run_id, "seconds": seconds, "end": redact(end), "report": recording.report})
    recording.close(f"{end} after {seconds:,.1f} s")


def _ending(error: BaseException) -> str:
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"


def _folded(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One record per run, in the order in which they started, of what each left at start and end."""
    records: dict[str, dict[str, Any]] = {}
    for entry in entries:
        records.setdefault(entry["run_id"], {}).update(entry)
    return list(records.values())


@cache
def _packages() -> dict[str, str]:
    found = {}
    for name in _RECORDED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a user id without a name.
        return "unknown"

"""Runs that are killed with -9 at a moment that a test chooses, and what must hold of the store after.

The moments are found without a hook in the product: the process that will die counts its calls of the
store, or watches the store's files from a thread and dies when a new one appears.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa

from helpers import unrayed
from helpers.processes import PROCESSES
from mmfeat.pipelines.record import runs
from mmfeat.schemas.errors import StoreError
from mmfeat.store import Store
from mmfeat.store.logs import Logs
from mmfeat.store.promotion import Promotion

# Everything a run writes goes through these.
WRITES = {
    Store: (
        "add_version", "commit", "finish", "put_catalog", "put_interactions", "put_stamps", "record_run",
    ),
    Logs: ("add", "remove_old"),
    Promotion: ("promote",),
}  # fmt: skip


@dataclass(frozen=True)
class Moment:
    """When a process dies.

    Attributes:
        call: the method of the store during which it dies.
        number: which of the run's calls of it, from 1.
        when: ``before`` or ``after`` the call, or the folder of a table in which a new file appears
            during it: ``data`` (rows are written and not yet committed), ``_versions`` (committed just
            now), ``_deletions`` (of rows that are replaced), ``_indices``.
    """

    call: str
    number: int
    when: str

    def __str__(self) -> str:
        return f"{self.when} {self.call} {self.number}"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(uri: str, table: Path, moment: Moment) -> None:
    """A run of this process that dies at ``moment``."""
    reached = 0

    @contextmanager
    def around(name: str) -> Iterator[None]:
        nonlocal reached
        reached += name == moment.call
        now = name == moment.call and reached == moment.number
        if now and moment.when == "before":
            die()
        if now and moment.when != "after":
            _die_on_a_new_file(Path(uri), moment.when)
        yield
        if now:
            die()  # after it; or the new file came and went too fast for the thread

    _wrap_writes(around)
    unrayed.run_once(uri, table)


def list_calls(uri: str, table: Path, answer: Any) -> None:
    """A whole run; sends the names of the store's methods that it called, in order."""
    names: list[str] = []

    @contextmanager
    def around(name: str) -> Iterator[None]:
        names.append(name)
        yield

    _wrap_writes(around)
    unrayed.run_once(uri, table)
    answer.send(names)


def _wrap_writes(around: Callable[[str], Any]) -> None:
    for writer, names in WRITES.items():
        for name in names:
            setattr(writer, name, _wrapped(getattr(writer, name), around))


def _wrapped(method: Callable[..., Any], around: Callable[[str], Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with around(method.__name__):
            return method(*args, **kwargs)

    return call


def _die_on_a_new_file(store: Path, folder: str) -> None:
    known = _files(store, folder)

    def watch() -> None:
        while _files(store, folder) <= known:
            pass
        die()

    # Lance lets go of the interpreter while it writes; the thread must get it at once.
    sys.setswitchinterval(1e-5)
    threading.Thread(target=watch, daemon=True).start()


def _files(store: Path, folder: str) -> set[str]:
    found: set[str] = set()
    for table in os.listdir(store):  # noqa: PTH208 - it is the fastest, and this is a race
        try:
            found.update(os.listdir(f"{store}/{table}/{folder}"))  # noqa: PTH208
        except OSError:
            continue
    return found


def spawned(target: Callable[..., None], *args: object) -> Any:
    process = PROCESSES.Process(target=target, args=args)
    process.start()
    return process


def killed(process: Any, after: float | None = None) -> bool:
    """Whether the process died of SIGKILL; with ``after``, it gets it that many seconds from now."""
    if after is not None:
        time.sleep(after)
        process.kill()
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL), f"the run failed: exit code {process.exitcode}"
    return process.exitcode != 0


class Story:
    """One store that is killed again and again while its dataset goes through its editions.

    Args:
        expected: per edition, the rows of a store that was never killed.
    """

    def __init__(self, folder: Path, expected: list[dict[str, pa.Table]]) -> None:
        self.uri = str(folder / "store")
        self.table = folder / "items.csv"
        self.expected = expected
        self.edition = 0
        self.kills = 0
        self.rows: dict[str, pa.Table] = {}
        folder.mkdir(parents=True, exist_ok=True)
        unrayed.write_dataset(self.table, 0)

    def kill_at(self, moment: Moment) -> None:
        """Start a run that dies at ``moment``, which it must reach."""
        assert killed(spawned(die_at, self.uri, self.table, moment)), f"the run never came to {moment}"
        self.kills += 1
        self.check()

    def kill_after(self, seconds: float) -> bool:
        """Start a run and kill it later; whether it was still at work."""
        died = killed(spawned(unrayed.run_once, self.uri, self.table), seconds)
        self.kills += died
        self.check()
        return died

    def check(self) -> None:
        """The store opens; every row committed before is there, once; no row is of no edition."""
        try:
            found = unrayed.contents(self.uri)
        except StoreError:
            assert not self.rows, "a store that held rows no longer opens"
            return
        assert self.rows.keys() <= found.keys()
        for name, rows in found.items():
            had = set(self.rows[name]["item_id"].to_pylist()) if name in self.rows else set()
            assert had <= set(rows["item_id"].to_pylist()), f"{name} lost a committed row"
            right = [_by_id(edition[name]) for edition in self.expected[max(0, self.edition - 1) :][:2]]
            for item_id, row in _by_id(rows).items():
                assert row in [edition.get(item_id) for edition in right], f"{name}: {item_id} is torn"
        self.rows = found

    def complete(self) -> None:
        """The next run, which nobody kills, ends with what a run that was never killed gives."""
        assert not killed(spawned(unrayed.run_once, self.uri, self.table))
        found = unrayed.contents(self.uri)
        assert found == self.expected[self.edition]
        self.rows = found
        ends = [record["end"] for record in runs(Store.open(self.uri))]
        assert ends[-1] == "completed"
        assert set(ends) <= {"completed", "killed"}
        assert ends.count("killed") <= self.kills

    def uncommitted_files(self) -> int:
        """Data files on disk that no committed version of a table refers to."""
        count = 0
        for folder in Path(self.uri).glob("*.lance"):
            table = lance.dataset(str(folder))
            named = set()
            for version in table.versions():
                at = table.checkout_version(version["version"])
                named |= {file.path for fragment in at.get_fragments() for file in fragment.data_files()}
            count += len({path.name for path in folder.glob("data/*")} - named)
        return count

    def next_edition(self) -> None:
        """Items change, and new ones come."""
        self.edition += 1
        unrayed.write_dataset(self.table, self.edition)


def never_killed(folder: Path, editions: int) -> list[dict[str, pa.Table]]:
    """The rows of a store after each edition of its dataset."""
    folder.mkdir(parents=True)
    states = []
    for edition in range(editions):
        table = unrayed.write_dataset(folder / "items.csv", edition)
        assert not killed(spawned(unrayed.run_once, str(folder / "store"), table))
        states.append(unrayed.contents(str(folder / "store")))
    return states


def calls_of_a_run(uri: str, table: Path) -> list[Moment]:
    """The moment before each call of the store in a whole run, which is made."""
    here, there = PROCESSES.Pipe()
    process = spawned(list_calls, uri, table, there)
    names = here.recv()
    process.join()
    return [Moment(name, names[: n + 1].count(name), "before") for n, name in enumerate(names)]


def _by_id(rows: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["item_id"]: row for row in rows.to_pylist()}

"""What every list of a store was at last, so that a list that went back or away is noticed.

A Lance table that lost its newest manifests opens at an older state without a word, and one that lost its
folder looks like a list that nobody has begun. So each list's version, and a digest of the files that it
consists of, are written down beside the lists, in two copies, each with a sum of its own; and the store's
header says that they are there. Whatever of this is lost, the rest tells.

What is written down is what a list was at *least* at: it is written after the list. A process that is
killed in between leaves a list that is ahead, which is no damage.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import lance

from mmfeat.schemas.errors import StoreError
from mmfeat.store import digests, folders
from mmfeat.store.database import Database, is_passing
from mmfeat.store.places import HEADER
from mmfeat.store.schema import STORE_SCHEMA

FOLDER = "_chain"
_COPIES = (f"{FOLDER}/first.json", f"{FOLDER}/second.json")
_LOCK_FILE = "lock"
_KEPT = b"mmfeat.chain"  # of the header's metadata: that this is kept

# Of a list: its version, and the digest of what it consists of.
State = tuple[int, str]


@dataclass(frozen=True)
class Loss:
    """A list that is not what it was, or a copy of what is written down of the lists.

    Attributes:
        table: the list's table, or ``FOLDER``.
        certain: False if only a copy is lost: the other one tells all.
        unread: why the list could not be read just now, which is no loss; None if it could.
    """

    table: str
    problem: str
    certain: bool = True
    unread: StoreError | None = None


def begin(database: Database) -> None:
    """Begin with it in a store that shows no sign of it, under the store's lease.

    Before anything else is written: from then on the sums of files know of the header that says so.
    """
    if not _is_kept(database):
        _write(database, [], accept=False)
        _say_so(database)


def record(database: Database, names: Iterable[str]) -> None:
    """Write down what the lists ``names`` are at, where a writer began with it; nothing if it is written.

    A list that is not at what was written of it before is left out: that is a loss, for people to decide.
    """
    if _is_kept(database):
        _write(database, names, accept=False)


def accept(database: Database, names: Iterable[str]) -> None:
    """Let the lists ``names`` count as what they are by now, under the store's lease."""
    _write(database, names, accept=True)
    if not _is_said(database):
        _say_so(database)


def losses(database: Database) -> Iterator[Loss]:
    """Every list that is behind what was written of it, and every copy of that which is lost.

    The tables of ``database`` must not have been looked at before: another process may be writing.
    """
    found = [_read(database, copy) for copy in _COPIES]
    if all(states is None for states in found):
        if _is_kept(database):
            yield Loss(FOLDER, "both copies of what the lists were are gone: none of them can be checked")
        return
    for copy, states in zip(_COPIES, found, strict=True):
        if states is None:
            yield Loss(FOLDER, f"{copy} is gone or damaged, and the other copy is there", certain=False)
    yield from _behind(database, _merged(found))


def losses_of(uri: str, names: Collection[str]) -> Iterator[Loss]:
    """Of these lists alone those that are behind; where all copies are lost there is nothing to tell."""
    database = Database(uri)
    found = (_read(database, copy) for copy in _COPIES)
    states = next((states for states in found if states is not None), {})
    yield from _behind(database, {name: states[name] for name in names if name in states})


def refusal(uri: str, loss: Loss, what: str, consequence: str = "") -> StoreError:
    """The error that nothing can be built on what is left of a list.

    Args:
        what: that the list holds: ``the list of exports``.
        consequence: a sentence, with a blank behind it.
    """
    if loss.unread is not None:
        return loss.unread
    return StoreError(
        f"{uri} has lost a part of itself. {loss.table}, {what}: {loss.problem}.",
        hint=f"{consequence}`mmfeat doctor --store URI` says what is lost and what to do.",
    )


def _behind(database: Database, states: dict[str, State]) -> Iterator[Loss]:
    for name, state in sorted(states.items()):
        try:
            if problem := _problem(database, name, state):
                yield Loss(name, problem)
        except StoreError as error:
            yield Loss(name, error.message, unread=error)


def _problem(database: Database, name: str, state: State) -> str:
    version, digest = state
    try:
        table = database.table(name)
    except StoreError as error:
        if is_passing(error):
            raise
        return error.message
    if table is None:
        return "it is gone"
    if table.version < version:
        lost = version - table.version
        return f"its last {lost} states are gone, and what was committed with them"
    if table.version == version and _digest(table) != digest:
        return "it is not what was written"
    return ""


def _write(database: Database, names: Iterable[str], accept: bool) -> None:
    with database.errors("write down the states of lists"), _alone(database):
        found = [_read(database, copy) for copy in _COPIES]
        if all(states is None for states in found) and _is_kept(database) and not accept:
            return  # both are lost
        after = _merged(found)
        for name in names:
            state = _state(database, name)
            if accept:
                after.pop(name, None)
            if state is not None and state[0] > after.get(name, (0, ""))[0]:
                after[name] = state
        for copy, states in zip(_COPIES, found, strict=True):
            if states != after:
                _make_way(database, copy, folder=False)
                folders.write(database, copy, _text(after))


def _read(database: Database, copy: str) -> dict[str, State] | None:
    """What a copy says; None if it is gone or not what was written."""
    try:
        text = folders.read(database, copy)
        states = {name: (int(version), str(digest)) for name, (version, digest) in json.loads(text or "")[0]}
        return states if text == _text(states) else None
    except StoreError as error:
        if is_passing(error):
            raise
        return None  # a folder in its place is no copy either
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError):
        return None


def _text(states: dict[str, State]) -> bytes:
    listed = sorted(states.items())
    return json.dumps([listed, hashlib.sha256(json.dumps(listed).encode()).hexdigest()]).encode()


def _merged(found: Iterable[dict[str, State] | None]) -> dict[str, State]:
    """Of each list the later state: a process may have been killed between the copies."""
    merged: dict[str, State] = {}
    for states in found:
        for name, state in (states or {}).items():
            merged[name] = max(state, merged.get(name, state))
    return merged


def _is_kept(database: Database) -> bool:
    """Whether there was a chain ever: a header that went back itself no longer says so."""
    header = database.table(HEADER)
    return header is not None and (_is_said(database) or header.version < _known_version(database))


def _is_said(database: Database) -> bool:
    header = database.table(HEADER)
    return header is not None and _KEPT in (header.schema.metadata or {})


def _say_so(database: Database) -> None:
    # After the first copies: what the header says is there always is.
    header = database.read(HEADER, STORE_SCHEMA)
    database.overwrite(HEADER, header.replace_schema_metadata({_KEPT: b"1"}))
    _write(database, [HEADER], accept=False)


def _known_version(database: Database) -> int:
    """That which the sums of files know the header to have had, 0 if they cannot be read."""
    try:
        return digests.last_version(database, HEADER)
    except StoreError as error:
        if is_passing(error):
            raise
        return 0
    except ValueError:
        return 0


def _state(database: Database, name: str) -> State | None:
    """What a list is at; None if there is none, or none that can be opened."""
    try:
        table = database.table(name)
    except StoreError as error:
        if is_passing(error):
            raise
        return None
    return None if table is None else (int(table.version), _digest(table))


def _digest(table: lance.LanceDataset) -> str:
    """SHA-256 of what a version of a table consists of: the names of its files, which no other has.

    It reads nothing: all of that is in the manifest, which was read when the table was opened.
    """
    parts = []
    for fragment in table.get_fragments():
        deleted = fragment.metadata.deletion_file
        parts.append(
            [
                fragment.fragment_id,
                [file.path for file in fragment.data_files()],
                deleted and [deleted.read_version, deleted.id],
            ]
        )
    metadata = table.schema.metadata or {}
    told = [sorted(parts, key=lambda part: part[0]), sorted((k.hex(), v.hex()) for k, v in metadata.items())]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


@contextmanager
def _alone(database: Database) -> Iterator[None]:
    """Of several processes one writes at a time, on a local folder; elsewhere the later copy stays.

    There, what one process wrote of its list may be lost to another one's, until it is written again.
    """
    if database.folder is None:
        yield
        return
    _make_way(database, FOLDER, folder=True)
    _make_way(database, f"{FOLDER}/{_LOCK_FILE}", folder=False)
    (database.folder / FOLDER).mkdir(exist_ok=True)
    with (database.folder / FOLDER / _LOCK_FILE).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_way(database: Database, name: str, folder: bool) -> None:
    """Remove a file where a folder belongs, or a folder where a file does; there is nothing of use in it."""
    if database.folder is None:
        return
    path = database.folder / name
    if folder and path.exists() and not path.is_dir():
        path.unlink()
    elif not folder and path.is_dir():
        shutil.rmtree(path)

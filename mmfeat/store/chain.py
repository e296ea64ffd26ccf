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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import lance

from mmfeat.schemas.errors import StoreError
from mmfeat.store import folders
from mmfeat.store.database import Database
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
        certain: False where only a copy is lost: the other one tells all.
    """

    table: str
    problem: str
    certain: bool = True


def record(database: Database, names: Iterable[str], begin: bool = False) -> None:
    """Write down what the lists ``names`` are at; writes nothing where that is written.

    A list that is not at what was written of it before is left out: that is a loss, for people to decide.

    Args:
        begin: begin with it in a store that has none yet, under the store's lease.
    """
    if _is_kept(database) or begin:
        _write(database, names, accept=False)
    if begin and not _is_kept(database):
        # After the first copies: what the header says is there always is.
        header = database.read(HEADER, STORE_SCHEMA)
        database.overwrite(HEADER, header.replace_schema_metadata({_KEPT: b"1"}))
        _write(database, [HEADER], accept=False)


def accept(database: Database, names: Iterable[str]) -> None:
    """Let the lists ``names`` count as what they are by now, under the store's lease."""
    _write(database, names, accept=True)
    record(database, [], begin=True)


def losses(database: Database) -> Iterator[Loss]:
    """Every list that is behind what was written of it, and every copy of that which is lost.

    The tables of ``database`` must not have been looked at before: another process may be writing.
    """
    found = [_read(database, copy) for copy in _COPIES]
    if not any(found):
        if _is_kept(database):
            yield Loss(FOLDER, "both copies of what the lists were are gone: none of them can be checked")
        return
    for copy, states in zip(_COPIES, found, strict=True):
        if states is None:
            yield Loss(FOLDER, f"{copy} is gone or damaged, and the other copy is there", certain=False)
    for name, state in sorted(_merged(found).items()):
        if problem := _problem(database, name, state):
            yield Loss(name, problem)


def _problem(database: Database, name: str, state: State) -> str:
    version, digest = state
    try:
        table = database.table(name)
    except StoreError as error:
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
        if not any(found) and _is_kept(database) and not accept:
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
                folders.write(database, copy, _text(after))


def _read(database: Database, copy: str) -> dict[str, State] | None:
    """What a copy says; None where it is gone or not what was written."""
    text = folders.read(database, copy)
    try:
        states = {name: (int(version), str(digest)) for name, (version, digest) in json.loads(text or "")[0]}
    except (ValueError, TypeError, KeyError, IndexError):
        return None
    return states if text == _text(states) else None


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
    header = database.table(HEADER)
    return header is not None and _KEPT in (header.schema.metadata or {})


def _state(database: Database, name: str) -> State | None:
    """What a list is at; None where there is none, or none that can be opened."""
    try:
        table = database.table(name)
    except StoreError:
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
    (database.folder / FOLDER).mkdir(exist_ok=True)
    with (database.folder / FOLDER / _LOCK_FILE).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

"""Damage: files of a store that were cut, changed or removed behind its back; what it cost; mending it.

Every table is looked at by itself, so that one that cannot be read hides nothing of the others. Mending
drops what cannot be read and nothing else: the next run sees which rows are missing and computes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import lance
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from mmfeat.schemas.errors import StoreError, UsageError
from mmfeat.schemas.validation import listed
from mmfeat.store import catalog, chain, digests, folders, snapshots, versions
from mmfeat.store.database import Database, is_busy, is_passing, panics, said
from mmfeat.store.lists import LISTS, PRECIOUS, REMADE
from mmfeat.store.snapshots import Snapshot, Snapshots
from mmfeat.store.versions import FeatureVersion, Versions

_EXTRACT = "the next `mmfeat extract` makes it anew"
_DROP = f"`mmfeat doctor --repair` drops what cannot be read; {_EXTRACT}"
_RESTORE = "restore the store from a backup"
_GO_ON = f"`mmfeat doctor --repair` goes on without; {_EXTRACT}"
_AGAIN = "look again when it can be read; nothing of it was dropped"
_STATES = "what is written down of the lists"
_PROBES = 1000
_BATCH_ROWS = 1024
T = TypeVar("T")
_MANIFEST = re.compile(r"\d{20}\.manifest")


@dataclass(frozen=True)
class Damage:
    """Something of a store that cannot be read, or is not what was written.

    Attributes:
        table: the Lance table.
        what: what it holds, for people: ``feature clip@3fa9c1d2``.
        items: how many rows are affected; None if that cannot be told.
        problem: what is wrong with it.
        mend: what can be done about it.
        repairable: whether :func:`repair` can do it.
    """

    table: str
    what: str
    items: int | None
    problem: str
    mend: str
    repairable: bool


def examine(uri: str, deep: bool = False) -> list[Damage]:
    """Everything that is damaged, the worst first.

    Reads the ids of every row of every table, and asks the indices for some of them.

    Args:
        deep: read every value as well, and compare the files of a local store with what was written.
    """
    database = Database(uri)
    # First of all, and by itself: another process may be writing.
    losses = _losses(uri)
    found: list[Damage] = []
    for table, what in PRECIOUS.items():
        found += _damages(database, table, what, _restore(table), deep, repairable=False)
    for table, what in REMADE.items():
        found += _damages(database, table, what, _DROP, deep, repairable=True)
    found += [loss for loss in losses if loss.table not in {damage.table for damage in found}]
    for version in _listed(versions.VERSIONS, Versions(database).list, found):
        found += _of_feature(database, version, deep)
    kept = _listed(snapshots.TABLE, Snapshots(database).list, found)
    damaged = {damage.table for damage in found}
    for snapshot in kept:
        found += _of_snapshot(database, snapshot, damaged, deep)
    return found


def repair(uri: str, damages: Iterable[Damage]) -> list[Damage]:
    """Drop what cannot be read, under the store's lease, which the caller holds; what was mended.

    A table whose newest state cannot be opened goes back to the last one that can. Snapshots are not
    touched: deleting one is for people to decide.
    """
    mended = [damage for damage in damages if damage.repairable]
    for table in dict.fromkeys(damage.table for damage in mended):
        _mend_list(uri, table) if table in LISTS else _mend(Database(uri), table)
    chain.record(Database(uri), [])  # a copy of it may have been lost
    return mended


def accept_losses(uri: str, tables: Iterable[str]) -> list[str]:
    """Go on with what is left of lists, under the store's lease, which the caller holds.

    What cannot be read of them is dropped, as :func:`repair` never does with lists that can't be made
    again: forgotten items that no list names come back with the next run.

    Args:
        tables: of ``LISTS``; or ``_chain``, where what the lists were is lost, for all of them.

    Raises:
        UsageError: there is no such list.
    """
    known = [*LISTS, chain.FOLDER]
    wanted = list(dict.fromkeys(listed(tables, "list")))
    if unknown := [table for table in wanted if table not in known]:
        raise UsageError(f"A store has no list {unknown[0]!r}.", hint=f"There are: {', '.join(known)}.")
    for table in wanted:
        if table in LISTS:
            _mend_list(uri, table)
        else:
            chain.accept(Database(uri), LISTS)
    return wanted


def _mend_list(uri: str, table: str) -> None:
    _mend(Database(uri), table)
    chain.accept(Database(uri), [table])


def _of_feature(database: Database, version: FeatureVersion, deep: bool) -> Iterator[Damage]:
    what = f"feature {version.version}"
    if _is_gone(database, version.table):
        yield Damage(version.table, what, None, "its table is gone", _EXTRACT, repairable=True)
        return
    yield from _damages(database, version.table, what, _DROP, deep, repairable=True)


def _losses(uri: str) -> list[Damage]:
    """Lists that are not what they were, and what is written down of that where it is lost."""
    database = Database(uri)
    return [_of_loss(loss) for loss in chain.losses(database)]


def _of_loss(loss: chain.Loss) -> Damage:
    what = LISTS.get(loss.table, _STATES)
    if loss.unread is not None:
        return Damage(loss.table, what, None, loss.problem, _AGAIN, repairable=False)
    if _is_precious(loss):
        return Damage(loss.table, what, None, loss.problem, _restore(loss.table), repairable=False)
    return Damage(loss.table, what, None, loss.problem, _GO_ON, repairable=True)


def _is_precious(loss: chain.Loss) -> bool:
    return loss.certain and loss.table not in REMADE


def _restore(table: str) -> str:
    return f"{_RESTORE}; to go on without what is lost: mmfeat doctor --store URI --accept-loss {table}"


def _table(database: Database, name: str) -> lance.LanceDataset | StoreError | None:
    """The table, None if there is none, or why it cannot be opened.

    Raises:
        StoreError: it cannot be read now, which says nothing of it.
    """
    try:
        return database.table(name)
    except StoreError as error:
        if is_passing(error):
            raise
        return error


def _is_gone(database: Database, name: str) -> bool:
    try:
        return _table(database, name) is None
    except StoreError:
        return False  # what else there is to say of it is said by whoever reads it


def _damages(
    database: Database, name: str, what: str, mend: str, deep: bool, *, repairable: bool
) -> list[Damage]:
    """What is wrong with a table; nothing if there is none."""
    try:
        table = _table(database, name)
        if table is None:
            return []
        if isinstance(table, StoreError):
            return [Damage(name, what, None, table.message, mend, repairable)]
        with database.errors(f"read {name}"):
            return list(_damages_of(database, table, name, what, mend, deep, repairable))
    except StoreError as error:
        if is_passing(error):
            return [Damage(name, what, None, error.message, _AGAIN, repairable=False)]
        return [Damage(name, what, None, error.message, mend, repairable)]


def _damages_of(
    database: Database,
    table: lance.LanceDataset,
    name: str,
    what: str,
    mend: str,
    deep: bool,
    repairable: bool,
) -> Iterator[Damage]:
    lost = _lost_versions(database, name, table)
    if lost > 0:
        problem = f"its last {lost} states are gone, and what was committed with them"
        yield Damage(name, what, None, problem, mend, repairable)
    broken = list(_broken_fragments(table, deep))
    if broken:
        rows = sum(count for _, count, _ in broken)
        yield Damage(name, what, rows, f"{rows:,} rows cannot be read: {broken[0][2]}", mend, repairable)
    elif problem := _twice(name, table):
        yield Damage(name, what, None, problem, _RESTORE, False)
    elif problem := _index_problem(table):
        yield Damage(name, what, None, problem, mend, repairable)
    if deep and not broken and (changed := _changed(database, name)):
        rows = _rows_of(table, changed)
        problem = f"{len(changed)} files are not what was written, the first being {changed[0]}"
        yield Damage(name, what, rows, problem, mend, repairable)


def _of_snapshot(database: Database, snapshot: Snapshot, damaged: set[str], deep: bool) -> Iterator[Damage]:
    """What is wrong with a snapshot's own versions; a table that is damaged anyway is not told again."""
    view = Database(database.uri, snapshot.tables)
    what, mend = f"snapshot {snapshot.name}", f"delete it: mmfeat snapshot delete {snapshot.name}"
    for name in snapshot.tables:
        if name in damaged:
            continue
        if _is_gone(view, name):
            yield Damage(name, what, None, f"its version of {name} is gone", mend, repairable=False)
        else:
            yield from _damages(view, name, what, mend, deep, repairable=False)


def _broken_fragments(table: lance.LanceDataset, deep: bool) -> Iterator[tuple[int, int, str]]:
    """``(fragment, rows, why)`` of each fragment that cannot be read."""
    columns = None if deep or "item_id" not in table.schema.names else ["item_id"]
    for fragment in table.get_fragments():
        rows = 0
        try:
            with panics():
                rows = fragment.physical_rows
                expected = fragment.count_rows()
                batches = fragment.to_batches(columns=columns, batch_size=_BATCH_ROWS)
                got = sum(len(batch) for batch in batches)
            if got != expected:
                yield fragment.fragment_id, expected, f"{got:,} rows where there should be {expected:,}"
        except (OSError, RuntimeError, ValueError) as error:
            if is_busy(error):
                raise
            yield fragment.fragment_id, rows, said(error)


def _twice(name: str, table: lance.LanceDataset) -> str:
    if name in (catalog.INTERACTIONS, catalog.STAMPS) or "item_id" not in table.schema.names:
        return ""
    ids = table.to_table(columns=["item_id"])["item_id"]
    repeated = len(ids) - pc.count_distinct(ids).as_py()
    return f"{repeated:,} item ids come more than once" if repeated else ""


def _index_problem(table: lance.LanceDataset) -> str:
    """What is wrong with the index of a table's item ids, if anything is."""
    try:
        with panics():
            missed = _missed_by_index(table)
    except (OSError, RuntimeError, ValueError) as error:
        if is_busy(error):
            raise
        return f"its index cannot be read: {said(error)}"
    return f"its index misses {missed:,} of the items that were asked for" if missed else ""


def _missed_by_index(table: lance.LanceDataset) -> int:
    if not table.describe_indices() or not table.count_rows():
        return 0
    ids = table.to_table(columns=["item_id"])["item_id"]
    some = ids.take(pa.array(range(0, len(ids), max(1, len(ids) // _PROBES)))).unique()
    return len(some) - int(table.count_rows(pc.field("item_id").isin(some)))


def _lost_versions(database: Database, name: str, table: lance.LanceDataset) -> int:
    try:
        return max(0, digests.last_version(database, name) - int(table.version))
    except (StoreError, ValueError):
        return 0  # the digests themselves cannot be read


def _rows_of(table: lance.LanceDataset, files: Iterable[str]) -> int:
    names = {file.rpartition("/")[2] for file in files}
    hit = (f for f in table.get_fragments() if names & {d.path for d in f.data_files()})
    return sum(fragment.count_rows() for fragment in hit)


def _mend(database: Database, name: str) -> None:
    table = _table(database, name)
    while isinstance(table, StoreError) or (table is not None and table.version < table.latest_version):
        if not _drop_newest_manifest(database, name):
            _drop_table(database, name)
            return
        database.refresh()
        table = _table(database, name)
    if table is None:
        _drop_table(database, name)
        return
    with database.errors(f"repair {name}"):
        changed = {file.rpartition("/")[2] for file in _changed(database, name)}
        broken = {number for number, _, _ in _broken_fragments(table, deep=True)}
        broken |= {f.fragment_id for f in table.get_fragments() if changed & {d.path for d in f.data_files()}}
        for index in table.describe_indices():
            table.drop_index(index.name)
        if broken:
            drop = lance.LanceOperation.Delete([], sorted(broken), "unreadable")
            table = lance.LanceDataset.commit(table.uri, drop, read_version=table.version)
        database.refresh()  # it may be the list of sums itself
    digests.forget(database, name)


def _drop_newest_manifest(database: Database, name: str) -> bool:
    """Let a table go back to the state before its newest; False if there is none before it."""
    with database.errors(f"repair {name}"):
        system, path = fs.FileSystem.from_uri(_uri(database, name))
        folder = fs.FileSelector(f"{path}/_versions", allow_not_found=True)
        # Lance names them by falling numbers: the first is the newest.
        manifests = sorted(f.path for f in system.get_file_info(folder) if _MANIFEST.fullmatch(f.base_name))
        if len(manifests) < 2:
            return False
        system.delete_file(manifests[0])
    return True


def _drop_table(database: Database, name: str) -> None:
    folders.remove(database, f"{name}.lance")
    digests.forget(database, name)


def _uri(database: Database, name: str) -> str:
    return f"{database.uri}/{name}.lance"


def _listed(table: str, read: Callable[[], list[T]], found: list[Damage]) -> list[T]:
    """What ``read`` gives; nothing if that is damaged, which is added to ``found``."""
    try:
        return read()
    except StoreError as error:
        if not any(damage.table == table for damage in found):
            mend = _AGAIN if is_passing(error) else _restore(table)
            found.append(Damage(table, PRECIOUS[table], None, error.message, mend, False))
        return []


def _changed(database: Database, name: str) -> list[str]:
    """Files that are not what was written; none where what was written cannot be read any more."""
    try:
        return digests.changed(database, name)
    except StoreError as error:
        if is_passing(error):
            raise
        return []
    except ValueError:
        return []

"""Removing rows for good: from every version of a table, from its indices and from its files.

A version that a tag names cannot be changed. Its rows are removed on a branch that starts at it, and
the tag is moved there: what the branch did not have to write anew it shares with the table. Each step
may be repeated, so a process that is killed in between leaves nothing that the next one cannot finish.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import lance
import pyarrow as pa
import pyarrow.compute as pc
from lance.file import LanceFileReader

from mmfeat.store.database import Database, quoted

_BRANCH = "mmfeat-rewritten-"
_VALUES_PER_FILTER = 1000


def purge(
    database: Database,
    name: str,
    column: str,
    values: Sequence[str],
    reindex: Callable[[], None],
    everywhere: bool,
) -> None:
    """Remove the rows whose ``column`` is one of ``values`` from the latest and all tagged versions.

    They are gone for good after :func:`drop_old_versions`. Nobody else may write to the table meanwhile.

    Args:
        reindex: builds the table's indices anew; called where rows were removed.
        everywhere: also rewrite what seems to hold none of the rows: a call that was killed may have
            removed them from the rows and not yet from the indices.
    """
    table = _latest(database, name)
    if table is None:
        return
    wheres = list(row_filters(column, values))
    with database.errors(f"remove rows from {name}"):
        held = _rewrite_tagged(table, column, wheres)
        if everywhere or held or _holds(table, column, wheres):
            _remove(table, wheres)
            database.refresh()
            reindex()
    database.refresh()


def drop_old_versions(database: Database, name: str) -> None:
    """Remove every version of a table that no tag names, and all files that no version left needs."""
    table = _latest(database, name)
    if table is None:
        return
    with database.errors(f"remove old versions of {name}"):
        # The branches first: their old versions keep files of the table.
        for branch in table.branches.list():
            _drop_old(table.checkout_version((branch, None)))
        _drop_old(table)
    database.refresh()


def held(database: Database, name: str, column: str, values: Sequence[str]) -> list[str]:
    """Those of ``values`` that are still in any data file of a table, in whatever version."""
    table = _latest(database, name)
    if table is None:
        return []
    wanted = pa.array(values, pa.string())
    found: set[str] = set()
    with database.errors(f"search the files of {name}"):
        for path in table.all_files().read_all()["path"].to_pylist():
            if "/data/" in f"/{path}" and path.endswith(".lance"):
                rows = LanceFileReader(f"{table.uri}/{path}", columns=[column]).read_all().to_table()
                cells = rows[column].combine_chunks()
                found.update(cells.filter(pc.is_in(cells, value_set=wanted)).to_pylist())
    return sorted(found)


def remove_idle_branches(table: lance.LanceDataset) -> None:
    """Remove the branches of this module that no tag names any more."""
    named = {tag["branch"] for tag in table.tags.list().values()}
    for branch in table.branches.list():
        if branch.startswith(_BRANCH) and branch not in named:
            table.branches.delete(branch)


def _rewrite_tagged(table: lance.LanceDataset, column: str, wheres: Sequence[str]) -> bool:
    """Move every tag on a version that holds the rows to one without them; whether there was any."""
    moved: dict[tuple[str | None, int], tuple[str, int] | None] = {}
    for name, tag in table.tags.list().items():
        at = (tag["branch"], tag["version"])
        if at not in moved:
            moved[at] = _rewritten(table, at, column, wheres)
        if (target := moved[at]) is not None:
            table.tags.update(name, target)
    return any(target is not None for target in moved.values())


def _rewritten(
    table: lance.LanceDataset, at: tuple[str | None, int], column: str, wheres: Sequence[str]
) -> tuple[str, int] | None:
    """A branch's version that is ``at`` without the rows; None if ``at`` has none of them."""
    origin, version = at
    if not _holds(table.checkout_version(at), column, wheres):
        return None
    name = origin or f"{_BRANCH}{version}"
    if name not in table.branches.list():
        table.create_branch(name, at)
    branch = table.checkout_version((name, None))
    _drop_indices(branch)
    _remove(branch, wheres)
    return name, branch.version


def _holds(table: lance.LanceDataset, column: str, wheres: Sequence[str]) -> bool:
    """Whether any of the rows is in the files of this version, be it as a deleted one."""
    scans = (
        table.scanner(columns=[column], filter=where, include_deleted_rows=True, with_row_id=True)
        for where in wheres
    )
    return any(len(scan.to_table()) for scan in scans)


def _remove(table: lance.LanceDataset, wheres: Sequence[str]) -> None:
    for where in wheres:
        if table.count_rows(where):
            table.delete(where)
    # Deleted rows stay in their files until these are written anew.
    fragments = table.get_fragments()
    whole = [fragment.fragment_id for fragment in fragments if not fragment.num_deletions]
    if len(whole) < len(fragments):
        table.optimize.compact_files(materialize_deletions_threshold=0.0, excluded_fragment_ids=whole)


def _drop_indices(table: lance.LanceDataset) -> None:
    for index in table.describe_indices():
        table.drop_index(index.name)


def _drop_old(table: lance.LanceDataset) -> None:
    # By number and not by age: the clock may be behind the one that wrote them.
    table.cleanup_old_versions(retain_versions=1, delete_unverified=True, error_if_tagged_old_versions=False)


def _latest(database: Database, name: str) -> lance.LanceDataset | None:
    database.refresh()
    return database.table(name)


def row_filters(column: str, values: Sequence[str]) -> Iterator[str]:
    """Lance filters that together name the rows whose ``column`` is one of ``values``."""
    for start in range(0, len(values), _VALUES_PER_FILTER):
        yield f"{column} IN ({', '.join(map(quoted, values[start : start + _VALUES_PER_FILTER]))})"

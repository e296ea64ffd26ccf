"""``prune`` killed with -9 between any two tables: no damage is seen, and the next one finds the rest."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from helpers.changing import rows, run, titled, write_table
from helpers.killing import die, spawned

import mmfeat
from mmfeat.store import examine
from mmfeat.store.database import Database


def prune_and_die(uri: str, deletions: int) -> None:
    """A ``prune`` of this process that dies after so many of its deletions."""
    delete, done = Database.delete, 0

    def counted(database: Database, table: str, where: str) -> None:
        nonlocal done
        delete(database, table, where)
        done += 1
        if done == deletions:
            die()

    Database.delete = counted  # type: ignore[method-assign]
    mmfeat.open(uri).prune()


# The rows of two features, the stamps, the catalog.
@pytest.mark.parametrize("deletions", [1, 2, 3, 4])
def test_a_killed_prune_is_no_damage_and_the_next_one_ends_it(tmp_path: Path, deletions: int):
    store, table = tmp_path / "store", tmp_path / "items.jsonl"
    run(store, write_table(table, titled(range(10))))
    run(store, write_table(table, titled(range(9))))
    before = rows(store)
    process = spawned(prune_and_die, str(store), deletions)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert examine(str(store), deep=True) == []
    mmfeat.open(store).prune()
    assert (examine(str(store), deep=True), mmfeat.open(store).gone) == ([], [])
    assert rows(store) == {key: row for key, row in before.items() if key[1] != "9"}
    assert run(store, table).computed == 0

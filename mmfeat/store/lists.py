"""The lists of a store: its tables but for those of feature versions."""

from __future__ import annotations

from mmfeat.store import (
    canaries,
    catalog,
    chain,
    codebooks,
    collisions,
    digests,
    evaluations,
    exported,
    logs,
    snapshots,
    tombstones,
    versions,
)
from mmfeat.store.database import Database
from mmfeat.store.places import HEADER

# Lost, they would be missed and could not be made again. Table to what it holds.
PRECIOUS = {
    HEADER: "the store's header",
    versions.VERSIONS: "the list of feature versions",
    versions.CURRENT: "which version each name means",
    snapshots.TABLE: "the list of snapshots",
    tombstones.TABLE: "the list of forgotten items",
    exported.TABLE: "the list of exports",
}

# What the next run makes anew, and what it can do without.
REMADE = {
    catalog.ITEMS: "the catalog of items",
    catalog.INTERACTIONS: "the interactions",
    catalog.STAMPS: "the stamps of files",
    catalog.RUNS: "the records of runs",
    logs.TABLE: "the logs of runs",
    codebooks.TABLE: "what quantizers fitted",
    collisions.TABLE: "the numbers that collision levels gave out",
    canaries.TABLE: "what models gave for known inputs",
    evaluations.TABLE: "what evaluations found",
    digests.TABLE: "what files should be",
}
LISTS = PRECIOUS | REMADE

# The sums of files cannot tell their own.
DIGESTED = tuple(name for name in LISTS if name != digests.TABLE)


def record(database: Database) -> None:
    """Write down what all lists are at, under the store's lease."""
    chain.record(database, LISTS)


def refuse_losses(database: Database) -> None:
    """StoreError where a list is not what it was, so that nothing is built on what is left of it."""
    for loss in chain.losses(database):
        if loss.certain:
            raise chain.refusal(database.uri, loss, _what(loss), "Nothing was written. ")


def refuse_lost_names(uri: str) -> None:
    """StoreError where the lists that say what a feature's name means are not what they were.

    It costs one small file and the newest manifests of two lists.
    """
    for loss in chain.losses_of(uri, versions.TABLES):
        raise chain.refusal(uri, loss, _what(loss), "A name could mean another version than before. ")


def _what(loss: chain.Loss) -> str:
    return LISTS.get(loss.table, "the states of all lists")

"""Lifecycle of a feature version's table."""

from __future__ import annotations

from mmfeat.store.database import Database, clean_up
from mmfeat.store.indexing import rebuild_vector_index
from mmfeat.store.rows import table_of
from mmfeat.store.versions import FeatureVersion

# Fragments this large are left alone, so that a nightly run rewrites what it added and not the table.
_ROWS_PER_FRAGMENT = 131_072

_INDEX = "item_id_idx"


def finish(database: Database, version: FeatureVersion) -> None:
    """Merge small fragments, bring the indices up to date with all rows, remove old versions."""
    table = table_of(database, version)
    with database.errors(f"compact {version.version}"):
        table.optimize.compact_files(target_rows_per_fragment=_ROWS_PER_FRAGMENT)
        if any(index.name == _INDEX for index in table.describe_indices()):
            table.optimize.optimize_indices()
        else:
            table.create_scalar_index("item_id", "BTREE", name=_INDEX)
        clean_up(table)


def rebuild_indices(database: Database, version: FeatureVersion) -> None:
    """Build every index of the table anew, so that nothing is left in them of rows that are gone."""
    table = table_of(database, version)
    with database.errors(f"index {version.version}"):
        table.create_scalar_index("item_id", "BTREE", name=_INDEX, replace=True)
    rebuild_vector_index(database, version)

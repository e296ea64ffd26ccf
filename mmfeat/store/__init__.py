"""The store: feature versions, their rows, the catalog, lookup, search and snapshots. See :class:`Store`."""

from mmfeat.store.belonging import Owned, Place, distinct_name
from mmfeat.store.damage import Damage, accept_losses, examine, repair
from mmfeat.store.database import was_forked
from mmfeat.store.diff import FeatureDiff, StoreDiff, diff
from mmfeat.store.exported import Exported
from mmfeat.store.garbage import Garbage, Retention, Survey
from mmfeat.store.promotion import ROLLED_BACK
from mmfeat.store.prune import Gone
from mmfeat.store.schema import rows_schema, value_column
from mmfeat.store.search import Hit, refuse_unsearchable
from mmfeat.store.snapshots import Snapshot
from mmfeat.store.stale import why_stale
from mmfeat.store.store import Store
from mmfeat.store.tombstones import Tombstone
from mmfeat.store.vector_index import VectorIndex
from mmfeat.store.versions import FeatureVersion

__all__ = [
    "ROLLED_BACK",
    "Damage",
    "Exported",
    "FeatureDiff",
    "FeatureVersion",
    "Garbage",
    "Gone",
    "Hit",
    "Owned",
    "Place",
    "Retention",
    "Snapshot",
    "Store",
    "StoreDiff",
    "Survey",
    "Tombstone",
    "VectorIndex",
    "accept_losses",
    "diff",
    "examine",
    "refuse_unsearchable",
    "repair",
    "rows_schema",
    "distinct_name",
    "value_column",
    "was_forked",
    "why_stale",
]

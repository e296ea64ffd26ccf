"""The store: feature versions, their rows, the catalog, lookup, search and snapshots. See :class:`Store`."""

from mmfeat.store.diff import FeatureDiff, StoreDiff, diff
from mmfeat.store.schema import rows_schema
from mmfeat.store.search import Hit, refuse_unsearchable
from mmfeat.store.snapshots import Snapshot
from mmfeat.store.store import Store
from mmfeat.store.versions import FeatureVersion

__all__ = [
    "FeatureDiff",
    "FeatureVersion",
    "Hit",
    "Snapshot",
    "Store",
    "StoreDiff",
    "diff",
    "refuse_unsearchable",
    "rows_schema",
]

"""The store: feature versions, their rows, the catalog, lookup and search. See :class:`Store`."""

from mmfeat.store.schema import rows_schema
from mmfeat.store.search import Hit
from mmfeat.store.store import Store
from mmfeat.store.versions import FeatureVersion

__all__ = ["FeatureVersion", "Hit", "Store", "rows_schema"]

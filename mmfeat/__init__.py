"""mmfeat: from item id to a versioned vector with provenance to the file a recommender loads.

>>> import mmfeat
>>> report = mmfeat.extract("sample", store="features", preset="offline")  # doctest: +SKIP
>>> store = mmfeat.open("features")                                        # doctest: +SKIP
>>> store.lookup(["4", "11"], ["title_text"])["title_text"].matrix.shape    # doctest: +SKIP
(2, 384)
"""

# The function extract() shares its name with the subpackage. A subpackage becomes an attribute of its
# parent when it is first imported, so that must be over before the function takes the name.
import mmfeat.extract  # noqa: F401
from mmfeat.api import extract, import_vectors, make_job, open, run
from mmfeat.feature_store import FeatureStore
from mmfeat.schemas.errors import ItemError, MmfeatError
from mmfeat.schemas.featureset import FeatureColumn, FeatureSet
from mmfeat.schemas.job import JobConfig
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec
from mmfeat.status import FeatureStatus

__version__ = "0.1.0"

__all__ = [
    "FeatureColumn",
    "FeatureConfig",
    "FeatureSet",
    "FeatureSpec",
    "FeatureStatus",
    "FeatureStore",
    "ItemError",
    "JobConfig",
    "MmfeatError",
    "__version__",
    "extract",
    "import_vectors",
    "make_job",
    "open",
    "run",
]

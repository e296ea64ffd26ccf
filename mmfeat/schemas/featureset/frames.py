"""The FeatureSet as a pandas or Polars data frame; both are optional packages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfeat.schemas.errors import MissingExtra
from mmfeat.schemas.featureset import FeatureSet
from mmfeat.schemas.featureset.arrow import to_arrow

if TYPE_CHECKING:
    import pandas
    import polars


def to_pandas(features: FeatureSet) -> pandas.DataFrame:
    """The columns of :func:`to_arrow`, indexed by ``item_id``; a vector is one NumPy array per cell.

    Token vectors are one array of such arrays.
    """
    try:
        import pandas  # noqa: F401 - pyarrow's own error would name no extra
    except ImportError:
        raise MissingExtra("A pandas data frame", "frames", "pandas") from None
    return to_arrow(features).to_pandas().set_index("item_id")


def to_polars(features: FeatureSet) -> polars.DataFrame:
    """The columns of :func:`to_arrow`; a vector feature has the type ``Array`` of its dims, and token
    vectors ``List`` of that.
    """
    try:
        import polars
    except ImportError:
        raise MissingExtra("A Polars data frame", "frames", "polars") from None
    frame = polars.from_arrow(to_arrow(features))
    assert isinstance(frame, polars.DataFrame), "a table, not a column"
    return frame

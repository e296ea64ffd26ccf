"""What shows an item that a report tells of: its title, and its picture or frames."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.report.captions import locations_of
from mmfeat.report.media import shown_of
from mmfeat.report.model import Shown
from mmfeat.schemas.catalog import columns_of
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import FeatureVersion, Store

_SHOWN = ("image", "video")


def titles_of(store: Store) -> dict[str, str]:
    """The title of every item, empty if it has none."""
    items = store.present()
    pairs = zip(items["item_id"].to_pylist(), items["title"].to_pylist(), strict=True)
    return {item_id: title or "" for item_id, title in pairs}


def shower(
    store: Store, version: FeatureVersion, asked: Collection[str] | None = None
) -> Callable[[str], Shown]:
    """A function that shows an item by its id: the picture or clip that its values were made of.

    Values of texts are shown by the first column of pictures, or else of clips, that any item has.

    Args:
        asked: ids of the items that it is called with; None for all.
    """
    items = store.present()
    if asked is not None:
        items = items.filter(pc.is_in(items["item_id"], value_set=pa.array(asked, pa.string())))
    columns, limits = columns_of(items.schema), MediaLimits().with_buckets(store.media_buckets())
    ids = items["item_id"].to_pylist()
    drawn = [name for kind in _SHOWN for name, column in columns.items() if column.modality == kind]
    for name in (*_columns_read(store, version.spec), *drawn):
        modality = columns[name].modality if name in columns else "none"
        places = dict(zip(ids, locations_of(items[name]), strict=True)) if modality in _SHOWN else {}
        if any(places.values()):
            return lambda item_id: shown_of(item_id, places.get(item_id), name, modality, limits)
    return lambda item_id: Shown(item_id=item_id, pictures=(), absent="The catalog has no pictures.")


def _columns_read(store: Store, spec: FeatureSpec) -> list[str]:
    """The columns that a feature was made of in the end."""
    names: list[str] = []
    for one in spec.inputs:
        if one.upstream is None:
            names.append(one.column)
            continue
        above = [v for v in store.versions(one.source) if v.fingerprint == one.upstream]
        names += _columns_read(store, above[0].spec) if above else []
    return names

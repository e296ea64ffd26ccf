"""The work of one run, as a planner found it: what to compute, what to copy, and what is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mmfeat.schemas.spec import FeatureSpec

_FEATURE = pa.field("feature", pa.int32())

# Rows whose outcome needs no model: something that is read is not there.
KNOWN_SCHEMA = pa.schema(
    [_FEATURE, *(pa.field(name, pa.string()) for name in ("item_id", "status", "stage", "reason", "stamp"))]
)

# Rows whose content was computed before under another item id, the origin.
COPIES_SCHEMA = pa.schema(
    [_FEATURE, *(pa.field(name, pa.string()) for name in ("item_id", "origin", "stamp"))]
)


@dataclass
class Plan:
    """The work of one run.

    Attributes:
        specs: the features in dependency order; "feature" below is an index into it.
        n_items: items in the catalog.
        work: one row per distinct content to compute, WORK_SCHEMA.
        own: ``[features, work]`` bool, what the work item's own item lacks.
        duplicates: further items with the content of a work item, DUPLICATES_SCHEMA, in their order.
        known, copies: rows that need no model, KNOWN_SCHEMA and COPIES_SCHEMA.
        touched: files whose stamp changed and whose content did not, STAMPS_SCHEMA.
        settled: per feature, how many items have nothing to do, by status.
        replaced: per feature, the ids of items whose committed row is out of date and will be replaced.
        valued: per feature, the ids of those among them whose committed row is ``ok``.
        outdated: per feature, how many rows a fix of a decoder touches, by rule number of a modality: they
            are replaced.
        replaced_texts: per feature, how many rows hold a text that is not stored any more: they are replaced.
        unread: per feature, how many rows lack pictures that could not be read: these are tried again.
        confirmed: per feature, the ids of items whose row such a fix does not touch: only what it says of
            the rules is out of date.
        deferred: per feature, the positions of items that wait for values which this plan computes: another
            plan, made when these are committed, has them.
        rows: per feature, how many are committed before this run.
    """

    specs: list[FeatureSpec]
    n_items: int
    work: pa.Table
    own: np.ndarray
    duplicates: pa.Table
    known: pa.Table
    copies: pa.Table
    touched: pa.Table
    settled: list[dict[str, int]]
    replaced: list[pa.StringArray]
    valued: list[pa.StringArray]
    outdated: list[int]
    replaced_texts: list[int]
    unread: list[int]
    confirmed: list[pa.StringArray]
    deferred: list[np.ndarray]
    rows: list[int]

    def up_to_date(self, feature: int) -> int:
        """Items with nothing to do for ``feature``."""
        return sum(self.settled[feature].values())

    def of_other_content(self, feature: int) -> int:
        """How many ``ok`` rows were made of other content than their items have now."""
        of_this = self.outdated[feature] + self.replaced_texts[feature] + self.unread[feature]
        return max(0, len(self.valued[feature]) - of_this)

    def planned(self, feature: int) -> int:
        """Rows of ``feature`` that this plan must commit."""
        return self.n_items - self.up_to_date(feature) - len(self.deferred[feature])

    def without_value(self, feature: int) -> int:
        """How many of these rows have no value, as is known already."""
        return int(np.count_nonzero(self.known["feature"].to_numpy() == feature))

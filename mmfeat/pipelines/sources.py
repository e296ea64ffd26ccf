"""What fitted features read of the store: rows of the features that are their inputs, put side by side by
item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import ABSENT, FAILED, MISSING, OK
from mmfeat.schemas.featureset.arrow import vector_array
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import FeatureVersion, Store, rows_schema

# Stands for the content of an input that an item may lack and lacks, as in the rows of all other features.
_LACKED = "0" * 64

# The stage of a row that failed though the item has all that it needs, and why it did.
OWN, NO_DIRECTION = "transform", "all numbers of its vector are 0, so it has no direction"


@dataclass(frozen=True)
class Sources:
    """The rows of a feature's inputs by item id, so that the catalog's order decides nothing.

    Attributes:
        versions: of the features that are read, in the order of the inputs.
        ids: of the items that are not gone, sorted; ``n`` of them.
        status: ``[n]`` of the inputs together: ``absent`` until each has a row of the item.
        contents: ``[n]`` what the vectors were made from: content hashes, and the rules by which they were
            read. culprit: ``[n]`` the input to which a status other than ``ok`` is due. ok: positions of
            the items that have all vectors that they need.
    """

    store: Store
    versions: tuple[FeatureVersion, ...]
    ids: list[str]
    status: np.ndarray
    contents: np.ndarray
    culprit: np.ndarray
    ok: np.ndarray

    @classmethod
    def of(cls, store: Store, spec: FeatureSpec) -> Sources:
        """Of the versions that ``spec`` names; UsageError where no item has all that it needs."""
        versions = tuple(store.resolve(f"{one.source}@{one.upstream}") for one in spec.inputs)
        ids = sorted(store.forgetting.without(store.present())["item_id"].to_pylist())
        found = [placed(store, version, ids) for version in versions]
        status, culprit = _together(spec, [status for status, _ in found])
        hashes, rules = zip(*(_contents(*one, _LACKED) for one in found), strict=True)
        contents = np.empty(len(ids), dtype=object)
        contents[:] = list(zip(_joined(hashes), _joined(rules), strict=True))
        ok = np.flatnonzero(status == OK)
        if not len(ok):
            names = " and ".join(version.version for version in versions)
            raise UsageError(f"No item has a vector in {names}.", hint="Extract it first.")
        return cls(store, versions, ids, status, contents, culprit, ok)

    def vectors(self, at: np.ndarray) -> tuple[np.ndarray, ...]:
        """Float ``[len(at), dims]`` per input of the items at these positions; NaN of what an item lacks."""
        ids = [self.ids[i] for i in at]
        found = self.store.lookup(ids, [version.version for version in self.versions])
        return tuple(found[version.name].matrix for version in self.versions)

    def rows(self, spec: FeatureSpec, at: np.ndarray, values: np.ndarray) -> pa.Table:
        """Rows of ``spec`` for the items at these positions, to be committed.

        Args:
            values: ``[len(at), dims]``; what stands where an item has none is left out. One that is all zeros
                has no direction: its row fails at the stage :data:`OWN`.
        """
        has_vectors, culprit = self.status[at] == OK, self.culprit[at]
        ok = has_vectors & values.any(axis=1)
        status = np.where(has_vectors & ~ok, FAILED, self.status[at])
        reasons = [
            NO_DIRECTION if there else f"{name} {what} for this item" if what == FAILED else ""
            for name, what, there in zip(culprit, status, has_vectors & ~ok, strict=True)
        ]
        filled = {
            "item_id": [self.ids[i] for i in at],
            "status": status.tolist(),
            "stage": [
                "" if made else OWN if there else "upstream"
                for made, there in zip(ok, has_vectors, strict=True)
            ],
            "reason": reasons,
            "content_hash": [content for content, _ in self.contents[at]],
            "rules": [rule for _, rule in self.contents[at]],
            "stamp": [""] * len(at),
            "created": [datetime.now(UTC)] * len(at),
        }
        return rows_of(spec, filled, values, ok)


def rows_of(
    spec: FeatureSpec, filled: dict[str, Sequence[object]], values: np.ndarray, ok: np.ndarray
) -> pa.Table:
    """Rows of a version with vectors or codes.

    Args:
        filled: the columns that are not null, but for the values'.
        values: ``[n, dims]``, of which those count where ``ok`` is true.
    """
    schema = rows_schema(spec)
    columns = {field.name: pa.nulls(len(ok), field.type) for field in schema}
    columns |= {name: pa.array(cells, schema.field(name).type) for name, cells in filled.items()}
    columns[spec.form] = vector_array(values, ok).cast(schema.field(spec.form).type)
    return pa.table(columns, schema=schema)


def placed(store: Store, version: FeatureVersion, ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """``[n]`` status, ``absent`` without a row, and ``[n]`` ``(content hash, rules)`` of each of ``ids``."""
    schema = rows_schema(version.spec)
    fields = [schema.field(name) for name in ("item_id", "status", "content_hash", "rules")]
    batches = store.ledger_batches(version, [field.name for field in fields])
    ledger = pa.Table.from_batches(batches, pa.schema(fields)).combine_chunks()
    at = pc.index_in(pa.array(ids, pa.string()), value_set=ledger["item_id"].combine_chunks())
    rows = ledger.take(at)
    contents = np.empty(len(ids), dtype=object)
    contents[:] = list(zip(rows["content_hash"].to_pylist(), rows["rules"].to_pylist(), strict=True))
    return np.array(pc.fill_null(rows["status"], ABSENT).to_pylist(), dtype=object), contents


def _together(spec: FeatureSpec, statuses: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The status of all inputs together, and the input that it is due to.

    What is still to come is waited for, even of what an item may lack; then a failure counts, and then that
    an item lacks what it needs.
    """
    n = len(statuses[0])
    status, culprit = np.full(n, OK, dtype=object), np.full(n, "", dtype=object)
    for wanted in (MISSING, FAILED, ABSENT):
        for one, own in zip(spec.inputs, statuses, strict=True):
            if wanted == MISSING and one.optional:
                continue
            status[own == wanted], culprit[own == wanted] = wanted, one.source
    return status, culprit


def _contents(status: np.ndarray, contents: np.ndarray, lacked: str) -> tuple[list[str], list[str | None]]:
    """Content hash and rules of an input by item."""
    there = (status != MISSING) & (status != ABSENT)
    hashes = [(one or "") if here else lacked for (one, _), here in zip(contents, there, strict=True)]
    return hashes, [rules for _, rules in contents]


def _joined(of_inputs: Sequence[Sequence[str | None]]) -> list[str | None]:
    """What the inputs have of each item as one text, in their order; None if none has any."""
    return [
        None if all(part is None for part in parts) else "+".join(part or "" for part in parts)
        for parts in zip(*of_inputs, strict=True)
    ]

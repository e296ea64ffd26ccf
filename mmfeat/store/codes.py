"""From codes back to items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc

from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import OK
from mmfeat.store.rows import matrix_of
from mmfeat.store.store import Store
from mmfeat.store.versions import FeatureVersion


def ids_of_code(store: Store, version: FeatureVersion, code: Sequence[int]) -> list[str]:
    """Ids, sorted, of the items that are not gone and whose codes begin with ``code``; see
    ``FeatureStore.ids_of_code``."""
    levels = version.spec.dims
    if version.spec.form != "codes" or levels is None:
        raise UsageError(
            f"{version.version} holds no codes.", hint="`mmfeat status` lists features of the kind 'codes'."
        )
    if not 0 < len(code) <= levels:
        raise UsageError(f"A code of {version.version} has 1 to {levels} numbers, not {len(code)}.")
    found: list[str] = []
    for batch in store.ledger_batches(version, ["item_id", "status", "codes"]):
        ok = batch.filter(pc.equal(batch["status"], OK))
        begins = (matrix_of(ok["codes"])[:, : len(code)] == np.array(code)).all(axis=1)
        found += ok["item_id"].filter(begins).to_pylist()
    return sorted(set(found).intersection(store.present_ids().to_pylist()))

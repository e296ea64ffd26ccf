"""How codes do by now: what they lose of vectors that came after the fit, and how they are used."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from mmfeat.extract.fitted.codes.quality import perplexity
from mmfeat.schemas.featureset import OK
from mmfeat.store import FeatureVersion, Store
from mmfeat.store.rows import matrix_of

# Codebooks that lose nothing would make any loss infinitely more.
_LEAST_ERROR = 1e-12


@dataclass(frozen=True)
class Drift:
    """How far items have moved away from what codebooks were fitted to.

    Attributes:
        items: how many have codes of a vector that came after the fit.
        error: mean squared error of these vectors, over that of the vectors of the fit: 1 is no drift. None
            where there are none, or where an earlier mmfeat kept no error of the fit.
        used: per level, the share of the codebook that some item has.
        perplexity: per level, how many codes would be in use if all were equally frequent.
    """

    items: int
    error: float | None
    used: list[float]
    perplexity: list[float]

    def __str__(self) -> str:
        used = ", ".join(f"{share:.1%}" for share in self.used)
        if not self.items:
            return f"no vector came since the fit; codes used by level: {used}"
        error = "unknown" if self.error is None else f"{self.error:.2f} x that at the fit"
        return (
            f"{self.items:,} vectors came since the fit, their error is {error}; codes used by level: {used}"
        )


def drift_of(store: Store, version: FeatureVersion) -> Drift:
    """The drift of a version of codes, over all rows that it has."""
    kept = store.codebooks(version.fingerprint)
    at_fit = None if kept is None else kept[1].get("error")
    later, codes = [], []
    for batch in store.ledger_batches(version, ["item_id", "status", "facts", "codes"]):
        ok = batch.filter(pc.equal(batch["status"], OK))
        if len(ok):
            codes.append(matrix_of(ok["codes"]))
        facts = (json.loads(told) for told in ok["facts"].to_pylist() if told)
        later += [fact["error"] for fact in facts if fact["since_fit"]]
    error = None if at_fit is None or not later else float(np.mean(later)) / max(at_fit, _LEAST_ERROR)
    quantization = version.spec.quantization
    assert quantization is not None, "codes have it"
    levels = list(np.concatenate(codes).T[: quantization.code_levels]) if codes else []
    return Drift(
        items=len(later),
        error=error,
        used=[len(np.unique(level)) / quantization.codebook_size for level in levels],
        perplexity=[perplexity(level) for level in levels],
    )

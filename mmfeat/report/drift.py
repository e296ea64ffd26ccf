"""How codes do by now: what they lose of vectors that came after the fit, and how they are used."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract.fitted.codes.quality import perplexity
from mmfeat.schemas.featureset import OK
from mmfeat.store import FeatureVersion, Place, Store
from mmfeat.store.rows import matrix_of

# A squared error below this, over that of the vectors' mean, is rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Drift:
    """How far items have moved away from what codebooks were fitted to.

    Attributes:
        items: how many have codes of a vector that came after the fit.
        error: mean squared error of these vectors, over that of the vectors of the fit: 1 is no drift. None
            if there are none, or where that of the fit is not known or next to nothing.
        used: per level, the share of the codebook that some item has.
        perplexity: per level, how many codes would be in use if all were equally frequent.
        exact: whether codes lose next to nothing of the vectors of the fit, so that any error is a huge
            multiple of it.
    """

    items: int
    error: float | None
    used: list[float]
    perplexity: list[float]
    exact: bool = False

    @property
    def unknown(self) -> str | None:
        """Why there is no error though vectors came since the fit; None if there is one, or none came."""
        if not self.items or self.error is not None:
            return None
        if self.exact:
            return "not measurable, since codes lose nothing of the vectors that they were fitted to"
        return "unknown, since an earlier mmfeat kept no error of the fit"

    def __str__(self) -> str:
        used = ", ".join(f"{share:.1%}" for share in self.used)
        if not self.items:
            return f"no vector came since the fit; codes used by level: {used}"
        error = self.unknown or f"{self.error:.2f} x that at the fit"
        return (
            f"{self.items:,} vectors came since the fit, their error is {error}; codes used by level: {used}"
        )


def drift_of(store: Store, version: FeatureVersion, place: Place | None = None) -> Drift:
    """The drift of a version of codes, over the rows of items that are not gone.

    Args:
        place: of the dataset whose items they are; of all datasets when None.
    """
    kept = store.codebooks(version.fingerprint)
    at_fit = None if kept is None else kept[1].get("error")
    # Not a number where all vectors are the same, of which nothing is lost either.
    exact = at_fit is not None and kept is not None and not kept[1]["relative_mse"] > _ROUNDING
    later, codes = _there(store, version, place)
    quantization = version.spec.quantization
    assert quantization is not None, "codes have it"
    levels = list(np.concatenate(codes).T[: quantization.code_levels]) if codes else []
    return Drift(
        items=len(later),
        error=None if at_fit is None or exact or not later else float(np.mean(later)) / at_fit,
        used=[len(np.unique(level)) / quantization.codebook_size for level in levels],
        perplexity=[perplexity(level) for level in levels],
        exact=exact,
    )


def _there(
    store: Store, version: FeatureVersion, place: Place | None
) -> tuple[list[float], list[np.ndarray]]:
    """Of the items that are not gone: errors of vectors that came since the fit, and ``[m, dims]`` codes."""
    present = set(store.present_ids(place).to_pylist())
    later, codes = [], []
    for batch in store.ledger_batches(version, ["item_id", "status", "facts", "codes"]):
        is_there = pa.array([item_id in present for item_id in batch["item_id"].to_pylist()], pa.bool_())
        ok = batch.filter(pc.and_(pc.equal(batch["status"], OK), is_there))
        if len(ok):
            codes.append(matrix_of(ok["codes"]))
        facts = (json.loads(told) for told in ok["facts"].to_pylist() if told)
        later += [fact["error"] for fact in facts if fact["since_fit"]]
    return later, codes

"""What codes and transforms do alike: which version is taken up again, how what was fitted is kept, and how a
run reports it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.pipelines.run_report import FeatureReport
from mmfeat.pipelines.sources import OWN, Sources, placed
from mmfeat.schemas.errors import MissingExtra
from mmfeat.schemas.featureset import ABSENT, FAILED, MISSING, OK
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import ROLLED_BACK, FeatureVersion, Store


@dataclass(frozen=True)
class Made:
    """What a recipe made before, and a run may go on with.

    Attributes:
        version: the current one; where another recipe made that, the newest.
        state: what was fitted, as a safetensors file's bytes; None if it went with forgotten items.
        facts: what was measured at the fit.
    """

    version: FeatureVersion
    state: bytes | None
    facts: dict[str, Any]

    @property
    def lost(self) -> str:
        """Why it is fitted anew though it was made before, for a person."""
        name, version = self.version.name, self.version.version
        return f"{name} is fitted anew: what {version} was made with went with forgotten items"


def made_before(store: Store, recipe: FeatureSpec, is_alike: Callable[[FeatureSpec], bool]) -> Made | None:
    """What a recipe made last; None if it made nothing yet.

    No other version is gone on with, even if what was fitted is there for it alone: items would get values
    back that were replaced or rolled back. One that was rolled back is, if the recipe made no other, so that
    the run says that it stays so.

    Args:
        is_alike: whether a version's spec comes of the recipe.
    """
    alike = [version for version in store.versions(recipe.name) if is_alike(version.spec)]
    if not alike:
        return None
    current, state_of = store.current().get(recipe.name), store.promotion.state_of
    last = max(alike, key=lambda v: (v.fingerprint == current, state_of(v) != ROLLED_BACK, v.created))
    return Made(last, *(store.codebooks(last.fingerprint) or (None, {})))


def saved(arrays: Mapping[str, np.ndarray]) -> bytes:
    """What was fitted, as a safetensors file's bytes."""
    state: bytes = safetensors().save({key: np.ascontiguousarray(array) for key, array in arrays.items()})
    return state


def keep(store: Store, recipe: FeatureSpec, state: bytes, facts: Mapping[str, Any]) -> FeatureVersion:
    """Record the version that what was fitted makes: its weights are named by their digest.

    Args:
        facts: what was measured at the fit; plain JSON types.
    """
    digest = f"sha256:{hashlib.sha256(state).hexdigest()}"
    spec = recipe.model_copy(update={"weights": recipe.weights.model_copy(update={"digest": digest})})
    # What was fitted first: a version that is recorded can always be applied.
    store.put_codebooks(spec.fingerprint, state, dict(facts))
    return store.add_version(spec)


def lacking(
    store: Store, version: FeatureVersion, sources: Sources, contents: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the items whose row is not there or whose vectors changed, and ``[n]`` the status that all
    items had.

    Args:
        contents: ``[n]`` what the vectors of each item were made from.
    """
    had_status, had_contents = placed(store, version, sources.ids)
    # What failed by itself fails again as long as its vectors are the same.
    had = np.where(failed_by_itself(store, version, sources.ids), OK, had_status)
    changed = (sources.status == OK) & (contents != had_contents)
    wanted = (sources.status != ABSENT) & ((sources.status != had) | changed)
    return np.flatnonzero(wanted), had_status


def failed_by_itself(store: Store, version: FeatureVersion, ids: list[str]) -> np.ndarray:
    """``[n]`` whether an item's row failed though the item had all vectors that it needs."""
    failures = store.failures(version) if store.counts(version) else None
    if failures is None:
        return np.zeros(len(ids), bool)
    own = failures.filter(pc.equal(failures["stage"], OWN))["item_id"].combine_chunks()
    return np.asarray(pc.is_in(pa.array(ids, pa.string()), value_set=own))


def feature_report(
    version: FeatureVersion,
    committed: Mapping[str, int],
    items: Mapping[str, int],
    seconds: float,
    fitted: dict[str, Any],
) -> FeatureReport:
    """As a run reports a fitted feature.

    Args:
        committed: rows that were written, by status.
        items: of the catalog, by status.
        fitted: see :attr:`FeatureReport.fitted`.
    """
    spec, done, there = version.spec, Counter(committed), Counter(items)
    return FeatureReport(
        version=version.version,
        source=spec.source,
        kind=spec.kind,
        dims=spec.dims,
        vectors=None,
        up_to_date=there.total() - there[ABSENT] - done.total(),
        ok=done[OK],
        missing=done[MISSING],
        failed=done[FAILED],
        seconds=round(seconds, 3),
        runtimes=[],
        reasons={},
        # What failed is an input's failure, and is judged there.
        failed_share=0.0,
        estimate=None,
        cost=None,
        fitted=fitted,
    )


def safetensors() -> Any:
    """The module ``safetensors.numpy``; MissingExtra where it is not installed."""
    try:
        import safetensors.numpy
    except ImportError:
        raise MissingExtra("Fitting codes or transforms", "quantize", "safetensors") from None
    return safetensors.numpy

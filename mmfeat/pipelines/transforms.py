"""Transforms of a store's vectors: fitted once, then applied to what comes later.

As with codes, a version's spec names the digest of what was fitted, and not the data: so new items get
vectors by the same arithmetic, and that of an item whose own vectors are the same does not change. What was
fitted is fitted anew where that is asked for, where an input has another version or settings are others,
and where it went with forgotten items.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmfeat.export.interactions import TRAIN, SplitRule, build, split, with_items
from mmfeat.extract.fitted.transforms.base import FitOptions, Transform, Vectors, in_blocks
from mmfeat.extract.registry import METHODS
from mmfeat.pipelines.fitting import (
    Made,
    failed_by_itself,
    feature_report,
    keep,
    lacking,
    made_before,
    safetensors,
    saved,
)
from mmfeat.pipelines.run_report import FeatureReport
from mmfeat.pipelines.sources import NO_DIRECTION, Sources
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import ABSENT, FAILED, OK
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import FeatureVersion, Store


@dataclass(frozen=True)
class TransformReport:
    """What came of one transform.

    Attributes:
        version: that is up to date now.
        sources: the versions that it reads.
        fitted: whether it was fitted; False if the store had it.
        committed: rows that were written, by status.
        items: of the catalog, by status; ``absent`` are those without a row in an input yet.
        pointless: of the items, those that failed since their vector has no direction.
        facts: what was measured when it was fitted.
    """

    version: FeatureVersion
    sources: tuple[str, ...]
    fitted: bool
    committed: dict[str, int]
    items: dict[str, int]
    pointless: int
    facts: dict[str, Any]
    seconds: float

    @property
    def told(self) -> list[str]:
        """What a person should know of it, in lines."""
        fitted = [f"{self.version.version} was fitted: {_in_words(self.facts)}"] if self.fitted else []
        if not self.pointless:
            return fitted
        return [*fitted, f"{self.version.version}: {self.pointless:,} items failed: {NO_DIRECTION}"]

    @property
    def feature(self) -> FeatureReport:
        """As a run reports it."""
        fitted = {"now": self.fitted, "source": " + ".join(self.sources), "quality": self.facts}
        return feature_report(self.version, self.committed, self.items, self.seconds, fitted)


def bring_transform_up_to_date(
    store: Store, recipe: FeatureSpec, *, refit: bool = False, say: Callable[[str], None] = lambda line: None
) -> TransformReport:
    """Fit a transform where that has not been done, and give every item that lacks its vector one.

    Args:
        store: open for writing.
        recipe: as the transform resolves it; the features that it reads are in the store.
        refit: fit it anew whatever there is.
        say: called with what a person should know.

    Raises:
        UsageError: no item has what it needs, or too few have it to be fitted to.
    """
    began = time.monotonic()
    sources = Sources.of(store, recipe)
    made = None if refit else made_before(store, recipe, lambda spec: _recipe_of(spec) == recipe.fingerprint)
    known = None if made is None else _known(made)
    transform, version = known or _fit(store, recipe, sources)
    # Where nothing is fitted, the same version comes out.
    if made is not None and known is None and version.fingerprint != made.version.fingerprint:
        say(made.lost)
    committed = _commit_lacking(store, version, transform, sources)
    own = failed_by_itself(store, version, sources.ids)
    return TransformReport(
        version=version,
        sources=tuple(one.version for one in sources.versions),
        fitted=known is None,
        committed=committed,
        items=dict(Counter(np.where(own, FAILED, sources.status).tolist())),
        pointless=int(own.sum()),
        facts=transform.facts,
        seconds=time.monotonic() - began,
    )


def _in_words(facts: Mapping[str, Any]) -> str:
    """What was measured, such as ``variance_kept 0.912, fitted_on 19,738``."""
    said = []
    for name, value in facts.items():
        if isinstance(value, dict):
            said.append(f"{name} of " + " and ".join(f"{part} {share:.4g}" for part, share in value.items()))
        elif value is not None:
            said.append(f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:.3f}")
    return ", ".join(said)


def check_fit(spec: FeatureSpec) -> None:
    """UsageError for a split that there is not."""
    said = spec.options.get("split")
    if said is not None:
        SplitRule.parse(said)


def _fit(store: Store, recipe: FeatureSpec, sources: Sources) -> tuple[Transform, FeatureVersion]:
    """Fit a transform, and record the version that it makes."""
    at = _fitted_on(store, recipe, sources)
    vectors = Vectors(len(at), _dims(sources), lambda some: sources.vectors(at[some]))
    transform = _class(recipe).fit(recipe, vectors)
    transform.facts["fitted_on"] = len(at)
    return transform, keep(store, recipe, saved(transform.state), transform.facts)


def _fitted_on(store: Store, recipe: FeatureSpec, sources: Sources) -> np.ndarray:
    """Positions of the items that may be looked at when it is fitted."""
    options = recipe.settings(FitOptions)
    if options.split is None:
        return sources.ok
    trained = _trained(store, SplitRule.parse(options.split), recipe.name)
    at = np.array([i for i in sources.ok if sources.ids[i] in trained], np.int64)
    if not len(at):
        raise UsageError(
            f"{recipe.name}: no item with a vector has an interaction for training by {options.split}.",
            hint='Choose another split, or fit_on = "all".',
        )
    return at


def _trained(store: Store, rule: SplitRule, name: str) -> set[str]:
    """The items with an interaction for training."""
    ids = store.present()["item_id"].to_pylist()
    table = store.interactions()
    table = None if table is None else with_items(store.forgetting.without(table), ids)
    if table is None or not len(table):
        raise UsageError(
            f'{name} is fitted on training items (fit_on = "train"), and the store has no interactions.',
            hint='Name a file of them ([dataset] interactions = "FILE"), or write fit_on = "all".',
        )
    interactions = split(build(table, ids), rule, seed=0)
    return {ids[i] for i in np.unique(interactions.items[interactions.labels == TRAIN])}


def _known(made: Made) -> tuple[Transform, FeatureVersion] | None:
    """What was fitted, if it is still there."""
    if made.state is None:
        return None
    version = made.version
    return _class(version.spec)(version.spec, safetensors().load(made.state), made.facts), version


def _recipe_of(spec: FeatureSpec) -> str:
    """The fingerprint of what a version was to be before it was fitted."""
    return spec.model_copy(update={"weights": spec.weights.model_copy(update={"digest": None})}).fingerprint


def _commit_lacking(
    store: Store, version: FeatureVersion, transform: Transform, sources: Sources
) -> dict[str, int]:
    """Commit the rows that are not there or whose vectors changed, by status, some at a time."""
    committed: Counter[str] = Counter()
    wanting, had_status = lacking(store, version, sources, sources.contents)
    for at in in_blocks(wanting, _dims(sources)):
        ok = sources.status[at] == OK
        values = np.zeros((len(at), version.spec.dims or 0), version.spec.store_dtype)
        if ok.any():
            values[ok] = transform.apply(sources.vectors(at[ok]))
        rows = sources.rows(version.spec, at, values)
        committed.update(rows["status"].to_pylist())
        store.commit(version, rows, replace=bool((had_status[at] != ABSENT).any()))
    if len(wanting):
        store.finish(version)
    return dict(committed)


def _dims(sources: Sources) -> int:
    return sum(version.spec.dims or 0 for version in sources.versions)


def _class(spec: FeatureSpec) -> type[Transform]:
    found = METHODS["transform"].get(spec.method)
    assert issubclass(found, Transform), f"{spec.method} is a transform"
    return found

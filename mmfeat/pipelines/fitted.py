"""Features that are fitted to another feature of the store, once, and then applied to what comes later.

A version's spec names the digest of what was fitted, and not the data: so a nightly job applies the same
codebooks to new items, and the codes of an item whose vector is the same do not change. They are fitted
anew where that is asked for, where the feature that is read has another version or settings are others, and
where what was fitted went with forgotten items.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from mmfeat.extract.fitted.codes import Quality, Quantizer, Residual, errors, measure
from mmfeat.extract.fitted.codes.parallel import fit_quantizer, load_quantizer
from mmfeat.extract.fitted.vectors import joined
from mmfeat.extract.registry import METHODS
from mmfeat.pipelines.codes import (
    Former,
    Kept,
    called_as_before,
    facts,
    lacks_popularity,
    learnt_from,
    numbered,
    numbering_order,
    told_apart,
    with_last_as_before,
)
from mmfeat.pipelines.fitting import feature_report, keep, lacking, made_before, safetensors, saved
from mmfeat.pipelines.run_report import FeatureReport
from mmfeat.pipelines.sources import Sources, placed, rows_of
from mmfeat.report.drift import Drift, drift_of
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import ABSENT, FAILED, OK
from mmfeat.schemas.spec import FeatureSpec, Quantization
from mmfeat.store import FeatureVersion, Store

# Vectors that are read and given codes at a time.
_BLOCK_ROWS = 65_536


@dataclass(frozen=True)
class FittedReport:
    """What came of one fitted feature.

    Attributes:
        codes: the version that is up to date now.
        sources: the versions that it was fitted to.
        fitted: whether something was fitted; False if the store had it.
        committed: rows that were written, by status.
        items: of the catalog, by status; ``absent`` are those without a row in the source yet.
        quality: what the codes lost, how evenly they were used and how often they collided (before the
            collision level), of the items that they were fitted to.
        drift: how far the items have moved away from these.
        kept: how many whole codes stayed, where it was fitted anew; None if not.
    """

    codes: FeatureVersion
    sources: tuple[FeatureVersion, ...]
    fitted: bool
    committed: dict[str, int]
    items: dict[str, int]
    quality: Quality
    drift: Drift
    kept: Kept | None
    seconds: float

    @property
    def version(self) -> FeatureVersion:
        """The version that is up to date now."""
        return self.codes

    @property
    def told(self) -> list[str]:
        """What a person should know of it, in lines."""
        kept = [] if self.kept is None else [f"{self.codes.version} was fitted anew: {self.kept}"]
        return [*kept, f"{self.codes.version}: {self.drift}"]

    @property
    def feature(self) -> FeatureReport:
        """As a run reports it."""
        fitted = {
            "now": self.fitted,
            "source": " + ".join(source.version for source in self.sources),
            "quality": asdict(self.quality),
            "drift": asdict(self.drift),
            "kept": None if self.kept is None else asdict(self.kept),
        }
        return feature_report(self.codes, self.committed, self.items, self.seconds, fitted)


def bring_up_to_date(
    store: Store, recipe: FeatureSpec, *, refit: bool = False, say: Callable[[str], None] = lambda line: None
) -> FittedReport:
    """Fit a feature where that has not been done, and give every item that lacks its values them.

    Args:
        store: open for writing.
        recipe: as the quantizer resolves it; the feature that it reads is in the store.
        refit: fit it anew whatever there is.
        say: called with what a person should know.

    Raises:
        UsageError: no item has a vector, or there are too few for the codebook; the name is that of
            another kind of feature; items are to be numbered by interactions, and there are none.
    """
    began = time.monotonic()
    _refuse_taken_name(store, recipe.name)
    rows = _Rows.of(store, recipe)
    known = None if refit else _known(store, recipe, say)
    _check_popularity(store, recipe, say, is_fit=known is None)
    former, learnt = None, None
    if known is None:
        at = _sample(recipe, rows.ok)
        learnt = {rows.ids[i] for i in at}
        former = Former.of(store, recipe, rows.ids)
        state, quality = _fit(recipe, rows.vectors(at), None if former is None else former.at(at))
        version = keep(store, recipe, state, _facts_of(quality))
    else:
        state, quality = known.state, known.quality
        version = keep(store, recipe, state, _facts_of(quality)) if known.is_other_version else known.version
    committed = _commit_lacking(store, version, rows, state, learnt)
    if quality is None:
        quality = _of_stored(store, version, rows, state)
        store.put_codebooks(version.fingerprint, state, _facts_of(quality))
    return FittedReport(
        codes=version,
        sources=rows.sources.versions,
        fitted=known is None,
        committed=committed,
        items=dict(Counter(rows.status.tolist())),
        quality=quality,
        drift=drift_of(store, version),
        kept=None if former is None else former.kept(store, version, rows.ids),
        seconds=time.monotonic() - began,
    )


@dataclass(frozen=True)
class _Rows:
    """The sources' rows by item id.

    Attributes:
        contents: ``[n]`` what a vector was made from: content hash, and the rules by which it was read.
    """

    sources: Sources
    recipe: FeatureSpec
    contents: np.ndarray

    @classmethod
    def of(cls, store: Store, recipe: FeatureSpec) -> _Rows:
        sources = Sources.of(store, recipe)
        if len(sources.versions) > 1:
            return cls(sources, recipe, sources.contents)
        # Of one source they are its own, which may be null: so they are in rows of earlier versions.
        return cls(sources, recipe, placed(store, sources.versions[0], sources.ids)[1])

    @property
    def ids(self) -> list[str]:
        """Of the items that are not gone, sorted; ``n`` of them."""
        return self.sources.ids

    @property
    def status(self) -> np.ndarray:
        """``[n]`` as a lookup gives it, of the sources together."""
        return self.sources.status

    @property
    def ok(self) -> np.ndarray:
        """Positions of the items that have every vector."""
        return self.sources.ok

    def vectors(self, at: np.ndarray) -> np.ndarray:
        """float ``[len(at), dims]`` of the items at these positions, all of which have one."""
        parts, q = self.sources.vectors(at), _quantization(self.recipe)
        if q.mode == "concat":
            return joined(parts, q.weights)
        return np.hstack(parts) if len(parts) > 1 else parts[0]


@dataclass(frozen=True)
class _Known:
    """What an earlier version was made with.

    Attributes:
        quality: None if its first rows were never committed, and tell it.
        is_other_version: whether the version is of the first format, which names its data: its codebooks
            are taken over by a version that names them.
    """

    version: FeatureVersion
    state: bytes
    quality: Quality | None
    is_other_version: bool


def _known(store: Store, recipe: FeatureSpec, say: Callable[[str], None]) -> _Known | None:
    """What was fitted by the same recipe, if a run may go on with it."""
    made = made_before(store, recipe, lambda spec: _same_recipe(spec, recipe))
    if made is None:
        return None
    if made.state is None:
        say(made.lost)
        return None
    is_other_version = _quantization(made.version.spec).data_digest is not None
    quality = Quality(**made.facts) if made.facts else None
    return _Known(made.version, made.state, quality, is_other_version)


def _same_recipe(spec: FeatureSpec, recipe: FeatureSpec) -> bool:
    return spec.form == recipe.form and _recipe(spec) == _recipe(recipe)


def _recipe(spec: FeatureSpec) -> dict[str, Any]:
    """What was asked for, but for the data.

    The version of the method is no part of it: it says by which rule codebooks were fitted, and those that
    are there are applied alike whatever it was. A newer rule gives other codes where somebody asks for a fit.
    """
    quantization = spec.quantization
    body = spec.model_dump(mode="json", include={"inputs", "output", "method"})
    return {**body, "quantization": quantization and quantization.model_copy(update={"data_digest": None})}


def _refuse_taken_name(store: Store, name: str) -> None:
    if others := [v for v in store.versions(name) if v.spec.form != "codes"]:
        raise UsageError(
            f"{name!r} is the name of a {others[0].spec.kind} feature.", hint="Choose another name."
        )


def _check_popularity(store: Store, recipe: FeatureSpec, say: Callable[[str], None], *, is_fit: bool) -> None:
    """Numbers are given out once: an order that is not known at the fit is refused, and told of later."""
    if not lacks_popularity(store, _quantization(recipe)):
        return
    what = f'{recipe.name} has collisions = "popularity", and the store has no interactions'
    if is_fit:
        raise UsageError(
            f"{what}.",
            hint="Add the dataset's interactions ([dataset.interactions]), or leave collisions out, so that "
            "items are numbered by id.",
        )
    say(f"{what} any more: new items are numbered by id")


def _sample(recipe: FeatureSpec, ok: np.ndarray) -> np.ndarray:
    """Positions of the items that are fitted to: all, or as many as the recipe says, in the same order."""
    q = _quantization(recipe)
    if q.fit_sample is None or q.fit_sample >= len(ok):
        return ok
    drawn: np.ndarray = np.random.default_rng(q.seed).choice(ok, q.fit_sample, replace=False)
    return np.sort(drawn)


def _fit(recipe: FeatureSpec, vectors: np.ndarray, former: Former | None) -> tuple[bytes, Quality | None]:
    """Fit a quantizer: its state as a safetensors file's bytes, and how good it is; None if stored codes tell
    that, since items get others than the nearest.

    Args:
        former: the codes that the items of the vectors have so far.
    """
    fresh = fit_quantizer(_quantizer(recipe), _quantization(recipe), vectors)
    quantizer, codes = called_as_before(fresh, vectors, former)
    is_told_apart = _quantization(recipe).sinkhorn_epsilon is not None
    return saved(quantizer.state()), None if is_told_apart else measure(quantizer, vectors, codes)


def _of_stored(store: Store, version: FeatureVersion, rows: _Rows, state: bytes) -> Quality:
    """How good codes are as they are stored, of the items that were fitted to."""
    at = _sample(version.spec, rows.ok)
    quantizer = load_quantizer(
        _quantizer(version.spec), _quantization(version.spec), safetensors().load(state)
    )
    column = store.lookup([rows.ids[i] for i in at], [version.version])[version.name]
    return measure(quantizer, rows.vectors(at), column.matrix[:, : quantizer.levels])


def _facts_of(quality: Quality | None) -> dict[str, Any]:
    return {} if quality is None else asdict(quality)


def _commit_lacking(
    store: Store, version: FeatureVersion, rows: _Rows, state: bytes, learnt: set[str] | None
) -> dict[str, int]:
    """Commit, in one transaction, the rows that are not there or whose vector changed, by status.

    Args:
        learnt: the items that the codebooks were fitted to, where that was just now.
    """
    at, had_status = lacking(store, version, rows.sources, rows.contents)
    if not len(at):
        return {}
    ok = rows.status[at] == OK
    given = _codes(store, version, rows, at[ok], state)
    told = _facts(store, version, [rows.ids[i] for i in at], ok, given, learnt)
    table = _table(version.spec, rows, at, given.codes, told)
    store.commit(version, table, replace=bool((had_status[at] != ABSENT).any()))
    store.finish(version)
    return dict(Counter(rows.status[at].tolist()))


@dataclass(frozen=True)
class _Given:
    """What items get.

    Attributes:
        codes: int32 ``[n, dims]``.
        error: ``[n]`` what each loses.
        nearest: ``[n]`` nearest codes of the last level, where that level tells items apart; else None.
    """

    codes: np.ndarray
    error: np.ndarray
    nearest: Sequence[int | None]


def _codes(store: Store, version: FeatureVersion, rows: _Rows, at: np.ndarray, state: bytes) -> _Given:
    """The codes of the items at these positions."""
    q = _quantization(version.spec)
    nearest: list[int | None] = [None] * len(at)
    if not len(at):
        return _Given(np.zeros((0, version.spec.dims or 0), np.int32), np.zeros(0), nearest)
    quantizer = load_quantizer(_quantizer(version.spec), q, safetensors().load(state))
    codes, error = np.zeros((len(at), quantizer.levels), np.int32), np.zeros(len(at))
    for start in range(0, len(at), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        vectors = rows.vectors(at[part])
        codes[part] = quantizer.encode(vectors)
        error[part] = errors(quantizer, vectors, codes[part])
    ids = [rows.ids[i] for i in at]
    if q.sinkhorn_epsilon is not None:
        assert isinstance(quantizer, Residual), "others have no such option"
        first, nearest = codes, codes[:, -1].tolist()
        codes, stays = with_last_as_before(store, version, ids, codes)
        codes = told_apart(store, version, ids, codes, stays, quantizer, lambda some: rows.vectors(at[some]))
        moved = np.flatnonzero((codes != first).any(axis=1))
        for start in range(0, len(moved), _BLOCK_ROWS):
            some = moved[start : start + _BLOCK_ROWS]
            error[some] = errors(quantizer, rows.vectors(at[some]), codes[some])
    if q.collision_level:
        codes = numbered(store, version, ids, codes, numbering_order(store, q, ids))
    return _Given(codes, error, nearest)


def _facts(
    store: Store,
    version: FeatureVersion,
    ids: list[str],
    ok: np.ndarray,
    given: _Given,
    learnt: set[str] | None,
) -> list[str]:
    """What rows tell beside codes: see :func:`mmfeat.pipelines.codes.facts`."""
    known = learnt_from(store, version)
    # Codebooks whose rows were never committed may have learnt from any item there is.
    is_first = learnt is not None or not store.counts(version)
    of_codes = iter(zip(given.error.tolist(), given.nearest, strict=True))
    told = []
    for item_id, has_codes in zip(ids, ok.tolist(), strict=True):
        now = is_first if learnt is None else item_id in learnt
        error, nearest = next(of_codes) if has_codes else (None, None)
        loss = None if error is None else float(f"{error:.6g}")
        told.append(facts(now or known.get(item_id, False), not is_first, loss, nearest))
    return told


def _table(spec: FeatureSpec, rows: _Rows, at: np.ndarray, codes: np.ndarray, told: list[str]) -> pa.Table:
    """The rows at these positions; ``codes`` are of those that are ok."""
    status, culprit = rows.status[at], rows.sources.culprit[at]
    ok = status == OK
    values = np.zeros((len(at), spec.dims or 0), np.int32)
    values[ok] = codes
    filled: dict[str, Sequence[object]] = {
        "item_id": [rows.ids[i] for i in at],
        "status": status.tolist(),
        "stage": ["" if there else "upstream" for there in ok],
        "reason": [
            f"{name} {what} for this item" if what == FAILED else ""
            for name, what in zip(culprit, status, strict=True)
        ],
        "content_hash": [content for content, _ in rows.contents[at]],
        "rules": [rule for _, rule in rows.contents[at]],
        "stamp": [""] * len(at),
        "facts": told,
        "created": [datetime.now(UTC)] * len(at),
    }
    return rows_of(spec, filled, values, ok)


def _quantization(spec: FeatureSpec) -> Quantization:
    quantization = spec.quantization
    assert quantization is not None, "a codes feature has it"
    return quantization


def _quantizer(spec: FeatureSpec) -> type[Quantizer]:
    found = METHODS["quantizer"].get(spec.method)
    assert issubclass(found, Quantizer), f"{spec.method} is a quantizer"
    return found

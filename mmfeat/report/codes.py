"""How good semantic ids are: what they lose, how they are used, and what stands at their branches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version as package_version

import numpy as np

from mmfeat.extract.fitted.codes.quality import group_sizes
from mmfeat.report.drift import Drift, drift_of
from mmfeat.report.model import (
    Branch,
    CodeCollisions,
    CodeDrift,
    CodeLevel,
    CodesReport,
    CodesSubject,
    Leaf,
)
from mmfeat.report.pictures import Progress
from mmfeat.report.shown import shower, titles_of
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import ABSENT, FAILED, MISSING, OK
from mmfeat.store import FeatureVersion, Store, why_stale

# Branches of the first level, and of the second below each; items of each of these.
_FIRST, _SECOND, _ITEMS = 6, 2, 4


def report_codes(store: Store, feature: str | None, seed: int, progress: Progress) -> CodesReport:
    """Measure the codes of a store.

    Args:
        feature: ``name`` or ``name@fingerprint``; the store's only codes when None.
        seed: of the example items.
        progress: told what was done, how many times, of how many.

    Raises:
        UsageError: it holds no codes, or those of several features.
    """
    version = store.resolve(feature) if feature else _the_codes(store)
    quantization = version.spec.quantization
    if quantization is None:
        raise UsageError(
            f"{version.version} holds no codes.", hint="`mmfeat status` lists features of the kind 'codes'."
        )
    ids = store.present_ids().to_pylist()
    column = store.lookup(ids, [version.version], unknown="mask")[version.name]
    there = np.flatnonzero(column.mask)
    codes = column.matrix[there]
    levels = quantization.code_levels
    drift, kept = drift_of(store, version), store.codebooks(version.fingerprint)
    at_fit = None if kept is None else kept[1] or None
    statuses = Counter(column.status.tolist())
    return CodesReport(
        subject=_subject(store, version, seed),
        ok=statuses[OK],
        missing=statuses[MISSING],
        failed=statuses[FAILED],
        absent=statuses[ABSENT],
        relative_mse=_fact(at_fit, "relative_mse"),
        cosine=_fact(at_fit, "cosine"),
        levels=tuple(_level(k, drift, at_fit) for k in range(len(drift.used))),
        collisions=_collisions(codes[:, :levels]),
        drift=CodeDrift(items=drift.items, error=drift.error),
        branches=_branches(store, version, [ids[at] for at in there], codes, seed, progress),
    )


def _the_codes(store: Store) -> FeatureVersion:
    current = [store.resolve(name) for name in sorted(store.current())]
    codes = [version for version in current if version.spec.form == "codes"]
    if len(codes) != 1:
        names = ", ".join(version.name for version in codes)
        raise UsageError(
            f"{store.uri} holds {len(codes) or 'no'} features of codes.",
            hint=f"Say which by --feature: {names}." if names else "Make some with `mmfeat quantize`.",
        )
    return codes[0]


def _subject(store: Store, version: FeatureVersion, seed: int) -> CodesSubject:
    spec = version.spec
    return CodesSubject(
        store=store.uri,
        version=version.version,
        source=spec.source,
        method=spec.method,
        model=spec.model,
        collision_level=spec.quantization is not None and spec.quantization.collision_level,
        spec=spec.model_dump(mode="json", exclude_none=True),
        created=version.created,
        reported=datetime.now(UTC),
        seed=seed,
        mmfeat=package_version("mmfeat"),
        stale=why_stale(version, store.versions(), store.current()),
    )


def _fact(at_fit: dict[str, float] | None, name: str) -> float | None:
    """A figure of the fit; None if its codebooks went with a forgotten item, or it is no number."""
    value = None if at_fit is None else at_fit.get(name)
    return None if value is None or not np.isfinite(value) else float(value)


def _level(k: int, drift: Drift, at_fit: dict[str, list[float]] | None) -> CodeLevel:
    return CodeLevel(
        level=k + 1,
        used=drift.used[k],
        perplexity=drift.perplexity[k],
        used_at_fit=None if at_fit is None else at_fit["used"][k],
        perplexity_at_fit=None if at_fit is None else at_fit["perplexity"][k],
    )


def _collisions(codes: np.ndarray) -> CodeCollisions:
    if not len(codes):
        return CodeCollisions(rate=0.0, largest=0, sizes={})
    _, sizes = np.unique(codes, axis=0, return_counts=True)
    shared = group_sizes(codes)
    counted = dict(sorted(Counter(sizes.tolist()).items()))
    return CodeCollisions(rate=float((shared > 1).mean()), largest=int(sizes.max()), sizes=counted)


def _branches(
    store: Store,
    version: FeatureVersion,
    ids: Sequence[str],
    codes: np.ndarray,
    seed: int,
    progress: Progress,
) -> tuple[Branch, ...]:
    """The branches that most items are on, and under them items drawn at random."""
    rng = np.random.default_rng(seed)
    chosen: list[tuple[tuple[int, ...], int, list[int]]] = []
    for first in _largest(codes[:, :1], _FIRST):
        on = np.flatnonzero(codes[:, 0] == first[0])
        if codes.shape[1] == 1:
            chosen.append((first, len(on), _drawn(on, rng)))
            continue
        for second in _largest(codes[on][:, :2], _SECOND):
            below = on[codes[on, 1] == second[1]]
            chosen.append((second, len(below), _drawn(below, rng)))
    show, titles = shower(store, version), titles_of(store)
    wanted, done = sum(len(some) for *_, some in chosen), 0
    branches: list[Branch] = []
    for code, items, some in chosen:
        leaves = []
        for at in some:
            item_id = ids[at]
            found = {"title": titles.get(item_id, ""), "code": codes[at].tolist(), "shown": show(item_id)}
            leaves.append(Leaf.model_validate({"item_id": item_id, **found}))
            done += 1
            progress("pictures of the tree", done, wanted)
        branches.append(Branch(code=code, items=items, share=items / len(ids), leaves=tuple(leaves)))
    return tuple(branches)


def _largest(codes: np.ndarray, most: int) -> list[tuple[int, ...]]:
    """The codes that the most rows have, the first such ones where equally many do."""
    found, counts = np.unique(codes, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return [tuple(row) for row in found[order].tolist()]


def _drawn(positions: np.ndarray, rng: np.random.Generator) -> list[int]:
    drawn: list[int] = sorted(rng.permutation(positions)[:_ITEMS].tolist())
    return drawn

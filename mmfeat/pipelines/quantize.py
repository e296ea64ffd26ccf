"""``mmfeat quantize``: one fitted feature of a store, without a job's file."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from mmfeat.extract.fitted.codes import Quality
from mmfeat.extract.registry import resolve_one
from mmfeat.pipelines.codes import Kept
from mmfeat.pipelines.fitted import bring_up_to_date
from mmfeat.pipelines.record import recorded
from mmfeat.pipelines.steps.promote import make_current
from mmfeat.report.drift import Drift
from mmfeat.schemas.featureset import ABSENT, FAILED, MISSING, OK
from mmfeat.schemas.job import parse_features
from mmfeat.schemas.notebook import ShortRepr
from mmfeat.schemas.validation import listed
from mmfeat.store import Store, why_stale


@dataclass(frozen=True, repr=False)
class QuantizeReport(ShortRepr):
    """What :func:`quantize` found and did.

    Attributes:
        version: ``name@fingerprint`` of the codes.
        source: ``name@fingerprint`` of the vectors; of several features with plus signs between them.
        levels: codes per item, without the collision level.
        fitted: whether a quantizer was fitted; False if the store had it.
        committed: rows that this call wrote; 0 if all were there.
        ok, missing, failed: items of the catalog by status.
        absent: items without a row in the source yet: they get codes once they have one.
        quality: what the codes lose, how evenly they are used, how often they collide (before the
            collision level), of the items that they were fitted to.
        drift: how far the items have moved away from these.
        kept: how many codes stayed, where they were fitted anew and items had codes.
        notices: what else a person should know.
    """

    run_id: str
    store: str
    version: str
    source: str
    method: str
    levels: int
    codebook_size: int
    seed: int
    collision_level: bool
    fitted: bool
    committed: int
    ok: int
    missing: int
    failed: int
    absent: int
    quality: Quality
    drift: Drift
    kept: Kept | None
    seconds: float
    notices: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def quantize(
    store: Store | str,
    feature: str | Sequence[str],
    *,
    name: str | None = None,
    method: str = "residual_kmeans",
    refit: bool = False,
    **options: Any,
) -> QuantizeReport:
    """Turn a vector feature, or several, into codes, a feature of its own. Safe to start again at any moment.

    The codebooks are fitted once; called again, it gives codes to items that are new or whose vectors
    changed, by the same codebooks. The codes become current, unless they were rolled back.

    Args:
        feature: ``name`` or ``name@fingerprint``; several are made into codes together, as ``mode`` says.
        name: of the codes; ``FEATURE_codes`` when None, with the names of several between underscores.
        method: ``residual_kmeans``, ``balanced_kmeans``, ``rqvae``, ``pq`` or ``opq``.
        refit: fit new codebooks, which makes a new version.
        options: the quantizer's: ``levels``, ``codebook_size``, ``seed``, ``collision_level``,
            ``collisions``, ``sinkhorn_epsilon``, ``fit_sample``; of several features also
            ``mode`` and ``weights``.

    Raises:
        ConfigError: an unknown method or option.
        UsageError: the feature holds no vectors, or too few for the codebook; a name that is taken by
            another kind of feature.
    """
    opened = store if isinstance(store, Store) else Store.open(store)
    run_id, began = uuid.uuid4().hex[:12], datetime.now(UTC)
    asked = [feature] if isinstance(feature, str) else listed(feature, "feature")
    with opened.lease(owner=f"quantize {' '.join(asked)} {run_id}"):
        sources = [opened.resolve(one) for one in asked]
        names = [source.name for source in sources]
        chosen = name or f"{'_'.join(names)}_codes"
        table = {"inputs": names, "quantizer": method, **options}
        config = parse_features({chosen: table}, "quantize")[chosen]
        recipe = resolve_one(chosen, config, {source.name: source.spec for source in sources})
        what = {
            "dataset": opened.dataset() or {},
            "versions": [recipe.name],
            "specs": [recipe.model_dump(mode="json", exclude_none=True)],
        }
        notices: list[str] = []
        with recorded(opened, "quantize", run_id, began, what) as recording:
            done = bring_up_to_date(opened, recipe, refit=refit, say=notices.append)
            notices += make_current(opened, [done.codes])[1]
            if why := why_stale(done.codes, opened.versions(), opened.current()):
                notices.append(f"{done.codes.version} is stale: {why}")
            quantization = done.codes.spec.quantization
            assert quantization is not None, "codes have it"
            report = QuantizeReport(
                run_id=run_id,
                store=opened.uri,
                version=done.codes.version,
                source=" + ".join(source.version for source in sources),
                method=method,
                levels=quantization.code_levels,
                codebook_size=quantization.codebook_size,
                seed=quantization.seed,
                collision_level=quantization.collision_level,
                fitted=done.fitted,
                committed=sum(done.committed.values()),
                ok=done.items.get(OK, 0),
                missing=done.items.get(MISSING, 0),
                failed=done.items.get(FAILED, 0),
                absent=done.items.get(ABSENT, 0),
                quality=done.quality,
                drift=done.drift,
                kept=done.kept,
                seconds=(datetime.now(UTC) - began).total_seconds(),
                notices=tuple(notices),
            )
            recording.report = report.to_dict()
    return report

"""What a store holds of one feature version, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from mmfeat.schemas.featureset import FAILED, MISSING, OK

if TYPE_CHECKING:
    from mmfeat.store import FeatureVersion


@dataclass(frozen=True)
class FeatureStatus:
    """One feature version in a store.

    Attributes:
        version: ``name@fingerprint``.
        current: whether the name alone means this version.
        state: ``current`` (made so), ``candidate`` (the newest, never made current), ``previous``
            (what a rollback goes to), ``rolled back``, or ``old``.
        source: what is read, for people.
        kind: ``vector``, ``vectors`` (a fixed number per item), ``tokens`` (any number per item), ``codes``,
            or what a text is: ``caption`` (by a multimodal LLM), ``tags``, ``transcript``, ...
        dims: length of a vector, or number of codes; None for texts.
        vectors: how many vectors an item has, where a feature holds several; None otherwise.
        ok, missing, failed: items by status; ``absent``: catalog items without a row. Those that left
            their dataset are not among them.
        gone: rows of items that did.
        problem: why the rows cannot be read, and so not counted; empty if they can.
        stale: which features it reads in another version than the current one; empty if none.
    """

    version: str
    current: bool
    state: str
    source: str
    kind: str
    dims: int | None
    vectors: int | None
    model: str
    created: datetime
    ok: int
    missing: int
    failed: int
    absent: int
    gone: int = 0
    problem: str = ""
    stale: str = ""


def status_of(
    version: FeatureVersion,
    counts: Mapping[str, int],
    gone: Mapping[str, int],
    problem: str,
    current: Mapping[str, str],
    state: str,
    n_items: int,
    stale: str,
) -> FeatureStatus:
    """The status of a version, of which ``counts`` rows are in the store by status.

    Args:
        gone: those of them that are of items that left their dataset.
        problem: why its rows cannot be counted; empty if they can.
        current: name to the fingerprint that it means.
        n_items: in the catalog, without those that are gone.
        stale: see :attr:`FeatureStatus.stale`.
    """
    spec = version.spec
    ok, missing, failed = (counts.get(s, 0) - gone.get(s, 0) for s in (OK, MISSING, FAILED))
    return FeatureStatus(
        version=version.version,
        current=current.get(version.name) == version.fingerprint,
        state=state,
        source=spec.source,
        kind=spec.kind,
        dims=spec.dims,
        vectors=spec.vectors,
        model=spec.model,
        created=version.created,
        ok=ok,
        missing=missing,
        failed=failed,
        absent=0 if problem else max(0, n_items - ok - missing - failed),
        gone=sum(gone.values()),
        problem=problem,
        stale=stale,
    )

"""What a run says that it did."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from mmfeat.pipelines.execution.cost import Cost
from mmfeat.pipelines.execution.needs import Needs
from mmfeat.schemas.notebook import ShortRepr
from mmfeat.schemas.operations import GateResult


@dataclass(frozen=True)
class FeatureReport:
    """What one run did for one feature.

    Attributes:
        version: ``name@fingerprint``; the name alone of a feature that was to be fitted and was not yet.
        source: what it reads.
        kind: ``vector``, ``vectors`` (several per item), ``tokens``, ``codes``, or a text's role.
        dims: of a vector feature; vectors: how many an item has, where it has several.
        up_to_date: items that had nothing to do.
        ok, missing, failed: rows that this run committed.
        seconds: that the model worked, summed over all processes; decoding and start-up not counted.
        runtimes: what computed the rows, with versions: ``torch 2.14.1``, ``openvino 2026.4.1``.
        reasons: ``stage: reason`` of failed rows to how many, commonest first.
        failed_share: of all the dataset's items that have the source, committed now or before,
            the share whose row is ``failed``.
        estimate: what all of this run's captions were to take, by the first of them; None if too few
            were made to say.
        cost: what they took; None for what no language model wrote.
        needs: of a run that only estimates, what all that is lacking would take; None of any other.
        marks: values that this run committed and that are marked, as a ``refusal``, a ``loop``, for a
            ``lost picture`` or as ``silence``: how many.
        changed: how the model's values differ from those of earlier runs, where that was accepted.
        fitted: of a feature that is fitted to another one, what came of that; None of others.
    """

    version: str
    source: str
    kind: str
    dims: int | None
    vectors: int | None
    up_to_date: int
    ok: int
    missing: int
    failed: int
    seconds: float
    runtimes: list[str]
    reasons: dict[str, int]
    failed_share: float
    estimate: Cost | None
    cost: Cost | None
    marks: dict[str, int] = field(default_factory=dict)
    changed: dict[str, Any] | None = None
    fitted: dict[str, Any] | None = None
    needs: Needs | None = None


@dataclass(frozen=True, repr=False)
class RunReport(ShortRepr):
    """What a run did.

    Attributes:
        forgotten: items of the dataset that are left out because they were forgotten.
        left: items that left the dataset since the run before.
        gone: items of the store that no dataset has any more, these among them.
        computed: contents that went through a model.
        copied: rows whose content was known from another item.
        start_seconds: until the models' first results, start-up included; None if nothing ran.
        rows_per_second: results per second after every worker's first ones; None if there were no more.
        seconds: of the whole run.
        gates: what came of ``[gates]``.
        promoted: versions that this run made current.
        removed: versions and snapshots that ``[keep]`` did not keep.
        notices: what else a person should know, such as a webhook that could not be told.
        further: by step, what steps without a field of their own report.
    """

    run_id: str
    store: str
    dataset: str
    items: int
    forgotten: int
    left: int
    gone: int
    computed: int
    copied: int
    start_seconds: float | None
    rows_per_second: float | None
    seconds: float
    features: list[FeatureReport]
    gates: list[GateResult] = field(default_factory=list)
    promoted: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    further: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

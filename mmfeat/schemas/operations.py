"""What a job says of its end: when its versions become current, who is told, and what is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from mmfeat.schemas.frozen import Frozen

Event = Literal["success", "failure", "gate"]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _from_base(path: str | None, info: ValidationInfo) -> str | None:
    """A path of a job's file starts from the file's folder."""
    base = (info.context or {}).get("base")
    return path if path is None or base is None else str(base / Path(path).expanduser())


class EvidenceGates(Frozen):
    """``[gates.FEATURE]``: what the interactions must say of a feature, by ``mmfeat evaluate``.

    What was not tested (too few users, or too few hits), and what the same rows at other items give by chance
    as well, falls short.

    Attributes:
        min_probe_auc: least AUC of the probe: the lower end of the interval over users. Codes have none.
        min_lift_over_shuffled: least ``ndcg@50`` of the profiles, in times that of the same rows at other
            items: the lower end of the interval over users.
        min_recall_at_50: least recall of held-out co-interactions among an item's 50 nearest: the lower end
            of the interval over query items. It takes more items than 50 over this: of fewer a random order
            has as much.
        max_drop_against_current: largest share of the current version's value that may be lost, by any of
            these protocols: the upper end of the loss's interval over users.
    """

    min_probe_auc: float | None = Field(default=None, ge=0, le=1)
    min_lift_over_shuffled: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    min_recall_at_50: float | None = Field(default=None, ge=0, le=1)
    max_drop_against_current: float | None = Field(default=None, ge=0, le=1)


class GatesConfig(Frozen):
    """``[gates]``: what must hold before the job's versions become current, all of them together.

    Attributes:
        min_coverage: least share of the items that have the source and whose row is ``ok``.
        captions: a ``gates.toml`` of the caption report, for every caption of the job.
        min_mean_cosine: least mean cosine between an item's vector and its vector in the current version.
            Only vectors of one model can be compared so.
        min_neighbour_overlap: least mean share of an item's 10 nearest neighbours that are the same in
            the current version. Vectors of any model can be compared so.
        max_marked: largest share of a feature's texts that are marked as a refusal, a loop or a phantom.
        max_changed: largest share of items whose text or codes are not those of the current version.
        max_drift: of codes, the largest error of vectors that came after the fit, over that of the fit. Only
            of a job that makes codes.
        evidence: by feature, what the interactions must say of it; a table of its own in a job's file.
    """

    min_coverage: float | None = Field(default=None, ge=0, le=1)
    captions: Annotated[str | None, AfterValidator(_from_base)] = None
    min_mean_cosine: float | None = Field(default=None, ge=-1, le=1)
    min_neighbour_overlap: float | None = Field(default=None, ge=0, le=1)
    max_marked: float | None = Field(default=None, ge=0, le=1)
    max_changed: float | None = Field(default=None, ge=0, le=1)
    max_drift: float | None = Field(default=None, gt=0)
    evidence: dict[str, EvidenceGates] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _read_features(cls, data: Any) -> Any:
        """A table within the table is of the feature that it is named for."""
        if not isinstance(data, dict):
            return data
        own = {key: value for key, value in data.items() if not isinstance(value, dict) or key == "evidence"}
        features = {key: value for key, value in data.items() if key not in own}
        return {**own, "evidence": {**own.get("evidence", {}), **features}} if features else own


class NotifyConfig(Frozen):
    """``[notify]``: who is told how a run ended.

    Attributes:
        on: after a ``success``, a ``failure``, or a ``gate`` that fell short.
        webhook_env: environment variable with the address that a JSON message is posted to; such
            addresses hold secrets, and a job's file is no place for one.
        command: program and arguments that get the message on standard input. No shell reads it.
        timeout_seconds: for the webhook and for the command, each.
    """

    on: tuple[Event, ...] = ("success", "failure", "gate")
    webhook_env: str | None = None
    command: tuple[str, ...] | None = Field(default=None, min_length=1)
    timeout_seconds: float = Field(default=10, gt=0, le=300)

    @field_validator("webhook_env")
    @classmethod
    def _names_a_variable(cls, name: str | None) -> str | None:
        if name is not None and not _VARIABLE.fullmatch(name):
            # Not repeated: it may be the address itself.
            raise ValueError("must be the name of an environment variable that holds the address")
        return name

    @model_validator(mode="after")
    def _tells_somebody(self) -> NotifyConfig:
        if self.webhook_env is None and self.command is None:
            raise ValueError("needs webhook_env or command")
        return self


class KeepConfig(Frozen):
    """``[keep]``: what a run that made its versions current removes of the store.

    Attributes:
        versions: of each feature, the current version and the newest others up to so many stay.
        snapshots: the newest so many stay; all when None.
        older_than_days: whatever was made less long ago stays too.
    """

    versions: int = Field(ge=1)
    snapshots: int | None = Field(default=None, ge=0)
    older_than_days: float = Field(default=0, ge=0, le=36_500)


@dataclass(frozen=True)
class GateResult:
    """One gate of one version.

    Attributes:
        gate: its name in ``[gates]``, or ``captions.NAME`` for one of the caption report.
        version: ``name@fingerprint``.
        value: None if it could not be measured; ``detail`` says why, and the gate fell short.
        detail: further words, for people.
    """

    gate: str
    version: str
    threshold: float
    value: float | None
    passed: bool
    detail: str = ""

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.version}: {self.gate}: {self.detail}"
        bound = "at most" if self.gate.rpartition(".")[2].startswith("max_") else "at least"
        return f"{self.version}: {self.gate} is {self.value:.4g}, not {bound} {self.threshold:g}"

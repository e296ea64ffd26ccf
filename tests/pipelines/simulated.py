"""Plans carried out on ledgers in memory: the real stages decode and encode, and dicts take the rows.

The methods are plug-ins of arithmetic, so that every value, text and failure can be foretold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from plans import LEDGER, LIMITS, by_rules_of_now, rows_of

from mmfeat.extract.base import Ask, Caption, Captioner, Encoder, Placement, Reads
from mmfeat.pipelines.execution.stages import Decode, Encode
from mmfeat.pipelines.planning.contents import Contents
from mmfeat.pipelines.planning.plan import Plan
from mmfeat.pipelines.planning.planner import Planner
from mmfeat.schemas.catalog import STAMPS_SCHEMA
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.media import Frames
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureSpec, ModelCard

PLUGIN = {
    "mmfeat.encoders": {"m": "simulated:SimulatedEncoder"},
    "mmfeat.captioners": {"m": "simulated:SimulatedCaptioner"},
}
_ANY = (Reads(("text", "image", "video", "audio"), together=True),)

Rows = dict[str, dict[str, Any]]


def outcome(spec: FeatureSpec, values: Sequence[Any]) -> str | ItemError:
    """What a feature gives of its inputs: one of a few texts, one of them blank, or an error."""
    said = hashlib.sha256(spec.name.encode())
    for value in values:
        said.update(b"|" + _bytes(value))
    number = said.digest()[0] % 8
    if number > 5:
        return ItemError("encode", "it cannot be done")
    return " " if number == 5 else f"text {number % 2}"


def _bytes(value: Any) -> bytes:
    if isinstance(value, Frames):
        return value.pixels.tobytes()
    if isinstance(value, Sound):
        return value.samples.tobytes()
    return repr(value).encode()


class _Simulated:
    reads = _ANY
    example = ModelCard(method="m", model="m", reads=(), licence="Apache-2.0", weights_from="nowhere")

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        self.spec = spec

    @classmethod
    def resolve(cls, ask: Ask[Any]) -> FeatureSpec:
        raise NotImplementedError("the specs are made by hand")

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        return cls.example

    def run(self, rows: Sequence[tuple[Any, ...]]) -> list[Any]:
        found = [outcome(self.spec, values) for values in rows]
        return [one if isinstance(one, ItemError) else self.of(one) for one in found]


class SimulatedEncoder(_Simulated, Encoder):
    """The length and the last character of its text."""

    def of(self, text: str) -> np.ndarray:
        return np.array([len(text), ord(text[-1])], np.float32)


class SimulatedCaptioner(_Simulated, Captioner):
    """Its text."""

    def of(self, text: str) -> Caption:
        return Caption(text, "stop")

    def caption(self, rows: Sequence[tuple[Any, ...]]) -> list[Caption | ItemError]:
        return self.run(rows)


class Ledgers:
    """What is committed for some features, by name, and the stamps of files that were only touched."""

    def __init__(self) -> None:
        self.rows: dict[str, Rows] = {}
        self.stamps: dict[tuple[str, str], dict[str, str]] = {}

    def plan(self, items: pa.Table, specs: Sequence[FeatureSpec], **options: Any) -> Plan:
        """The plan over what is committed."""
        ledgers = [rows_of(by_rules_of_now(self._table(spec), spec)) for spec in specs]
        memo = pa.Table.from_pylist(list(self.stamps.values()), STAMPS_SCHEMA)
        return Planner(Contents(items), specs, ledgers, memo, limits=LIMITS, **options).plan()

    def carry_out(
        self, plan: Plan, computed: Callable[[FeatureSpec, str], None] = lambda spec, content: None
    ) -> None:
        """Compute and commit a plan.

        Args:
            computed: called with each content that a feature was computed of.
        """
        before = {name: dict(rows) for name, rows in self.rows.items()}
        for row in plan.touched.to_pylist():
            self.stamps[row["item_id"], row["source"]] = row
        for row in plan.known.to_pylist():
            self._commit(plan.specs[row["feature"]], row, content_hash=None, text=None)
        for row in plan.copies.to_pylist():
            spec = plan.specs[row["feature"]]
            origin = before[spec.name][row["origin"]]
            self._commit(spec, {**origin, "item_id": row["item_id"], "stamp": row["stamp"]})
        if not len(plan.work):
            return
        numbers = sorted({n for features in plan.work["features"].to_pylist() for n in features})
        decoded = Decode(plan.specs, LIMITS)(plan.work)
        results = Encode(plan.specs, numbers, last=True)(decoded).to_pylist()
        takers = _takers(plan)
        ids = plan.work["item_id"].to_pylist()
        for result in results:
            number, work = result["feature"], result["work"]
            spec = plan.specs[number]
            computed(spec, result["content_hash"])
            text = result["value"].decode() if spec.form == "text" and result["value"] else None
            row = {**result, "text": text}
            if plan.own[number, work]:
                self._commit(spec, {**row, "item_id": ids[work]})
            for item_id, stamp in takers.get((work, number), ()):
                self._commit(spec, {**row, "item_id": item_id, "stamp": stamp})

    def _commit(self, spec: FeatureSpec, row: dict[str, Any], **more: Any) -> None:
        row = {name: {**row, **more}.get(name) for name in LEDGER.names}
        self.rows.setdefault(spec.name, {})[row["item_id"]] = row

    def _table(self, spec: FeatureSpec) -> pa.Table:
        return pa.Table.from_pylist(list(self.rows.get(spec.name, {}).values()), LEDGER)


def _takers(plan: Plan) -> dict[tuple[int, int], list[tuple[str, str]]]:
    """Of each work item and feature, the items that get its value too, with their stamps."""
    found: dict[tuple[int, int], list[tuple[str, str]]] = {}
    for row in plan.duplicates.to_pylist():
        for number in row["features"]:
            found.setdefault((row["work"], number), []).append((row["item_id"], row["stamp"]))
    return found

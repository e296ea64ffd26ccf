"""A batch of units on its way through the stages: its cells by row, and the results it collects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from mmfeat.extract.base import Caption, Usage
from mmfeat.extract.failures import as_item_error
from mmfeat.extract.media.decode import Rendering
from mmfeat.pipelines.planning.contents import joint_hash
from mmfeat.schemas.catalog import MEDIA_SOURCES
from mmfeat.schemas.errors import ConservationError, ItemError, NotAsked
from mmfeat.schemas.featureset import FAILED, MISSING, OK
from mmfeat.schemas.media import Frames, Scene
from mmfeat.schemas.spec import FeatureSpec, text_hash

RESULTS_SCHEMA = pa.schema(
    [
        pa.field("unit", pa.int64()),
        pa.field("feature", pa.int32()),
        pa.field("status", pa.string()),
        pa.field("stage", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("content_hash", pa.string()),
        pa.field("stamp", pa.string()),
        pa.field("value", pa.large_binary()),  # vector or vectors in the store's dtype, or UTF-8 text
        pa.field("facts", pa.string()),
        pa.field("seconds", pa.float64()),  # of the model: the row's share of its batch
        pa.field("runtime", pa.string()),  # what computed it
        pa.field("note", pa.string()),  # what a person should know of how the model was loaded
        # Of a captioner. What was sent to a server is known of a batch, and is in the batch's first row.
        pa.field("requests", pa.int64()),
        pa.field("prompt_tokens", pa.int64()),
        pa.field("new_tokens", pa.int64()),
    ]
)

#: Status of a result that is none: the run stops before it, for the reason in ``stage`` (the error's
#: class), ``reason`` and ``facts`` (its hint). No row is written for it.
NOT_ASKED = "not asked"


def renderings(specs: Sequence[FeatureSpec]) -> list[Rendering]:
    """The distinct renderings that ``specs`` want, in a fixed order: the columns of pixels."""
    return list(dict.fromkeys(Rendering.of(spec) for spec in specs if spec.source in MEDIA_SOURCES))


@dataclass(frozen=True)
class Value:
    """What one feature holds for one unit after its model ran, or why it does not."""

    status: str
    value: bytes | None = None
    content_hash: str | None = None
    stage: str = ""
    reason: str = ""
    facts: str | None = None
    seconds: float = 0.0
    runtime: str | None = None
    note: str | None = None
    requests: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0


class Batch:
    """Access to one batch's cells by row position."""

    def __init__(self, table: pa.Table, kinds: Sequence[Rendering]) -> None:
        self.table = table.combine_chunks()
        self.kinds = list(kinds)
        self.features = [frozenset(f) for f in table["features"].to_pylist()]
        self.sources = table["source"].to_pylist()
        self.hashes = table["content_hash"].to_pylist()
        self.stages = table["stage"].to_pylist()
        self.reasons = table["reason"].to_pylist()
        self.results: dict[int, dict[int, Value]] = _carried_results(table)

    def wants(self, row: int, number: int) -> bool:
        """Whether a row is to have a feature."""
        return number in self.features[row]

    def wanting(self, number: int) -> list[int]:
        """The rows that are to have a feature."""
        return [row for row in range(len(self.features)) if self.wants(row, number)]

    def content_hash(self, row: int, spec: FeatureSpec) -> str | None:
        """Of what a feature reads of one row; None where its media could not be read."""
        content: str | None = self.hashes[row]
        if content is None or not spec.texts:
            return content
        return joint_hash(content, *map(text_hash, self.texts(row, spec).values()))

    def texts(self, row: int, spec: FeatureSpec) -> dict[str, str]:
        """The item's texts that a feature reads beside its source."""
        return {name: self.table["texts"][row][name].as_py() for name in spec.texts}

    def payload(self, row: int) -> str:
        """Where a row's media are, or its text."""
        text: str = self.table["payload"][row].as_py()
        return text

    def frames(self, row: int, kind: Rendering) -> Frames:
        """The decoded pixels of one row, without a copy; ItemError where decoding failed."""
        if self.stages[row] is not None:
            raise ItemError(self.stages[row], self.reasons[row])
        k = self.kinds.index(kind)
        cell = self.table[f"pixels{k}"][row].as_buffer()
        shape = self.table[f"shape{k}"][row].as_py()
        times = tuple(self.table[f"times{k}"][row].as_py())
        scenes = tuple(Scene(**scene) for scene in self.table[f"scenes{k}"][row].as_py())
        return Frames(np.frombuffer(cell, dtype=np.uint8).reshape(shape), times, scenes)

    def text(self, row: int, upstream: int) -> str:
        """The text that an upstream feature produced in this run."""
        value = self.results[upstream][row]
        if value.status == MISSING:
            raise NothingUpstream
        if value.status == NOT_ASKED:
            raise NotReached(value)
        if value.value is None:
            raise ItemError("upstream", f"{value.stage}: {value.reason}")
        return value.value.decode()

    def carried(self, numbers: Sequence[int]) -> pa.Table:
        """The batch with the new results as columns for the stages that follow."""
        columns = {}
        for number in numbers:
            rows = [self.results[number].get(row) for row in range(len(self.features))]
            columns[f"result{number}"] = pa.array(
                [None if v is None else vars(v) for v in rows], _RESULT_STRUCT
            )
        return with_columns(self.table, columns)

    def flattened(self, n_features: int) -> pa.Table:
        """RESULTS_SCHEMA: a row per (unit, wanted feature); an error if one was never computed."""
        units = self.table["unit"].to_pylist()
        stamps = self.table["stamp"].to_pylist()
        rows = []
        for number in range(n_features):
            done = self.results.get(number, {})
            for row in self.wanting(number):
                if row not in done:
                    raise ConservationError(f"unit {units[row]} passed every stage without feature {number}")
                value = done[row]
                rows.append({"unit": units[row], "feature": number, "stamp": stamps[row], **vars(value)})
        return pa.Table.from_pylist(rows, schema=RESULTS_SCHEMA)


_RESULT_STRUCT = pa.struct([RESULTS_SCHEMA.field(name) for name in Value.__annotations__])


class NothingUpstream(Exception):
    """The upstream feature is missing for this item, so this one is too."""


class NotReached(Exception):
    """The run stops before the upstream feature, and so before this one."""

    def __init__(self, value: Value) -> None:
        super().__init__()
        self.value = replace(value, seconds=0.0, **asdict(Usage()))


def encoded(spec: FeatureSpec, output: Any, content_hash: str | None) -> Value:
    """A model's output as it is stored, refused where it is not a value."""
    stage = "encode" if spec.output == "vector" else "caption"
    try:
        if isinstance(output, Exception):
            raise output
        if spec.output == "text":
            facts = json.dumps(output.facts())
            return Value(OK, _text(output), content_hash, facts=facts, **asdict(output.usage))
        return Value(OK, _vector(spec, output), content_hash)
    except NotAsked as stop:
        return Value(NOT_ASKED, stage=type(stop.why).__name__, reason=stop.why.message, facts=stop.why.hint)
    except Exception as error:
        failure = as_item_error(error, stage)
        return Value(FAILED, content_hash=content_hash, stage=failure.stage, reason=failure.reason)


def _text(output: Caption) -> bytes:
    if not output.text:
        raise ItemError("caption", "the model gave no text")
    return output.text.encode()


def _vector(spec: FeatureSpec, output: Any) -> bytes:
    values = np.asarray(output)
    if values.shape != spec.shape:
        raise ItemError("encode", f"the model gave {values.shape} instead of {spec.shape}")
    if values.dtype.kind not in "fiu":
        raise ItemError("encode", f"the model gave {values.dtype.name} values instead of numbers")
    with np.errstate(over="ignore"):
        stored = values.astype(spec.store_dtype)
    if not np.isfinite(values).all():
        raise ItemError("encode", "the model gave NaN or infinity")
    if not np.isfinite(stored).all():
        raise ItemError("encode", f"the model gave values too large for {spec.store_dtype}")
    return stored.tobytes()


def _carried_results(table: pa.Table) -> dict[int, dict[int, Value]]:
    results = {}
    for name in table.column_names:
        if name.startswith("result"):
            cells = table[name].to_pylist()
            results[int(name[len("result") :])] = {
                row: Value(**cell) for row, cell in enumerate(cells) if cell is not None
            }
    return results


def with_columns(table: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    """A table with columns added, or put in the place of those of their name."""
    for name, column in columns.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, column)
        else:
            table = table.append_column(name, column)
    return table

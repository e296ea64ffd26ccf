"""A batch of work items on its way through the stages: its cells by row, and the results it collects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from mmfeat.extract import modalities
from mmfeat.extract.base import Row, Text, Usage
from mmfeat.extract.failures import as_item_error
from mmfeat.extract.fence.decode import Wanted
from mmfeat.pipelines.execution.several import pictures_of
from mmfeat.pipelines.planning.columns import UPSTREAM
from mmfeat.pipelines.planning.contents import BETWEEN_STAMPS, joint_hash
from mmfeat.pipelines.planning.groups import media_columns_of
from mmfeat.pipelines.planning.hashes import ABSENT
from mmfeat.pipelines.planning.several import lost_reason
from mmfeat.pipelines.planning.work import PAYLOAD
from mmfeat.report.marks import marks_of, marks_of_speech
from mmfeat.schemas.errors import ConservationError, ItemError, NotAsked
from mmfeat.schemas.featureset import FAILED, MISSING, OK
from mmfeat.schemas.inputs import Input
from mmfeat.schemas.int8 import packed
from mmfeat.schemas.media import Frames, Pictures
from mmfeat.schemas.sound import SILENCE, Sound
from mmfeat.schemas.spans import Spans, written
from mmfeat.schemas.spec import FeatureSpec, text_hash
from mmfeat.schemas.templates import plain

RESULTS_SCHEMA = pa.schema(
    [
        pa.field("work", pa.int64()),
        pa.field("feature", pa.int32()),
        pa.field("status", pa.string()),
        pa.field("stage", pa.string()),
        pa.field("reason", pa.string()),  # why it failed, or what an ok text is marked by
        pa.field("content_hash", pa.string()),
        pa.field("stamp", pa.string()),
        pa.field("value", pa.large_binary()),  # numbers in the store's dtype, or UTF-8 text
        pa.field("facts", pa.string()),
        pa.field("seconds", pa.float64()),  # of the model: the row's share of its batch
        pa.field("decode_seconds", pa.float64()),  # the row's share of what reading and decoding took
        pa.field("runtime", pa.string()),  # what computed it
        pa.field("note", pa.string()),  # what a person should know of how the model was loaded
        pa.field("canary", pa.string()),  # of the model that this process loaded, if none was known
        # Of a captioner. What was sent to a server is known of a batch, and is in the batch's first row.
        pa.field("requests", pa.int64()),
        pa.field("prompt_tokens", pa.int64()),
        pa.field("new_tokens", pa.int64()),
    ]
)

#: Status of a result that is none: the run stops before it, for the reason in ``stage`` (the error's
#: class), ``reason`` and ``facts`` (its hint). No row is written for it.
NOT_ASKED = "not asked"

# Of texts by their role; all others are captioned.
_STAGES = {"transcript": "transcribe", "ocr": "ocr"}

#: Columns that decoding adds per media column: what was read, why it was not, and how long that took.
HASH, STAMP_READ, STAGE, REASON, SECONDS = "hash.", "read.", "stage.", "reason.", "seconds."
#: And per way that a file is wanted, by its number: the decoded array, and a JSON object that has its shape.
DATA, FACTS = "data", "facts"


@dataclass(frozen=True)
class Decoding:
    """One way in which a media column, or the first files of its lists, is wanted."""

    key: str
    wanted: Wanted

    @classmethod
    def of(cls, read: Input) -> Decoding:
        """What an input wants."""
        return cls(read.key, Wanted.of(read))


def decodings(specs: Sequence[FeatureSpec]) -> list[Decoding]:
    """The distinct decodings that ``specs`` want, in a fixed order: the columns of decoded values."""
    return list(dict.fromkeys(Decoding.of(one) for spec in specs for one in media_inputs(spec)))


def media_inputs(spec: FeatureSpec) -> list[Input]:
    """The inputs of a feature that are read from files."""
    return [one for one in spec.inputs if _is_media(one)]


def _is_media(read: Input) -> bool:
    return read.upstream is None and modalities.is_media(read.modality)


@dataclass(frozen=True)
class Value:
    """What one feature holds for one work item after its model ran, or why it does not."""

    status: str
    value: bytes | None = None
    content_hash: str | None = None
    stage: str = ""
    reason: str = ""
    facts: str | None = None
    seconds: float = 0.0
    runtime: str | None = None
    note: str | None = None
    canary: str | None = None
    requests: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0


class Batch:
    """Access to one batch's cells by row position."""

    def __init__(self, table: pa.Table, specs: Sequence[FeatureSpec]) -> None:
        self.table = table.combine_chunks()
        self.specs = list(specs)
        self.by_name = {spec.name: number for number, spec in enumerate(self.specs)}
        self.decodings = decodings(specs)
        self.features = [frozenset(f) for f in table["features"].to_pylist()]
        self.results: dict[int, dict[int, Value]] = _carried_results(table)
        #: Outputs that came out of another feature's pass: fingerprint to row to output.
        self.beside: dict[str, dict[int, Any]] = {}
        # Small columns are read again and again: each is turned into Python objects once.
        self._cells: dict[str, list[Any]] = {}

    def wants(self, row: int, number: int) -> bool:
        """Whether a row is to have a feature."""
        return number in self.features[row]

    def wanting(self, number: int) -> list[int]:
        """The rows that are to have a feature."""
        return [row for row in range(len(self.features)) if self.wants(row, number)]

    def inputs(self, row: int, spec: FeatureSpec) -> tuple[Row, str | None]:
        """What a feature reads of one row, and the hash of that content.

        A text that is lacking comes before a failure, and a failure before a file that turns out to have no
        such thing: so the next plan, which looks into no file, comes to the same.

        Raises:
            ItemError: something that is read failed.
            NotThere: something that is read is missing, and the item must have it.
            NotReached: the run stops before something that is read.
        """
        values: list[Any] = []
        failures: list[ItemError] = []
        for one in spec.inputs:
            try:
                values.append(self._input(row, one))
            except ItemError as error:
                failures.append(error)
                values.append(error)
        lacking = [
            one for one, value in zip(spec.inputs, values, strict=True) if value is None and not one.optional
        ]
        if any(not _is_media(one) for one in lacking) or (lacking and not failures):
            raise NotThere(self.content_hash(row, spec))
        if failures:
            raise failures[0]
        if spec.needs_any and not any(values):
            raise NotThere(None)
        if spec.composed is not None:
            values = [spec.composed.filled(values)]
        return tuple(values), self.content_hash(row, spec)

    def content_hash(self, row: int, spec: FeatureSpec) -> str | None:
        """Of what a feature reads of one row, in the order of its inputs; None if some is not there."""
        parts = [self._hash(row, one) for one in spec.inputs]
        known = [part for part in parts if part is not None]
        return joint_hash(*known) if len(known) == len(parts) else None

    def stamp(self, row: int, spec: FeatureSpec) -> str:
        """Of the files that a feature reads together."""
        stamps = [self._cell(STAMP_READ + column, row) or "" for column in media_columns_of(spec)]
        return BETWEEN_STAMPS.join(stamps)

    def decode_seconds(self, row: int, spec: FeatureSpec) -> float:
        """What reading and decoding took of one row's files, shared out among the features that read them."""
        total = 0.0
        for column in media_columns_of(spec):
            readers = sum(column in media_columns_of(self.specs[number]) for number in self.features[row])
            total += (self._cell(SECONDS + column, row) or 0.0) / readers
        return total

    def text(self, row: int, upstream: int) -> str | None:
        """The text that an upstream feature produced in this run; None if it is missing."""
        value = self.results[upstream][row]
        if value.status == NOT_ASKED:
            raise NotReached(value)
        if value.status == FAILED:
            raise ItemError(UPSTREAM, f"{value.stage}: {value.reason}")
        return None if value.value is None else value.value.decode()

    def carried(self, numbers: Sequence[int]) -> pa.Table:
        """The batch with the new results as columns for the stages that follow."""
        columns = {}
        for number in numbers:
            rows = [self.results[number].get(row) for row in range(len(self.features))]
            columns[f"result{number}"] = pa.array(
                [None if v is None else vars(v) for v in rows], _RESULT_STRUCT
            )
        return with_columns(self.table, columns)

    def flattened(self) -> pa.Table:
        """RESULTS_SCHEMA: a row per (work item, wanted feature); an error if one was never computed."""
        work = self.table["work"].to_pylist()
        rows = []
        for number, spec in enumerate(self.specs):
            done = self.results.get(number, {})
            for row in self.wanting(number):
                if row not in done:
                    raise ConservationError(
                        f"work item {work[row]} passed every stage without feature {number}"
                    )
                rows.append(
                    {
                        "work": work[row],
                        "feature": number,
                        "stamp": self.stamp(row, spec),
                        "decode_seconds": self.decode_seconds(row, spec),
                        **vars(done[row]),
                    }
                )
        return pa.Table.from_pylist(rows, schema=RESULTS_SCHEMA)

    def _input(self, row: int, read: Input) -> Any:
        """One value; None if the item lacks it."""
        if _is_media(read):
            return self._decoded(row, read)
        number = self.by_name.get(read.source)
        if number is not None and self.wants(row, number):
            try:
                text = self.text(row, number)
            except ItemError:
                if read.optional:
                    return None
                raise
        else:
            text = self._cell(PAYLOAD + read.key, row)
        # A text of blanks says nothing that a prompt could use, and a feature's says that there is nothing.
        if text is None or ((read.named or read.upstream) and not text.strip()):
            return None
        return text if read.named else plain(text)

    def _decoded(self, row: int, read: Input) -> Any:
        """A file's value, its array without a copy; ItemError where it failed."""
        if self._cell(PAYLOAD + read.key, row) is None:
            return None
        stage = self._cell(STAGE + read.key, row)
        if stage is not None:
            raise ItemError(stage, self._cell(REASON + read.key, row))
        k = self.decodings.index(Decoding.of(read))
        facts = self._cell(f"{FACTS}{k}", row)
        if facts is None:
            return None
        found = json.loads(facts)
        if "failure" in found:
            raise ItemError(*found["failure"])
        cell = self.table[f"{DATA}{k}"][row].as_buffer()
        if "several" in found:
            return pictures_of(found["several"], cell)
        data = np.frombuffer(cell, np.dtype(found.pop("dtype"))).reshape(found.pop("shape"))
        return modalities.media(read.modality).unpack(modalities.Packed(found, data))

    def _hash(self, row: int, read: Input) -> str | None:
        """The content hash of one input; of what an item may lack and lacks, zeros."""
        if _is_media(read):
            if read.optional and self._cell(PAYLOAD + read.key, row) is None:
                return ABSENT
            hashed: str | None = self._cell(HASH + read.key, row)
            return hashed
        number = self.by_name.get(read.source)
        if number is not None and self.wants(row, number):
            value = self.results[number][row].value
            text = None if value is None else value.decode()
        else:
            text = self._cell(PAYLOAD + read.key, row)
        if text is None:
            return ABSENT if read.optional else None
        return text_hash(text)

    def _cell(self, name: str, row: int) -> Any:
        if name not in self._cells:
            there = name in self.table.column_names
            self._cells[name] = self.table[name].to_pylist() if there else [None] * len(self.features)
        return self._cells[name][row]


_RESULT_STRUCT = pa.struct([RESULTS_SCHEMA.field(name) for name in Value.__annotations__])


class NotThere(Exception):
    """Something that a feature must have is missing for this item, so the feature is too.

    Attributes:
        content_hash: of what is there; None if the item has no such thing at all.
    """

    def __init__(self, content_hash: str | None) -> None:
        super().__init__()
        self.content_hash = content_hash


class NotReached(Exception):
    """The run stops before an upstream feature, and so before this one."""

    def __init__(self, value: Value) -> None:
        super().__init__()
        self.value = replace(value, seconds=0.0, **asdict(Usage()))


def marked(spec: FeatureSpec, value: Value, read: Row) -> Value:
    """A value whose facts say what is known of its inputs: a clip is cut short, pictures are lost, how loud
    a sound is."""
    if value.status != OK:
        return value
    facts: dict[str, Any] = json.loads(value.facts or "{}")
    if any(isinstance(one, Frames) and one.cut for one in read):
        facts["cut"] = True
        note = f'{spec.version}: clips that are cut short were taken as far as they go (cut = "accept")'
        value = replace(value, facts=json.dumps(facts), note=note)
    if lost := [of_one for one in read if isinstance(one, Pictures) for of_one in one.lost]:
        facts |= {"lost_pictures": lost, "marks": [*facts.get("marks", ()), "lost picture"]}
        note = f"{spec.version}: items some of whose pictures could not be read have those of the others"
        reason = "; ".join(filter(None, (value.reason, lost_reason(lost))))
        value = replace(value, facts=json.dumps(facts), note=note, reason=reason)
    if heard := [one for one in read if isinstance(one, Sound)]:
        # Of several sounds the loudest: silent is an item of which nothing is heard.
        facts["rms"] = round(max(one.rms for one in heard), 6)
        if all(one.silent for one in heard):
            facts["marks"] = [*facts.get("marks", ()), SILENCE]
            value = replace(value, reason="; ".join(filter(None, (value.reason, SILENCE))))
        value = replace(value, facts=json.dumps(facts))
    return value


def located(value: Value, spans: Spans | None) -> Value:
    """A value whose facts say what each of its vectors was made from."""
    if spans is None:
        return value
    return replace(value, facts=json.dumps(json.loads(value.facts or "{}") | written(spans)))


def encoded(spec: FeatureSpec, output: Any, content_hash: str | None) -> Value:
    """A method's output as it is stored, refused where it is not a value."""
    stage = "encode" if spec.role is None else _STAGES.get(spec.role, "caption")
    try:
        if isinstance(output, Exception):
            raise output
        if spec.form == "text":
            facts = output.facts()
            marks = _marks(spec, output.text, facts)
            if marks:
                facts["marks"] = list(marks)
            reason = "; ".join(f"{kind}: {shown}" for kind, shown in marks.items())
            return Value(
                OK,
                _text(output),
                content_hash,
                reason=reason,
                facts=json.dumps(facts),
                **asdict(output.usage),
            )
        return Value(OK, _numbers(spec, output), content_hash)
    except NotAsked as stop:
        return Value(NOT_ASKED, stage=type(stop.why).__name__, reason=stop.why.message, facts=stop.why.hint)
    except Exception as error:
        failure = as_item_error(error, stage)
        return Value(FAILED, content_hash=content_hash, stage=failure.stage, reason=failure.reason)


def missing(content_hash: str | None) -> Value:
    """The value of a feature that lacks something it must have."""
    return Value(MISSING, content_hash=content_hash)


def _marks(spec: FeatureSpec, text: str, facts: Mapping[str, Any]) -> dict[str, str]:
    """What a text that a model wrote shows to be no caption, or nothing that was said."""
    if spec.role == "transcript":
        return marks_of_speech(text, facts.get("speech_seconds"))
    return {} if spec.decoding is None else marks_of(text)


def _text(output: Text) -> bytes:
    if not output.text and not output.can_be_empty:
        raise ItemError("caption", "the model gave no text")
    return output.text.encode()


def _numbers(spec: FeatureSpec, output: Any) -> bytes:
    values = np.asarray(output)
    several = spec.form == "tokens"
    if values.shape[several:] != spec.shape or (several and values.ndim != 2):
        wanted = f"(any, {spec.dims})" if several else str(spec.shape)
        raise ItemError("encode", f"the model gave {values.shape} instead of {wanted}")
    if several and not len(values):
        raise ItemError("encode", "the model gave no vector")
    if values.dtype.kind not in "fiu":
        raise ItemError("encode", f"the model gave {values.dtype.name} values instead of numbers")
    if not np.isfinite(values).all():
        raise ItemError("encode", "the model gave NaN or infinity")
    if spec.store_dtype == "int8":
        return packed(values).tobytes()
    with np.errstate(over="ignore"):
        stored = values.astype(spec.store_dtype)
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

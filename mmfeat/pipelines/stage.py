"""The stages of the graph as plain callables on Arrow tables, free of Ray.

A stage takes a batch of units (UNITS_SCHEMA plus what earlier stages added) and gives the same
units back with more columns. One item's trouble stays that item's: it is caught before batching,
and a batch whose model call fails is halved until the item at fault stands alone.

Arrow tables rather than dicts of arrays: pixels of any shape travel as binary cells without a copy,
and a cell without a value is null instead of a filler.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from mmfeat.extract.base import Captioner, CaptionInput, Encoder, Model
from mmfeat.extract.registry import load_model
from mmfeat.schemas.catalog import MEDIA_SOURCES
from mmfeat.schemas.errors import ConservationError, ItemError, MmfeatError
from mmfeat.schemas.featureset import FAILED, MISSING, OK
from mmfeat.schemas.media import Frames, MediaBytes, MediaLimits
from mmfeat.schemas.spec import FeatureSpec, FrameSampling, PixelView, text_hash

_Input = TypeVar("_Input")
_Output = TypeVar("_Output")

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
    ]
)


@dataclass(frozen=True)
class Rendering:
    """One way the pixels of a source are wanted: which frames, in which view."""

    source: str
    sampling: FrameSampling | None
    view: PixelView

    @classmethod
    def of(cls, spec: FeatureSpec) -> Rendering:
        """What ``spec`` wants of its media."""
        assert spec.image is not None, f"{spec.name} reads media and needs image preprocessing"
        return cls(spec.source, spec.frames, spec.image.view)


def renderings(specs: Sequence[FeatureSpec]) -> list[Rendering]:
    """The distinct renderings that ``specs`` want, in a fixed order: the columns of pixels."""
    return list(dict.fromkeys(Rendering.of(spec) for spec in specs if spec.source in MEDIA_SOURCES))


class Decode:
    """Reads each unit's media once and renders it once for every encoder that wants it.

    Adds ``content_hash``, ``stamp`` as read, ``stage`` and ``reason`` (null unless it failed) and,
    per rendering ``k``, ``pixels{k}`` (uint8 bytes), ``shape{k}`` and ``times{k}``.
    """

    def __init__(self, specs: Sequence[FeatureSpec], limits: MediaLimits) -> None:
        self.specs = list(specs)
        self.limits = limits
        self.renderings = renderings(specs)

    def __call__(self, units: pa.Table) -> pa.Table:
        """One batch of units, decoded."""
        outcomes = [self._decode(row) for row in units.to_pylist()]
        columns: dict[str, pa.Array] = {
            "content_hash": pa.array([o.content_hash for o in outcomes], pa.string()),
            "stamp": pa.array([o.stamp for o in outcomes], pa.string()),
            "stage": pa.array([o.stage for o in outcomes], pa.string()),
            "reason": pa.array([o.reason for o in outcomes], pa.string()),
        }
        for k in range(len(self.renderings)):
            frames = [o.frames.get(k) for o in outcomes]
            columns[f"pixels{k}"] = pa.array(
                [None if f is None else np.ascontiguousarray(f.pixels).data.cast("B") for f in frames],
                pa.large_binary(),
            )
            columns[f"shape{k}"] = pa.array(
                [None if f is None else list(f.pixels.shape) for f in frames], pa.list_(pa.int32())
            )
            columns[f"times{k}"] = pa.array(
                [None if f is None else list(f.times) for f in frames], pa.list_(pa.float64())
            )
        return _with_columns(units, columns)

    def _decode(self, unit: dict[str, Any]) -> _Decoded:
        if unit["source"] not in MEDIA_SOURCES:
            return _Decoded(text_hash(unit["payload"]), unit["stamp"], {})
        wanted = {Rendering.of(self.specs[n]) for n in unit["features"] if self._reads_media(n)}
        try:
            media = self._read(unit["source"], unit["payload"])
        except Exception as error:
            return _Decoded(None, unit["stamp"], {}, *_stage_and_reason(error, "read"))
        try:
            frames = self._render(media.data, wanted)
        except Exception as error:
            return _Decoded(media.content_hash, media.stamp, {}, *_stage_and_reason(error, "decode"))
        return _Decoded(media.content_hash, media.stamp, frames)

    def _reads_media(self, number: int) -> bool:
        return self.specs[number].source in MEDIA_SOURCES

    def _read(self, source: str, location: str) -> MediaBytes:
        from mmfeat.extract.media.read import read_media

        limits = self.limits
        max_bytes = limits.image_bytes if source == "cover" else limits.clip_bytes
        return read_media(location, max_bytes, limits.fetch)

    def _render(self, data: bytes, wanted: set[Rendering]) -> dict[int, Frames]:
        # Imported where they are used: a run of titles alone needs no decoder.
        from mmfeat.extract.media.image import render_image
        from mmfeat.extract.media.video import render_clip

        frames: dict[int, Frames] = {}
        for sampling in dict.fromkeys(r.sampling for r in self.renderings if r in wanted):
            chosen = [k for k, r in enumerate(self.renderings) if r in wanted and r.sampling == sampling]
            views = [self.renderings[k].view for k in chosen]
            if sampling is None:
                rendered = render_image(data, views, self.limits)
            else:
                rendered = render_clip(data, sampling, views, self.limits)
            frames.update(zip(chosen, rendered, strict=True))
        return frames


@dataclass(frozen=True)
class _Decoded:
    content_hash: str | None
    stamp: str
    frames: dict[int, Frames]
    stage: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class _Value:
    """What one feature holds for one unit after its model ran, or why it does not."""

    status: str
    value: bytes | None = None
    content_hash: str | None = None
    stage: str = ""
    reason: str = ""
    facts: str | None = None
    seconds: float = 0.0


class Encode:
    """Runs the models of some features over each batch, in dependency order.

    On a CPU one stage holds every model, so that no two processes fight for the cores; on GPUs each
    model has a stage of its own. Results travel on as columns; the last stage drops the pixels and
    gives one row per (unit, feature), RESULTS_SCHEMA.

    Args:
        specs: all features of the run.
        numbers: which of them this stage computes.
        last: whether no stage follows.
        device: ``cpu`` or ``cuda``.
        threads: compute threads of this process.
        batch_size: rows per model call; None for the model's own.
    """

    def __init__(
        self,
        specs: Sequence[FeatureSpec],
        numbers: Sequence[int],
        *,
        last: bool,
        device: str = "cpu",
        threads: int | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.specs = list(specs)
        self.numbers = list(numbers)
        self.last = last
        self.device = device
        self.batch_size = batch_size
        self.renderings = renderings(specs)
        self.by_name = {spec.name: n for n, spec in enumerate(self.specs)}
        self.proven_batch: dict[int, int] = {}
        if threads is not None:
            _use_threads(threads)
        # Loaded at once: weights that are not there end the run, they do not fail items.
        self.models = {number: load_model(self.specs[number], device) for number in self.numbers}

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One batch: the same units with results, or their results alone after the last stage."""
        units = _Batch(batch, self.renderings)
        for number in self.numbers:
            units.results[number] = self._feature(number, units)
        if not self.last:
            return units.carried(self.numbers)
        return units.flattened(len(self.specs))

    def _feature(self, number: int, units: _Batch) -> dict[int, _Value]:
        """Row position in the batch to the value of one feature, for the rows that want it."""
        spec = self.specs[number]
        values: dict[int, _Value] = {}
        inputs: dict[int, tuple[Any, str | None]] = {}
        for row in units.wanting(number):
            try:
                inputs[row] = self._input(spec, units, row)
            except ItemError as error:
                values[row] = _Value(
                    FAILED, content_hash=units.content_hash(row), stage=error.stage, reason=error.reason
                )
            except _NothingUpstream:
                values[row] = _Value(MISSING)
        if inputs:
            rows = list(inputs)
            began = time.perf_counter()
            outputs = self._run(number, [inputs[row][0] for row in rows])
            share = (time.perf_counter() - began) / len(rows)
            for row, output in zip(rows, outputs, strict=True):
                values[row] = replace(_encoded(spec, output, inputs[row][1]), seconds=share)
        return values

    def _input(self, spec: FeatureSpec, units: _Batch, row: int) -> tuple[Any, str | None]:
        """The model's input for one row and the hash of the content it was made from."""
        if spec.source in MEDIA_SOURCES:
            return units.frames(row, Rendering.of(spec)), units.content_hash(row)
        if spec.source in self.by_name and units.wants(row, upstream := self.by_name[spec.source]):
            text = units.text(row, upstream)
            return text, text_hash(text)
        return units.payload(row), units.content_hash(row)

    def _run(self, number: int, inputs: list[Any]) -> list[Any]:
        """One output, or the exception that stands for it, per input, in order."""
        model, spec = self.models[number], self.specs[number]
        size = self.proven_batch.get(number) or self.batch_size or model.batch_size
        if spec.frames is not None and spec.output == "vector":
            size = max(1, size // spec.frames.count)
        outputs: list[Any] = []
        start = 0
        while start < len(inputs):
            part = inputs[start : start + size]
            try:
                outputs += _call(model, spec, part)
            except Exception as error:
                if _out_of_memory(error) and size > 1:
                    # Remembered for the run: the next batch would not fit either.
                    size = max(1, size // 2)
                    self.proven_batch[number] = size
                    continue
                outputs += bisect_failures(lambda xs: _call(model, spec, xs), part, error)
            start += size
        return outputs


class _Batch:
    """Access to one batch's cells by row position."""

    def __init__(self, table: pa.Table, kinds: Sequence[Rendering]) -> None:
        self.table = table.combine_chunks()
        self.kinds = list(kinds)
        self.features = [frozenset(f) for f in table["features"].to_pylist()]
        self.sources = table["source"].to_pylist()
        self.hashes = table["content_hash"].to_pylist()
        self.stages = table["stage"].to_pylist()
        self.reasons = table["reason"].to_pylist()
        self.results: dict[int, dict[int, _Value]] = _carried_results(table)

    def wants(self, row: int, number: int) -> bool:
        return number in self.features[row]

    def wanting(self, number: int) -> list[int]:
        return [row for row in range(len(self.features)) if self.wants(row, number)]

    def content_hash(self, row: int) -> str | None:
        content: str | None = self.hashes[row]
        return content

    def payload(self, row: int) -> str:
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
        return Frames(np.frombuffer(cell, dtype=np.uint8).reshape(shape), times)

    def text(self, row: int, upstream: int) -> str:
        """The text that an upstream feature produced in this run."""
        value = self.results[upstream][row]
        if value.status == MISSING:
            raise _NothingUpstream
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
        return _with_columns(self.table, columns)

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


_RESULT_STRUCT = pa.struct([RESULTS_SCHEMA.field(name) for name in _Value.__annotations__])


class _NothingUpstream(Exception):
    """The upstream feature is missing for this item, so this one is too."""


def bisect_failures(
    call: Callable[[list[_Input]], Sequence[_Output]], inputs: list[_Input], error: Exception
) -> list[_Output | Exception]:
    """Find the inputs at fault in a batch that raised ``error``: all others get their output."""
    if len(inputs) == 1:
        return [error]
    outputs: list[_Output | Exception] = []
    for part in (inputs[: len(inputs) // 2], inputs[len(inputs) // 2 :]):
        try:
            outputs += call(part)
        except Exception as nested:
            outputs += bisect_failures(call, part, nested)
    return outputs


def _call(model: Model, spec: FeatureSpec, inputs: list[Any]) -> list[Any]:
    outputs: Sequence[Any] | np.ndarray
    if isinstance(model, Captioner):
        outputs = model.caption([CaptionInput(frames) for frames in inputs])
    elif not isinstance(model, Encoder):
        raise MmfeatError(f"{spec.method} is neither an encoder nor a captioner")
    elif spec.frames is not None:
        outputs = model.encode_clips(inputs)
    elif spec.image is not None and spec.source in MEDIA_SOURCES:
        outputs = model.encode_images(np.concatenate([frames.pixels for frames in inputs]))
    else:
        outputs = model.encode_texts(inputs)
    if len(outputs) != len(inputs):
        raise ConservationError(f"{spec.version}: {len(inputs)} items in, {len(outputs)} out")
    return list(outputs)


def _encoded(spec: FeatureSpec, output: Any, content_hash: str | None) -> _Value:
    """A model's output as it is stored, refused where it is not a value."""
    stage = "encode" if spec.output == "vector" else "caption"
    if isinstance(output, Exception):
        stage, reason = _stage_and_reason(output, stage)
        return _Value(FAILED, content_hash=content_hash, stage=stage, reason=reason)
    if spec.output == "text":
        if not output.text:
            return _Value(FAILED, content_hash=content_hash, stage=stage, reason="the model gave no text")
        facts = json.dumps(output.facts())
        return _Value(OK, output.text.encode(), content_hash, facts=facts)
    if output.shape != spec.shape:
        reason = f"the model gave {output.shape} instead of {spec.shape}"
        return _Value(FAILED, content_hash=content_hash, stage=stage, reason=reason)
    with np.errstate(over="ignore"):
        stored = output.astype(spec.store_dtype)
    if not np.isfinite(stored).all():
        problem = (
            "NaN or infinity" if not np.isfinite(output).all() else f"values too large for {spec.store_dtype}"
        )
        return _Value(FAILED, content_hash=content_hash, stage=stage, reason=f"the model gave {problem}")
    return _Value(OK, stored.tobytes(), content_hash)


def _carried_results(table: pa.Table) -> dict[int, dict[int, _Value]]:
    results = {}
    for name in table.column_names:
        if name.startswith("result"):
            cells = table[name].to_pylist()
            results[int(name[len("result") :])] = {
                row: _Value(**cell) for row, cell in enumerate(cells) if cell is not None
            }
    return results


def _with_columns(table: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    for name, column in columns.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, column)
        else:
            table = table.append_column(name, column)
    return table


def _stage_and_reason(error: Exception, stage: str) -> tuple[str, str]:
    return (error.stage, error.reason) if isinstance(error, ItemError) else (stage, _plain(error))


def _plain(error: Exception) -> str:
    """An exception as one line for a person."""
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0]}" if first else type(error).__name__


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _use_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)

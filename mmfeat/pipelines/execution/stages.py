"""The stages of the graph as plain callables on Arrow tables, free of Ray.

A stage takes a batch of units (UNITS_SCHEMA plus what earlier stages added) and gives the same
units back with more columns. One item's trouble stays that item's: it is caught before batching,
and a batch whose model call fails is halved until the item at fault stands alone.

Arrow tables rather than dicts of arrays: pixels of any shape travel as binary cells without a copy,
and a cell without a value is null instead of a filler.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from mmfeat.extract.base import Captioner, CaptionInput, Encoder, Model, Usage
from mmfeat.extract.gc_pause import collected_afterwards
from mmfeat.extract.media.decode import Decoded, MediaRequest, Rendering, decode_media
from mmfeat.extract.media.fence import decode_fenced_all, start_fence
from mmfeat.extract.registry import load_model
from mmfeat.pipelines.execution.batch import (
    Batch,
    NothingUpstream,
    NotReached,
    Value,
    encoded,
    renderings,
    with_columns,
)
from mmfeat.pipelines.execution.bisect import Halving
from mmfeat.pipelines.execution.calls import Calls
from mmfeat.schemas.catalog import MEDIA_SOURCES
from mmfeat.schemas.errors import ConservationError, ItemError, MmfeatError
from mmfeat.schemas.featureset import FAILED, MISSING
from mmfeat.schemas.media import Frames, MediaLimits
from mmfeat.schemas.server import Sending
from mmfeat.schemas.spec import FeatureSpec, text_hash


class Decode:
    """Reads each unit's media once and renders it once for every encoder that wants it.

    Adds ``content_hash``, ``stamp`` as read, ``stage`` and ``reason`` (null unless it failed) and,
    per rendering ``k``, ``pixels{k}`` (uint8 bytes), ``shape{k}``, ``times{k}`` and ``scenes{k}``.

    Args:
        fenced: decode in a process of its own, which keeps the limits of time and memory and which
            media may crash; else in the calling one.
    """

    def __init__(self, specs: Sequence[FeatureSpec], limits: MediaLimits, *, fenced: bool = False) -> None:
        self.specs = list(specs)
        self.limits = limits
        self.fenced = fenced
        self.renderings = renderings(specs)

    def __call__(self, units: pa.Table) -> pa.Table:
        """One batch of units, decoded."""
        outcomes = list(self._outcomes(units.to_pylist()))
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
            columns[f"scenes{k}"] = pa.array(
                [None if f is None else [vars(scene) for scene in f.scenes] for f in frames], _SCENES
            )
        return with_columns(units, columns)

    def _outcomes(self, units: Sequence[dict[str, Any]]) -> Iterator[_Decoded]:
        requests = [self._request(unit) for unit in units]
        media = self._media([request for request in requests if request is not None])
        for unit, request in zip(units, requests, strict=True):
            if request is None:
                yield _Decoded(text_hash(unit["payload"]), unit["stamp"], {})
            else:
                yield self._of(next(media), request, unit["stamp"])

    def _request(self, unit: dict[str, Any]) -> MediaRequest | None:
        """What to decode of a unit; None of a text."""
        if unit["source"] not in MEDIA_SOURCES:
            return None
        wanted = {Rendering.of(self.specs[n]) for n in unit["features"] if self._reads_media(n)}
        chosen = tuple(rendering for rendering in self.renderings if rendering in wanted)
        return MediaRequest(unit["source"], unit["payload"], chosen)

    def _media(self, requests: Sequence[MediaRequest]) -> Iterator[Decoded]:
        if self.fenced:
            return decode_fenced_all(requests, self.limits)
        return (decode_media(request, self.limits) for request in requests)

    def _of(self, media: Decoded, request: MediaRequest, stamp: str) -> _Decoded:
        stamp = media.stamp or stamp
        if media.failure is not None:
            return _Decoded(media.content_hash, stamp, {}, media.failure.stage, media.failure.reason)
        chosen = map(self.renderings.index, request.renderings)
        return _Decoded(media.content_hash, stamp, dict(zip(chosen, media.frames, strict=True)))

    def _reads_media(self, number: int) -> bool:
        return self.specs[number].source in MEDIA_SOURCES


_SCENES = pa.list_(pa.struct([("start", pa.float64()), ("end", pa.float64()), ("frames", pa.int32())]))


@dataclass(frozen=True)
class _Decoded:
    content_hash: str | None
    stamp: str
    frames: dict[int, Frames]
    stage: str | None = None
    reason: str | None = None


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
        expected: units to come for each feature, on this machine; what is not there is not known.
        batch_size: rows per model call, of clips their frames; None for what suits the model and the device.
        sending: how such a model is asked.
    """

    def __init__(
        self,
        specs: Sequence[FeatureSpec],
        numbers: Sequence[int],
        *,
        last: bool,
        device: str = "cpu",
        threads: int | None = None,
        expected: Mapping[int, int] = MappingProxyType({}),
        batch_size: int | None = None,
        sending: Sending | None = None,
    ) -> None:
        self.specs = list(specs)
        self.numbers = list(numbers)
        self.last = last
        self.device = device
        self.calls = Calls(device, threads, batch_size)
        self.renderings = renderings(specs)
        self.by_name = {spec.name: n for n, spec in enumerate(self.specs)}
        self.fitting_batch: dict[int, int] = {}
        # Loaded at once: weights that are not there end the run, they do not fail items.
        with collected_afterwards():
            self.models = {
                number: load_model(
                    self.specs[number], device, sending, threads=threads, expected=expected.get(number)
                )
                for number in self.numbers
            }
        self.untold = {number: list(model.notes) for number, model in self.models.items()}

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One batch: the same units with results, or their results alone after the last stage."""
        units = Batch(batch, self.renderings)
        for number in self.numbers:
            units.results[number] = self._feature(number, units)
        if not self.last:
            return units.carried(self.numbers)
        return units.flattened(len(self.specs))

    def _feature(self, number: int, units: Batch) -> dict[int, Value]:
        """Row position in the batch to the value of one feature, for the rows that want it."""
        spec = self.specs[number]
        values: dict[int, Value] = {}
        inputs: dict[int, tuple[Any, str | None]] = {}
        for row in units.wanting(number):
            try:
                inputs[row] = self._input(spec, units, row)
            except ItemError as error:
                values[row] = Value(
                    FAILED, content_hash=units.content_hash(row, spec), stage=error.stage, reason=error.reason
                )
            except NothingUpstream:
                values[row] = Value(MISSING)
            except NotReached as upstream:
                values[row] = upstream.value
        if inputs:
            rows = list(inputs)
            began = time.perf_counter()
            outputs = self._run(number, [inputs[row][0] for row in rows])
            share = (time.perf_counter() - began) / len(rows)
            model = self.models[number]
            for row, output in zip(rows, outputs, strict=True):
                value = encoded(spec, output, inputs[row][1])
                values[row] = replace(value, seconds=share, runtime=model.runtime)
            for row, note in zip(rows, self._told(number, len(rows)), strict=False):
                values[row] = replace(values[row], note=note)
            if isinstance(model, Captioner) and (sent := model.sent()) is not None:
                values.update({row: replace(values[row], **asdict(Usage())) for row in rows})
                values[rows[0]] = replace(values[rows[0]], **asdict(sent))
        return values

    def _told(self, number: int, most: int) -> list[str]:
        """Notes of a model that were not told yet, and now are."""
        told, self.untold[number] = self.untold[number][:most], self.untold[number][most:]
        return told

    def _input(self, spec: FeatureSpec, units: Batch, row: int) -> tuple[Any, str | None]:
        """The model's input for one row and the hash of the content it was made from."""
        if spec.source in MEDIA_SOURCES:
            frames = units.frames(row, Rendering.of(spec))
            made_of = CaptionInput(frames, units.texts(row, spec)) if spec.output == "text" else frames
            return made_of, units.content_hash(row, spec)
        if spec.source in self.by_name and units.wants(row, upstream := self.by_name[spec.source]):
            text = units.text(row, upstream)
            return text, text_hash(text)
        return units.payload(row), units.content_hash(row, spec)

    def _run(self, number: int, inputs: list[Any]) -> list[Any]:
        """One output, or the exception that stands for it, per input, in order."""
        model, spec = self.models[number], self.specs[number]
        outputs: list[Any] = []
        while len(outputs) < len(inputs):
            halving = Halving[Any, Any](lambda part: _call(model, spec, part))
            outputs += halving(inputs[len(outputs) :][: self._batch_size(number)])
            if halving.batch_too_large:
                # Remembered for the run: the next batch would not fit either.
                self.fitting_batch[number] = halving.largest
        return outputs

    def _batch_size(self, number: int) -> int:
        size = self.calls.rows(self.specs[number], self.models[number])
        return min(size, self.fitting_batch.get(number, size))


class DecodeEncode:
    """Both stages in one process, which decodes a block and then encodes it.

    Where every core has a model's process of one thread, decoding beside it would only take its core away.

    Args:
        specs, limits: as :class:`Decode` takes them; decoding is fenced.
        numbers, options: as :class:`Encode` takes them.
    """

    def __init__(
        self, specs: Sequence[FeatureSpec], numbers: Sequence[int], limits: MediaLimits, **options: Any
    ) -> None:
        self.decode = Decode(specs, limits, fenced=True)
        if any(specs[number].source in MEDIA_SOURCES for number in numbers):
            # Its decoders are loaded while the models are.
            start_fence()
        self.encode = Encode(specs, numbers, **options)

    def __call__(self, units: pa.Table) -> pa.Table:
        """One batch of units: their results, or the units with results for the stages that follow."""
        return self.encode(self.decode(units))


def _call(model: Model, spec: FeatureSpec, inputs: list[Any]) -> list[Any]:
    outputs: Sequence[Any] | np.ndarray
    if isinstance(model, Captioner):
        outputs = model.caption(inputs)
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

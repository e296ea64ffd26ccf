"""The stages of a run as plain callables on Arrow tables, free of Ray.

A stage takes a batch of work items (WORK_SCHEMA plus what earlier stages added) and gives the same work
items back with more columns. One item's trouble stays that item's: it is caught before batching,
and a batch whose model call fails is bisected until the item at fault stands alone.

Arrow tables rather than dicts of arrays: arrays of any shape travel as binary cells without a copy,
and a cell without a value is null instead of a filler.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from mmfeat.extract import modalities
from mmfeat.extract.base import Caption, Method, Placement, Row, Usage
from mmfeat.extract.canary import Canary, canary_of, changed, refusal
from mmfeat.extract.fence.decode import Decoded, MediaRequest, Wanted, decode_media
from mmfeat.extract.fence.process import decode_fenced_all, start_fence
from mmfeat.extract.registry import load_methods
from mmfeat.pipelines.execution.batch import (
    DATA,
    FACTS,
    HASH,
    REASON,
    SECONDS,
    STAGE,
    STAMP_READ,
    Batch,
    NotReached,
    NotThere,
    Value,
    decodings,
    encoded,
    located,
    marked,
    media_inputs,
    missing,
    with_columns,
)
from mmfeat.pipelines.execution.bisect import Bisection
from mmfeat.pipelines.execution.calls import Calls
from mmfeat.pipelines.execution.several import together
from mmfeat.pipelines.planning.work import STAMP, payload_of
from mmfeat.schemas.errors import ConservationError, ItemError, NotAsked
from mmfeat.schemas.featureset import FAILED, OK
from mmfeat.schemas.inputs import column_of
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.server import Sending
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.schemas.templates import values_of


class Decode:
    """Reads each work item's files once and decodes each once for every feature that wants it.

    Adds per media column its content hash, the stamp as read, the seconds that it took, and stage and reason
    where it failed; and per decoding ``k`` the decoded array ``data{k}`` and a JSON object ``facts{k}`` with
    its shape and dtype, null if the item has no such thing.

    Args:
        fenced: decode in a process of its own, which keeps the limits of time and memory and which
            media may crash; else in the calling one.
    """

    def __init__(self, specs: Sequence[FeatureSpec], limits: MediaLimits, *, fenced: bool = False) -> None:
        self.specs = list(specs)
        self.limits = limits
        self.fenced = fenced
        self.decodings = decodings(specs)
        self.columns = list(dict.fromkeys(one.key for one in self.decodings))

    def __call__(self, work: pa.Table) -> pa.Table:
        """One batch of work items, decoded."""
        features = work["features"].to_pylist()
        columns: dict[str, pa.Array] = {}
        for column in self.columns:
            columns |= self._decoded(column, work, features)
        return with_columns(work, columns)

    def _decoded(self, column: str, work: pa.Table, features: Sequence[Sequence[int]]) -> dict[str, pa.Array]:
        """What decoding adds for one media column."""
        locations = payload_of(work, column).to_pylist()
        numbers = [k for k, one in enumerate(self.decodings) if one.key == column]
        wanted = [
            self._wanted(column, row) if place is not None else ()
            for place, row in zip(locations, features, strict=True)
        ]
        stamps = work[STAMP + column].to_pylist() if STAMP + column in work.column_names else []
        stamps = stamps or [None] * len(work)
        outcomes = list(self._outcomes(column, locations, wanted, stamps))
        failures = [one.failure for one in outcomes]
        texts = {
            HASH: [one.content_hash for one in outcomes],
            STAMP_READ: [one.stamp or planned for one, planned in zip(outcomes, stamps, strict=True)],
            STAGE: [failure and failure.stage for failure in failures],
            REASON: [failure and failure.reason for failure in failures],
        }
        columns = {name + column: pa.array(values, pa.string()) for name, values in texts.items()}
        columns[SECONDS + column] = pa.array([one.seconds for one in outcomes], pa.float64())
        for k in numbers:
            way = self.decodings[k].wanted
            values = [
                outcome.values[ways.index(way)] if way in ways and outcome.values else None
                for outcome, ways in zip(outcomes, wanted, strict=True)
            ]
            columns |= _cells(k, way, values)
        return columns

    def _outcomes(
        self,
        column: str,
        locations: Sequence[str | None],
        wanted: Sequence[tuple[Wanted, ...]],
        stamps: Sequence[str | None],
    ) -> Iterator[Decoded]:
        """What became of each work item's file, or of its files where it has several."""
        places = zip(locations, wanted, strict=True)
        files = [values_of(place) if place and ways else [] for place, ways in places]
        asked = zip(files, wanted, strict=True)
        media = self._media([MediaRequest(file, ways) for of_item, ways in asked for file in of_item])
        several = column_of(column)[1] is not None
        for of_item, stamp in zip(files, stamps, strict=True):
            found = [next(media) for _ in of_item]
            yield together(of_item, found, stamp) if several else found[0] if found else Decoded()

    def _wanted(self, column: str, features: Sequence[int]) -> tuple[Wanted, ...]:
        """The ways in which a work item's features want a column, in a fixed order."""
        reads = {
            Wanted.of(one)
            for number in features
            for one in media_inputs(self.specs[number])
            if one.key == column
        }
        return tuple(one.wanted for one in self.decodings if one.key == column and one.wanted in reads)

    def _media(self, requests: Sequence[MediaRequest]) -> Iterator[Decoded]:
        if self.fenced:
            return decode_fenced_all(requests, self.limits)
        return (decode_media(request, self.limits) for request in requests)


def _cells(k: int, way: Wanted, values: Sequence[Any]) -> dict[str, pa.Array]:
    """Decoded values as the columns of their decoding."""
    modality = modalities.media(way.modality)
    data: list[Any] = []
    facts: list[str | None] = []
    for value in values:
        if value is None or isinstance(value, ItemError):
            data.append(None)
            failed = None if value is None else json.dumps({"failure": [value.stage, value.reason]})
            facts.append(failed)
            continue
        each = [one if isinstance(one, ItemError) else modality.pack(one) for one in _each(value)]
        arrays = [one.data for one in each if not isinstance(one, ItemError)]
        parts = [np.ascontiguousarray(array).data.cast("B") for array in arrays]
        data.append(parts[0] if len(parts) == 1 else b"".join(parts))
        shaped = [_shaped(one) for one in each]
        facts.append(json.dumps({"several": shaped} if isinstance(value, tuple) else shaped[0]))
    return {f"{DATA}{k}": pa.array(data, pa.large_binary()), f"{FACTS}{k}": pa.array(facts, pa.string())}


def _each(value: Any) -> tuple[Any, ...]:
    """The values of several files, or the one of one."""
    return value if isinstance(value, tuple) else (value,)


def _shaped(packed: modalities.Packed | ItemError) -> dict[str, Any]:
    """What there is to know of a decoded value beside its bytes."""
    if isinstance(packed, ItemError):
        return {"failure": [packed.stage, packed.reason]}
    return {"shape": packed.data.shape, "dtype": packed.data.dtype.name, **packed.facts}


class Encode:
    """Runs the methods of some features over each batch, in dependency order.

    On a CPU one stage holds every method, so that no two processes fight for the cores; on GPUs each
    has a stage of its own, but for those whose values come out of another one's pass. Results travel on
    as columns; the last stage drops what was decoded and gives one row per (work item, feature),
    RESULTS_SCHEMA.

    Args:
        specs: all features of the run.
        numbers: which of them this stage computes.
        last: whether no stage follows.
        device: ``cpu`` or ``cuda``.
        threads: compute threads of this process.
        expected: work items to come for each feature, on this machine; what is not there is not known.
        batch_size: rows per model call, of clips their frames; None for what suits the model and the device.
        sending: how a model on a server is asked.
        canaries: by feature, what its method must give for known inputs.

    Raises:
        ConfigError: a model cannot be loaded.
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
        canaries: Mapping[int, Canary] = MappingProxyType({}),
    ) -> None:
        self.specs = list(specs)
        self.numbers = list(numbers)
        self.last = last
        self.calls = Calls(device, threads, batch_size)
        self.fitting_batch: dict[int, int] = {}
        self.new_canaries: dict[int, str] = {}
        self.refused: dict[int, NotAsked] = {}
        # Loaded at once: weights that are not there end the run, they do not fail items.
        self.methods = load_methods(
            self.specs,
            self.numbers,
            lambda number: Placement(device, threads, expected.get(number), sending),
        )
        self._take_canaries(canaries, device)
        self.new_notes = {number: list(method.notes) for number, method in self.methods.items()}

    def __call__(self, table: pa.Table) -> pa.Table:
        """One batch: the same work items with results, or their results alone after the last stage."""
        batch = Batch(table, self.specs)
        for number in self.numbers:
            batch.results[number] = self._feature(number, batch)
        return batch.flattened() if self.last else batch.carried(self.numbers)

    def _feature(self, number: int, batch: Batch) -> dict[int, Value]:
        """Row position in the batch to the value of one feature, for the rows that want it."""
        spec = self.specs[number]
        values: dict[int, Value] = {}
        inputs: dict[int, tuple[Row, str | None]] = {}
        for row in batch.wanting(number):
            try:
                inputs[row] = batch.inputs(row, spec)
            except ItemError as error:
                values[row] = Value(
                    FAILED, content_hash=batch.content_hash(row, spec), stage=error.stage, reason=error.reason
                )
            except NotThere as lack:
                values[row] = missing(lack.content_hash)
            except NotReached as upstream:
                values[row] = upstream.value
        if inputs:
            values |= self._computed(number, batch, inputs)
        return values

    def _computed(
        self, number: int, batch: Batch, inputs: Mapping[int, tuple[Row, str | None]]
    ) -> dict[int, Value]:
        """The values of rows whose inputs are there."""
        spec, method, rows = self.specs[number], self.methods[number], list(inputs)
        if (refused := self.refused.get(number)) is not None:
            return {row: encoded(spec, refused, None) for row in rows}
        found = batch.beside.get(spec.fingerprint, {})
        left = [row for row in rows if row not in found]
        began = time.perf_counter()
        made = dict(zip(left, self._run(number, [inputs[row][0] for row in left]), strict=True))
        share = (time.perf_counter() - began) / max(1, len(left))
        _keep_beside(batch, made)
        outputs = {row: made[row] if row in made else found[row] for row in rows}
        values = {
            row: replace(
                encoded(spec, output, inputs[row][1]),
                seconds=share if row in made else 0.0,
                runtime=method.runtime,
            )
            for row, output in outputs.items()
        }
        if spec.form == "tokens":
            for row, output in outputs.items():
                if values[row].status == OK:
                    values[row] = located(values[row], method.spans(inputs[row][0], output))
        values = {row: marked(spec, value, inputs[row][0]) for row, value in values.items()}
        for row, note in zip(rows, self._take_notes(number, len(rows)), strict=False):
            values[row] = replace(values[row], note=note)
        values[rows[0]] = replace(values[rows[0]], canary=self.new_canaries.pop(number, None))
        if (sent := method.sent()) is not None:
            values = {row: replace(value, **asdict(Usage())) for row, value in values.items()}
            values[rows[0]] = replace(values[rows[0]], **asdict(sent))
        return values

    def _take_canaries(self, known: Mapping[int, Canary], device: str) -> None:
        """Hold the canaries of the methods against what is known; those that are not go with the results.

        A method whose canary differs computes nothing, and the run ends as it does where a server answers
        nobody: an error of the process would come out of Ray as its text alone.
        """
        for number, method in self.methods.items():
            now, then = canary_of(method, device), known.get(number)
            if now is None:
                continue
            if then is None:
                self.new_canaries[number] = now.to_json()
            elif change := changed(self.specs[number], then, now):
                self.refused[number] = NotAsked(refusal(self.specs[number], change))

    def _take_notes(self, number: int, most: int) -> list[str]:
        """Notes of a method that no result carries yet."""
        notes = self.new_notes[number]
        taken, self.new_notes[number] = notes[:most], notes[most:]
        return taken

    def _run(self, number: int, rows: list[Row]) -> list[Any]:
        """One output, or the exception that stands for it, per row, in order."""
        method, spec = self.methods[number], self.specs[number]
        outputs: list[Any] = []
        while len(outputs) < len(rows):
            bisection = Bisection[Row, Any](lambda part: _call(method, spec, part))
            outputs += bisection(rows[len(outputs) :][: self._batch_size(number)])
            if bisection.batch_too_large:
                # Remembered for the run: the next batch would not fit either.
                self.fitting_batch[number] = bisection.largest
        return outputs

    def _batch_size(self, number: int) -> int:
        size = self.calls.together(self.specs[number], self.methods[number])
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
        if any(media_inputs(specs[number]) for number in numbers):
            # Its decoders are loaded while the models are.
            start_fence()
        self.encode = Encode(specs, numbers, **options)

    def __call__(self, work: pa.Table) -> pa.Table:
        """One batch of work items: their results, or themselves with results for the stages that follow."""
        return self.encode(self.decode(work))


def _keep_beside(batch: Batch, made: Mapping[int, Any]) -> None:
    """Keep what outputs brought along of other features, for when these are computed."""
    for row, output in made.items():
        for fingerprint, value in output.beside.items() if isinstance(output, Caption) else ():
            batch.beside.setdefault(fingerprint, {})[row] = value


def _call(method: Method, spec: FeatureSpec, rows: list[Row]) -> list[Any]:
    outputs = method.run(rows)
    if len(outputs) != len(rows):
        raise ConservationError(f"{spec.version}: {len(rows)} items in, {len(outputs)} out")
    return list(outputs)

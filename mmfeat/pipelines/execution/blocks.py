"""Units as blocks: one block is one decode task's work and one actor call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract.registry import class_of
from mmfeat.pipelines.execution.batch import renderings
from mmfeat.pipelines.execution.calls import Calls
from mmfeat.pipelines.execution.cost import trial
from mmfeat.schemas.spec import FeatureSpec

# Model calls' worth of the largest blocks, and items they have at most: with fewer, hand-overs would cost
# more, and with more, rows would only come later.
_CALLS = 8
_MOST_ITEMS = 64
_TEXTS_PER_CALL = 128
_MOST_TEXTS = 512
# Pixels in flight are bounded too. They are estimated from what the renderings may hold at most.
_BLOCK_BYTES = 96 << 20


def split(units: pa.Table, specs: Sequence[FeatureSpec], workers: int, calls: Calls) -> list[pa.Table]:
    """``units`` as blocks of one source each, in their order, but for the trial of captions, which is first.

    Args:
        calls: how much the workers' models are given in one call.

    Blocks are whole model calls wherever there are enough units. Each source begins with blocks of a
    single call, so that first rows come soon, and ends with ever smaller ones, so that no worker is left
    with a long last block while others are done. There are no fewer blocks than workers.
    """
    if first := trial(units, specs):
        rest = np.setdiff1d(np.arange(len(units)), first)
        parts = [units.take(pa.array(rows, pa.int64())) for rows in (first, rest)]
        return [block for part in parts for block in _blocks(part, specs, workers, calls)]
    return list(_blocks(units, specs, workers, calls))


def _blocks(units: pa.Table, specs: Sequence[FeatureSpec], workers: int, calls: Calls) -> Iterator[pa.Table]:
    runs = pc.run_end_encode(units["source"].combine_chunks())
    start = 0
    for end, source in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):
        call, large = _block_sizes(source, specs, calls)
        call = min(call, max(1, len(units) // workers))
        for size in _sizes(end - start, call, large, workers):
            yield units.slice(start, size)
            start += size


def _sizes(number: int, call: int, large: int, workers: int) -> Iterator[int]:
    """Sizes that add up to ``number``: one ``call`` for each worker, then ``large`` and ever smaller ones."""
    done = 0
    while left := number - done:
        # Each worker has a block at hand beside the one it works on.
        share = left // (2 * workers * call) * call
        begins = done < workers * call
        size = min(call if begins else max(call, min(large, share)), left)
        yield size
        done += size


def _block_sizes(source: str, specs: Sequence[FeatureSpec], calls: Calls) -> tuple[int, int]:
    """Units of one model call, and of the largest block."""
    wanted = [r for r in renderings(specs) if r.source == source]
    if not wanted:
        return _TEXTS_PER_CALL, _MOST_TEXTS
    frames = [r.sampling.most if r.sampling else 1 for r in wanted]
    pixels = sum(r.view.height * r.view.width * n for r, n in zip(wanted, frames, strict=True))
    most = max(1, _BLOCK_BYTES // (3 * pixels))
    reading = [spec for spec in specs if spec.source == source]
    call = min(most, max(calls.rows(spec, class_of(spec)) for spec in reading))
    return call, call * max(1, min(_CALLS, _MOST_ITEMS // call, most // call))

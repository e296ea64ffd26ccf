"""Work items as blocks: one block is one decode task's work and one actor call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract import modalities
from mmfeat.extract.registry import class_of
from mmfeat.pipelines.execution.batch import media_inputs
from mmfeat.pipelines.execution.calls import Calls
from mmfeat.pipelines.execution.cost import captioned, trial
from mmfeat.schemas.spec import FeatureSpec

# Model calls' worth of the largest blocks, and items they have at most: with fewer, hand-overs would cost
# more, and with more, rows would only come later.
_CALLS = 8
_MOST_ITEMS = 64
# A language model on a CPU takes a second and more for each text: nobody waits for eight to see one.
_FIRST_WRITTEN = 2
_TEXTS_PER_CALL = 128
_MOST_TEXTS = 512
# Decoded bytes in flight are bounded too. They are estimated by what decodings may hold at most.
_BLOCK_BYTES = 96 << 20


def split(work: pa.Table, specs: Sequence[FeatureSpec], workers: int, calls: Calls) -> list[pa.Table]:
    """Work items as blocks of one group each, in their order, but for the trial of captions, which is first.

    Args:
        calls: how much the workers' models are given in one call.

    Blocks are whole model calls wherever there is enough work. Each group begins with blocks of a
    single call, so that first rows come soon, and ends with ever smaller ones, so that no worker is left
    with a long last block while others are done. There are no fewer blocks than workers. Where a model writes
    on a CPU, the trial begins with less than a call, and a single worker has large blocks to the end.
    """
    written = captioned(specs)
    if first := trial(work, written):
        slow = calls.device == "cpu" and any(class_of(specs[number]).runs == "here" for number in written)
        rest = np.setdiff1d(np.arange(len(work)), first)
        tried, others = (work.take(pa.array(rows, pa.int64())) for rows in (first, rest))
        begin = _FIRST_WRITTEN if slow else None
        alone = slow and workers == 1
        return [
            *_blocks(tried, specs, workers, calls, begin),
            *_blocks(others, specs, workers, calls, alone=alone),
        ]
    return list(_blocks(work, specs, workers, calls))


def _blocks(
    work: pa.Table,
    specs: Sequence[FeatureSpec],
    workers: int,
    calls: Calls,
    begin: int | None = None,
    alone: bool = False,
) -> Iterator[pa.Table]:
    """Blocks of each group.

    Args:
        begin: work items of each worker's first block; those of a call if None.
        alone: whether no other worker waits for the last block: then all are large.
    """
    runs = pc.run_end_encode(work["group"].combine_chunks())
    start = 0
    for end, _ in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):
        call, large = _block_sizes(work.slice(start, end - start), specs, calls)
        call = large if alone else min(call, max(1, len(work) // workers))
        for size in _sizes(end - start, min(call, begin or call), call, large, workers):
            yield work.slice(start, size)
            start += size


def _sizes(number: int, begin: int, call: int, large: int, workers: int) -> Iterator[int]:
    """Sizes that add up to ``number``: one ``begin`` for each worker, then ``large`` and ever smaller ones
    down to ``call``."""
    done = 0
    while left := number - done:
        # Each worker has a block at hand beside the one it works on.
        share = left // (2 * workers * call) * call
        begins = done < workers * begin
        size = min(begin if begins else max(call, min(large, share)), left)
        yield size
        done += size


def _block_sizes(work: pa.Table, specs: Sequence[FeatureSpec], calls: Calls) -> tuple[int, int]:
    """Work items of one model call, and of the largest block, of one group's work."""
    wanted = [specs[number] for number in pc.unique(pc.list_flatten(work["features"])).to_pylist()]
    reading = [spec for spec in wanted if media_inputs(spec)]
    if not reading:
        return _TEXTS_PER_CALL, _MOST_TEXTS
    reads = {(one.key, one.modality, one.prepare): one for spec in reading for one in media_inputs(spec)}
    decoded = sum(modalities.modality(one.modality).cost(one.prepare).bytes for one in reads.values())
    most = max(1, _BLOCK_BYTES // max(1, decoded))
    call = min(most, max(calls.rows(spec, class_of(spec)) for spec in reading))
    return call, call * max(1, min(_CALLS, _MOST_ITEMS // call, most // call))

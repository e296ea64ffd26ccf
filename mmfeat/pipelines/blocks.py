"""Units as blocks: one block is one decode task's work and one actor call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract.base import Model
from mmfeat.pipelines.batch import renderings
from mmfeat.pipelines.cost import trial
from mmfeat.schemas.spec import FeatureSpec

# What a model takes in one call, and how many calls' worth a block is where there is much to do: with
# fewer, hand-overs would cost more, and with more, rows would only come later.
_PICTURES_PER_CALL = Model.batch_size
_PICTURE_CALLS = 2
_TEXTS_PER_CALL = 128
_TEXT_CALLS = 4
# Pixels in flight are bounded too. They are estimated from what the renderings may hold at most.
_BLOCK_BYTES = 96 << 20


def split(units: pa.Table, specs: Sequence[FeatureSpec], workers: int) -> list[pa.Table]:
    """``units`` as blocks of one source each, in their order, but for the trial of captions, which is first.

    Blocks are whole model calls wherever there are enough units. Each source begins and ends with
    blocks of a single call, so that first rows come soon and no worker is left with a long last block
    while others are done. There are no fewer blocks than workers.
    """
    if first := trial(units, specs):
        rest = np.setdiff1d(np.arange(len(units)), first)
        parts = [units.take(pa.array(rows, pa.int64())) for rows in (first, rest)]
        return [block for part in parts for block in _blocks(part, specs, workers)]
    return list(_blocks(units, specs, workers))


def _blocks(units: pa.Table, specs: Sequence[FeatureSpec], workers: int) -> Iterator[pa.Table]:
    runs = pc.run_end_encode(units["source"].combine_chunks())
    start = 0
    for end, source in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):
        call, large = _block_sizes(source, specs)
        call = min(call, max(1, len(units) // workers))
        for size in _sizes(end - start, call, large, workers):
            yield units.slice(start, size)
            start += size


def _sizes(number: int, call: int, large: int, workers: int) -> Iterator[int]:
    """Sizes that add up to ``number``: of one ``call`` for each worker at both ends, ``large`` between."""
    done = 0
    while done < number:
        at_an_end = done < workers * call or number - done <= 2 * workers * large
        size = min(call if at_an_end else large, number - done)
        yield size
        done += size


def _block_sizes(source: str, specs: Sequence[FeatureSpec]) -> tuple[int, int]:
    """Units of one model call, and of the largest block."""
    wanted = [r for r in renderings(specs) if r.source == source]
    if not wanted:
        return _TEXTS_PER_CALL, _TEXTS_PER_CALL * _TEXT_CALLS
    frames = [r.sampling.most if r.sampling else 1 for r in wanted]
    pixels = sum(r.view.height * r.view.width * n for r, n in zip(wanted, frames, strict=True))
    most = max(1, _BLOCK_BYTES // (3 * pixels))
    call = max(1, _PICTURES_PER_CALL // max(frames))
    return min(call, most), min(call * _PICTURE_CALLS, most)

"""``python -m bench.readers``: clips by the two readers, speed and wrong frames by container, as a table.

Every frame of a clip carries its own number (tests/helpers/media_samples.py), so that a frame that was not
asked for is seen. Each reader takes 8 uniform frames of a clip of 120 frames of 848 x 480, one thread, from
memory. Rates are by CPU time.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from mmfeat.extract.modalities.decoders.video import render_clip
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.inputs import FrameSampling, PixelView
from mmfeat.schemas.media import MediaLimits

FRAMES, ASKED, SIZE = 120, 8, (480, 848)
_TESTS = Path(__file__).parent.parent / "tests"
_SECONDS = 1.0
_VIEW = PixelView(mode="bound", height=4096, width=4096)

Reader = Callable[[bytes], np.ndarray]


def main() -> None:
    """Print the table in Markdown."""
    sys.path.insert(0, str(_TESTS))
    from helpers.media_samples import KINDS, clip

    readers: dict[str, Reader] = {
        "PyAV": _mmfeat(None),
        "decord, alone": _decord,
        "decord, checked": _mmfeat("decord"),
    }
    print(f"| container and codec | {' | '.join(readers)} |")
    print("|---|" + "---|" * len(readers))
    for name, options in KINDS.items():
        data = clip(FRAMES, size=SIZE, **options)
        print(f"| {name} | {' | '.join(_cell(reader, data) for reader in readers.values())} |", flush=True)


def _mmfeat(reader: Literal["decord"] | None) -> Reader:
    sampling, limits = FrameSampling(count=ASKED), MediaLimits()
    read = partial(render_clip, sampling=sampling, views=[_VIEW], limits=limits, reader=reader)
    return lambda data: read(data)[0].pixels


def _decord(data: bytes) -> np.ndarray:
    import decord

    reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
    return reader.get_batch(_wanted()).asnumpy()


def _wanted() -> list[int]:
    return [(2 * i + 1) * FRAMES // (2 * ASKED) for i in range(ASKED)]


def _cell(reader: Reader, data: bytes) -> str:
    from helpers.media_samples import number_of

    try:
        found = [number_of(frame) for frame in reader(data)]
    except ItemError:
        return "`failed`"
    wrong = sum(one != other for one, other in zip(found, _wanted(), strict=True))
    said = f"{wrong} of {ASKED} wrong" if wrong else "all right"
    return f"{_rate(partial(reader, data)):.3g} clips/s, {said}"


def _rate(read: Callable[[], object]) -> float:
    """Calls a second of this process's CPU, whatever else the machine does."""
    read()
    calls, start = 0, time.process_time()
    while (spent := time.process_time() - start) < _SECONDS:
        read()
        calls += 1
    return calls / spent


if __name__ == "__main__":
    main()

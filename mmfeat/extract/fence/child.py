"""The child that decodes for ``process.py``: ``python -m mmfeat.extract.fence.child SOCKET``.

Both limits are the kernel's, so that they hold whatever C code does, with Python's lock or without it:
a timer whose signal ends the process, and a bound on the address space, at which allocations fail.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import pickle
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from functools import partial
from io import BufferedRWPair
from pathlib import Path
from typing import Any

import numpy as np

from mmfeat.extract import modalities
from mmfeat.extract.fence.decode import MediaRequest, Wanted, decode_media, packed
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.media import MediaLimits


def main() -> None:
    """Answer requests until the parent is gone."""
    # Ctrl-C reaches the whole process group; the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _load_decoders()
    # Nothing of it is garbage, and no collection needs to look through it while items are decoded.
    gc.freeze()
    with (
        socket.socket(fileno=int(sys.argv[1])) as line,
        line.makefile("rwb") as pipe,
        contextlib.suppress(BrokenPipeError, ConnectionResetError),
    ):
        pipe.write(b"ready\n")
        pipe.flush()
        while True:
            try:
                request, limits = pickle.load(pipe)
            except EOFError:
                return
            _answer(pipe, request, limits)


def _load_decoders() -> None:
    """Before the first item: loading them takes seconds and memory that are none of its own."""
    import av  # noqa: F401
    import simplejpeg  # noqa: F401
    from PIL import AvifImagePlugin

    from mmfeat.extract.modalities.decoders import image, sound, video  # noqa: F401

    # Items are decoded one per core; a thread per core for one picture is memory without gain.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    # The library below numpy takes its memory with the first product that is large enough.
    np.ones((256, 256)) @ np.ones((256, 256))


def _answer(pipe: BufferedRWPair, request: MediaRequest, limits: MediaLimits) -> None:
    """A line of JSON, then the arrays that it announces."""
    decoded = decode_media(request, limits, partial(_bounded, limits))
    failure = decoded.failure
    parts = [_packed(one, value) for one, value in zip(request.wanted, decoded.values, strict=False)]
    facts = {
        "content_hash": decoded.content_hash,
        "stamp": decoded.stamp,
        "values": [_announced(one) for one in parts],
        "failure": failure and [failure.stage, failure.reason],
        "seconds": decoded.seconds,
    }
    pipe.write(json.dumps(facts).encode() + b"\n")
    for one in parts:
        if isinstance(one, modalities.Packed):
            pipe.write(np.ascontiguousarray(one.data).data.cast("B"))
    pipe.flush()


def _packed(wanted: Wanted, value: Any) -> modalities.Packed | ItemError | None:
    if value is None or isinstance(value, ItemError):
        return value
    return packed(wanted, value)


def _announced(packed: modalities.Packed | ItemError | None) -> dict[str, Any] | None:
    if isinstance(packed, ItemError):
        return {"failure": [packed.stage, packed.reason]}
    if packed is None:
        return None
    return {"shape": packed.data.shape, "dtype": packed.data.dtype.name, "facts": packed.facts}


@contextlib.contextmanager
def _bounded(limits: MediaLimits) -> Iterator[None]:
    kept = resource.getrlimit(resource.RLIMIT_AS)
    most = _lower(_address_space() + limits.item_memory, kept[0])
    signal.setitimer(signal.ITIMER_REAL, limits.item_seconds)
    resource.setrlimit(resource.RLIMIT_AS, (most, kept[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, kept)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _address_space() -> int:
    """Bytes of this process, as RLIMIT_AS counts them: proc(5), ``statm``."""
    return int(Path("/proc/self/statm").read_bytes().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _lower(limit: int, other: int) -> int:
    return limit if other == resource.RLIM_INFINITY else min(limit, other)


if __name__ == "__main__":
    main()

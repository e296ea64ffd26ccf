"""Taking turns at a host: a bound on requests at once that holds across processes."""

from __future__ import annotations

import fcntl
import os
import random
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Hosts share this many queues, so that a data set of a million hosts leaves no million lock files.
_QUEUES = 1024


@contextmanager
def turn(folder: Path, host: str, at_once: int, sleep: Callable[[float], None]) -> Iterator[None]:
    """Wait until fewer than ``at_once`` holders have a turn at ``host``, and hold one.

    A turn is a file lock: the system takes it back from a process that dies.

    Args:
        folder: where the locks lie; those who share it take turns with each other.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    queue = zlib.crc32(host.lower().encode()) % _QUEUES
    while (held := _free_seat(folder, queue, at_once)) is None:
        sleep(random.uniform(0.02, 0.1))
    try:
        yield
    finally:
        os.close(held)


def _free_seat(folder: Path, queue: int, seats: int) -> int | None:
    for seat in range(seats):
        file = os.open(folder / f"{queue}-{seat}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
        else:
            return file
    return None

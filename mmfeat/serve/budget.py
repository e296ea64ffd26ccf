"""Bytes that a service holds for its clients at one time: bodies that arrive, answers on their way out."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mmfeat.serve.workers import Busy


class Budget:
    """So many bytes may be held. May be used from several threads.

    Attributes:
        total: bytes that may be held.
        held: bytes that are held now.
    """

    def __init__(self, total: int) -> None:
        self.total, self.held = total, 0
        self._lock = threading.Lock()

    @contextmanager
    def holding(self) -> Iterator[Held]:
        """What one request holds; it is let go of at the end of the block."""
        held = Held(self)
        try:
            yield held
        finally:
            self._add(-held.size)

    def _add(self, size: int) -> None:
        with self._lock:
            if size > 0 and self.held + size > self.total:
                raise Busy(
                    f"The service holds {self.held:,} bytes for others and may hold {self.total:,}.",
                    hint="Try again in a second, or ask for less at once.",
                )
            self.held += size


class Held:
    """The part of a budget that one request has taken.

    Attributes:
        size: in bytes.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget, self.size = budget, 0

    def take(self, size: int) -> None:
        """Hold ``size`` more bytes.

        Raises:
            Busy: they are not to be had now.
        """
        self._budget._add(size)
        self.size += size

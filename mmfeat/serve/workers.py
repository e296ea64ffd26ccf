"""Threads that make answers, with a bound on how many wait and how long one may take."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from mmfeat.schemas.errors import MmfeatError

T = TypeVar("T")


class Busy(MmfeatError):
    """As much as the service takes on is in work already."""


class TooSlow(MmfeatError):
    """The answer was not ready in time."""


class Workers:
    """Runs blocking work beside the event loop.

    Args:
        limit: work begun and not finished; what comes on top is refused.
        seconds: how long a caller waits. Work that was begun goes on to its end, and counts until then.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit, self._seconds = limit, seconds
        self._pool = ThreadPoolExecutor((os.cpu_count() or 1) + 4, thread_name_prefix="mmfeat-work")
        self._room = threading.Semaphore(limit)
        self._unfinished: set[Future[Any]] = set()

    @property
    def in_work(self) -> int:
        """Work begun and not finished, whether or not anybody still waits for it."""
        return len(self._unfinished)

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` gives.

        Raises:
            Busy: at the limit.
            TooSlow: after the time.
        """
        if not self._room.acquire(blocking=False):
            raise Busy(f"{self._limit} requests are in work.", hint="Try again in a second.")
        submitted = self._pool.submit(work)
        self._unfinished.add(submitted)
        submitted.add_done_callback(self._finished)
        future = asyncio.wrap_future(submitted)
        done, _ = await asyncio.wait({future}, timeout=self._seconds)
        if not done:
            _abandon(submitted, future)
            raise TooSlow(
                f"The answer was not ready within {self._seconds:g} seconds.",
                hint="Ask for less at once. A first search by text or image also loads a model: try again.",
            )
        return future.result()

    def _finished(self, work: Future[Any]) -> None:
        self._unfinished.discard(work)
        self._room.release()

    def close(self) -> None:
        """Start nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _abandon(submitted: Future[Any], future: asyncio.Future[Any]) -> None:
    """Nobody waits any more: work that has not begun never will, and no error is left unread."""
    submitted.cancel()
    future.add_done_callback(lambda f: f.cancelled() or f.exception())

"""What routes share: the store, the threads that read it, limits and counters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mmfeat.schemas.errors import StoreError
from mmfeat.serve.budget import Budget
from mmfeat.serve.live import LiveStore, View
from mmfeat.serve.metrics import Metrics
from mmfeat.serve.settings import Settings
from mmfeat.serve.workers import Workers

T = TypeVar("T")


@dataclass(frozen=True)
class Service:
    """One running service."""

    live: LiveStore
    workers: Workers
    settings: Settings
    metrics: Metrics
    budget: Budget

    async def ask(self, question: Callable[[View], T], snapshot: str | None = None) -> T:
        """The answer to ``question``, made beside the event loop from one view of the store.

        Files of an old state can go while it is read (an item was forgotten): then the question is
        asked again of the latest state.
        """

        def work() -> T:
            view = self.live.view(snapshot)
            try:
                return question(view)
            except StoreError:
                self.live.refresh()
                latest = self.live.view(snapshot)
                if latest is view:
                    raise
                return question(latest)

        return await self.workers.run(work)

"""How much a run may ask of a server, and how much it has asked."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from mmfeat.extract.base import Usage
from mmfeat.schemas.errors import SpendingCap
from mmfeat.schemas.server import SpendingConfig


class Meter:
    """Counts requests and tokens, and holds a run to its caps.

    A request counts once the server may charge for it: one that was turned away (429, 5xx) does not. A
    request that was sent and whose answer was lost counts as one, with as many tokens as it could cost.

    Tokens of a request are known when it is over. So before it is sent, it is taken to cost the largest
    prompt seen so far and all the new tokens it may make; the first one goes alone. The token cap can
    be passed only where a prompt is longer than every one before it, and then by that difference.
    """

    def __init__(self, caps: SpendingConfig) -> None:
        self._caps = caps
        self._requests = self._tokens = 0
        self._largest_prompt: int | None = None
        self._reserved_requests = self._reserved_tokens = 0
        self._changed = asyncio.Condition()
        self._known: dict[str, Usage] = defaultdict(Usage)

    def add_earlier(self, used: Usage) -> None:
        """Count what was spent in the same run before this process."""
        self._requests += used.requests
        self._tokens += used.prompt_tokens + used.new_tokens

    async def reserve(self, new_tokens: int) -> int:
        """Wait until one more request surely fits under the caps; gives the tokens held for it.

        Raises:
            SpendingCap: it does not fit even when every request under way is over.
        """
        async with self._changed:
            while not self._fits(tokens := (self._largest_prompt or 0) + new_tokens):
                if not self._reserved_requests:
                    raise self._reached()
                await self._changed.wait()
            self._reserved_requests += 1
            self._reserved_tokens += tokens
        return tokens

    async def settle(self, tokens: int, used: Usage | None, feature: str) -> None:
        """A request is over. ``tokens`` were held for it, ``used`` is what it cost: None if unknown."""
        async with self._changed:
            self._reserved_requests -= 1
            self._reserved_tokens -= tokens
            if used is None:
                self._requests += 1
                self._tokens += tokens
                self._known[feature] += Usage(1)
            else:
                self._requests += used.requests
                self._tokens += used.prompt_tokens + used.new_tokens
                self._known[feature] += used
                if used.prompt_tokens:
                    self._largest_prompt = max(self._largest_prompt or 0, used.prompt_tokens)
            self._changed.notify_all()

    def take(self, feature: str) -> Usage:
        """What is known to have been used for a feature since this was last called."""
        return self._known.pop(feature, Usage())

    def _fits(self, tokens: int) -> bool:
        caps = self._caps
        if caps.max_requests is not None and self._requests + self._reserved_requests >= caps.max_requests:
            return False
        if caps.max_tokens is None:
            return True
        if self._largest_prompt is None and self._reserved_requests:
            return False
        return self._tokens + self._reserved_tokens + tokens <= caps.max_tokens

    def _reached(self) -> SpendingCap:
        caps = self._caps
        if caps.max_requests is not None and self._requests >= caps.max_requests:
            return SpendingCap(f"the spending cap of {caps.max_requests:,} requests is reached")
        return SpendingCap(
            f"the spending cap of {caps.max_tokens:,} tokens is reached: {self._tokens:,} are spent, "
            "and another request could pass it"
        )

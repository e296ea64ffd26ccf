"""A vector of each token by vLLM in Ray Data, whose stage has no name for that task of the pooling runner
(Ray 2.60 knows ``embed``, ``classify`` and ``score``).

The stage is Ray's own, and its requests say ``token_embed`` in the place of ``embed``: a model that vLLM
converts for the one serves the other too (its page "Pooling models", from version 0.11). This has never been
run with vLLM: no GPU was at hand.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from ray.llm._internal.batch.stages.vllm_engine_stage import vLLMEngineStageUDF

_TASK = "token_embed"


class TokenVectors(vLLMEngineStageUDF):
    """Ray's stage of vLLM's engine, which asks for a vector of each token."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        engine: Any = self.llm
        engine._prepare_llm_request = partial(of_tokens, engine._prepare_llm_request)


async def of_tokens(prepare: Callable[[dict[str, Any]], Awaitable[Any]], row: dict[str, Any]) -> Any:
    """The request that Ray prepares of a row, for the vectors of its tokens."""
    request = await prepare(row)
    request.params.task = _TASK
    return request

"""How a model server is asked, and how much it may be asked. None of it changes a value."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mmfeat.schemas.frozen import Seconds

#: Folder of a store that keeps a server's answers until their rows are committed. They may hold what an
#: item showed, so forgetting removes them too.
ANSWERS_FOLDER = "_requests"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerConfig(_Part):
    """``[server]``: the OpenAI-compatible server that ``openai`` asks: captioner, transcriber and encoder.

    Attributes:
        base_url: such as ``http://localhost:8000/v1``; the environment's ``OPENAI_BASE_URL`` when unset.
        api_key_env: the environment variable that holds the key, if the server wants one; on a cluster,
            in the environment of its nodes.
        concurrency: requests under way at a time, over all features of the run.
        timeout: seconds for one request, from sending it to the last byte of its answer.
        wait_seconds: how long a server is waited for that is in trouble, since its last answer to anybody;
            5 minutes when unset, or 10 seconds if nobody has ever answered there. Then the run stops.
        vectors_per_request: texts that one request asks vectors for, at most, where its form has room for
            several.
    """

    base_url: str | None = None
    api_key_env: str = Field(default="OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    concurrency: int = Field(default=8, gt=0, le=1024)
    timeout: Seconds = 120.0
    wait_seconds: float | None = Field(default=None, ge=0, le=1e6)
    vectors_per_request: int = Field(default=16, gt=0, le=2048)

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, url: str | None) -> str | None:
        return None if url is None else plain_address(url)


class SpendingConfig(_Part):
    """``[spending]``: what a run may ask of a server at most, and what that costs.

    Attributes:
        max_requests, max_tokens: caps of one run (tokens of prompts and replies together). At a cap the
            run stops with exit code 3, and the next run goes on from there with caps of its own. Requests
            that were turned away (429, 5xx) do not count, lost answers do. Tokens pass their cap only if a
            prompt is longer than all before it, by the difference.
        prompt_price, new_price: of a million tokens read and generated, in a currency of your own, for
            the estimate and the report of every captioner that counts tokens.
    """

    max_requests: int | None = Field(default=None, gt=0)
    max_tokens: int | None = Field(default=None, gt=0)
    prompt_price: float | None = Field(default=None, ge=0)
    new_price: float | None = Field(default=None, ge=0)

    @property
    def capped(self) -> bool:
        """Whether there is a cap."""
        return self.max_requests is not None or self.max_tokens is not None

    def money(self, prompt_tokens: int, new_tokens: int) -> float | None:
        """What so many tokens cost; None if no price is given."""
        if self.prompt_price is None and self.new_price is None:
            return None
        return ((self.prompt_price or 0) * prompt_tokens + (self.new_price or 0) * new_tokens) / 1e6


#: Settings of vLLM's engine that use the machine and change no value.
ENGINE_SETTINGS = frozenset(
    {
        "data_parallel_size",
        "disable_log_stats",
        "enable_chunked_prefill",
        "enable_prefix_caching",
        "enforce_eager",
        "gpu_memory_utilization",
        "limit_mm_per_prompt",
        "max_model_len",
        "max_num_batched_tokens",
        "max_num_seqs",
        "pipeline_parallel_size",
        "tensor_parallel_size",
    }
)


class VllmConfig(_Part):
    """``[vllm]``: how captioner and encoder ``vllm`` use a cluster.

    Attributes:
        replicas: engines of every such feature.
        batch_size: rows that an engine is given at a time.
        accelerator: Ray's name for the kind of GPU, such as ``H100``; any when unset.
        engine: settings of vLLM's engine by its own names, of those that change no value.
    """

    replicas: int = Field(default=1, gt=0, le=1 << 16)
    batch_size: int = Field(default=32, gt=0, le=1 << 20)
    accelerator: str | None = None
    engine: dict[str, Any] = Field(default_factory=dict)

    @field_validator("engine")
    @classmethod
    def _of_the_machine(cls, engine: dict[str, Any]) -> dict[str, Any]:
        if strange := sorted(engine.keys() - ENGINE_SETTINGS):
            raise ValueError(
                f"{strange[0]!r} is not among the settings that change no value: "
                + ", ".join(sorted(ENGINE_SETTINGS))
            )
        return engine


class Sending(_Part):
    """What a run's processes must know to ask a server.

    Attributes:
        run_id: whose requests count against the caps.
        journal: where answers are kept until their rows are committed; nowhere when None.
    """

    run_id: str = ""
    server: ServerConfig = ServerConfig()
    spending: SpendingConfig = SpendingConfig()
    journal: str | None = None


def plain_address(url: str) -> str:
    """A server's address without the slash at its end.

    Raises:
        ValueError: it is no http(s) address, or holds a name, a password or a query: those are where
            keys hide, and an address is shown in messages.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("give the server's address as http://HOST/v1 or https://HOST/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "the server's address may hold no name, password or query; keys come from the environment"
        )
    return url.rstrip("/")

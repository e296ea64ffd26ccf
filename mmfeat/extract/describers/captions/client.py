"""One connection to an OpenAI-compatible chat server: bounded, patient, and no answer is paid for twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import count
from typing import Any

from mmfeat.extract.base import Usage
from mmfeat.extract.describers.captions.answers import Answered, Trouble, after_last_attempt, read_answer
from mmfeat.extract.describers.captions.chat import Reply
from mmfeat.extract.describers.captions.journal import Journal
from mmfeat.extract.describers.captions.spending import Meter
from mmfeat.schemas.errors import (
    ConfigError,
    ItemError,
    MissingExtra,
    MmfeatError,
    NotAsked,
    ServerRefused,
    StoreError,
)
from mmfeat.schemas.server import Sending, ServerConfig, plain_address

_URL_ENV = "OPENAI_BASE_URL"
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 60.0
# A server that asks for more patience than this is better asked by another run.
_LONGEST_RETRY_AFTER = 600.0


@dataclass(frozen=True)
class Request:
    """One question for a server.

    Attributes:
        feature: fingerprint of the version it is for.
        digest: of everything that is sent.
        body: makes the JSON body; called only if it is sent.
        max_new_tokens: the most tokens that the answer may have.
    """

    feature: str
    digest: str
    body: Callable[[], dict[str, Any]]
    max_new_tokens: int


@lru_cache(maxsize=1)
def client_of(sending: Sending) -> Client:
    """The process's client for a run: its caps and its concurrency are for all features together."""
    return Client(sending)


class Client:
    """Sends chat completion requests, several at a time.

    Raises:
        ConfigError: there is no server address, or what is given is none.
        MissingExtra: httpx is not installed.
    """

    def __init__(self, sending: Sending) -> None:
        try:
            import httpx
        except ImportError:
            raise MissingExtra("The captioner 'openai'", "openai", "httpx") from None
        server = sending.server
        self._run_id = sending.run_id
        self._url = server_address(server)
        # Read where it is used and kept nowhere else: what a run hands to its processes may be stored.
        self._key = _key(server.api_key_env)
        self._timeout = server.timeout
        self._caps = sending.spending
        self._journal = Journal(sending.journal) if sending.journal else None
        self._meter = Meter(sending.spending)
        self._counted: set[str] = set()
        self._limit_name = "max_tokens"
        self._slots = asyncio.Semaphore(server.concurrency)
        self._why: MmfeatError | None = None
        self._stopped = asyncio.Event()
        self._http = httpx.AsyncClient(
            base_url=self._url,
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            # httpx bounds each read alone; a whole request is bounded where it is made.
            timeout=None,
            limits=httpx.Limits(max_connections=server.concurrency),
        )
        self._loop = asyncio.Runner()

    def ask(self, requests: Sequence[Request]) -> list[Reply | ItemError]:
        """One outcome per request, in order.

        An item's own trouble is an ItemError. After what concerns every request (a wrong key, a dead
        server, a spending cap) those without an answer are NotAsked, and so are all that follow.
        """
        return self._loop.run(self._all(requests))

    def sent(self, feature: str) -> Usage:
        """What was sent for a feature since this was last called."""
        return self._meter.take(feature)

    async def _all(self, requests: Sequence[Request]) -> list[Reply | ItemError]:
        for feature in {request.feature for request in requests} - self._counted:
            self._count_earlier(feature)
        return await asyncio.gather(*(self._outcome(request) for request in requests))

    def _count_earlier(self, feature: str) -> None:
        """Count what a process of this run spent that has died since."""
        self._counted.add(feature)
        if self._journal is not None and self._caps.capped:
            for entry in self._journal.entries(feature):
                if entry["run"] == self._run_id:
                    self._meter.add_earlier(Usage(**entry["usage"]))

    async def _outcome(self, request: Request) -> Reply | ItemError:
        async with self._slots:
            try:
                if kept := self._kept(request):
                    return kept
                if self._why is not None:
                    return NotAsked(self._why)
                answered = await self._sent(request)
            except ItemError as error:
                return error
            except MmfeatError as error:
                return NotAsked(self._stop(error))
            await self._keep(request, answered)
            if self._caps.max_tokens is not None and not answered.counted:
                self._stop(_uncounted(self._url))
            return answered.outcome

    def _stop(self, why: MmfeatError) -> MmfeatError:
        self._why = self._why or why
        self._stopped.set()
        return self._why

    def _kept(self, request: Request) -> Reply | ItemError | None:
        entry = self._journal.get(request.feature, request.digest) if self._journal else None
        if entry is None:
            return None
        return Reply(**entry["reply"]) if "reply" in entry else ItemError("caption", entry["failed"])

    async def _keep(self, request: Request, answered: Answered) -> None:
        if self._journal is None:
            return
        said = answered.outcome
        body = {"reply": asdict(said)} if isinstance(said, Reply) else {"failed": said.reason}
        entry = {"run": self._run_id, "usage": asdict(answered.usage), **body}
        try:
            await asyncio.to_thread(self._journal.put, request.feature, request.digest, entry)
        except StoreError as error:
            # This answer still goes to its row; without a journal, no further one may be bought.
            self._stop(error)

    async def _sent(self, request: Request) -> Answered:
        """The answer, after as many attempts as its trouble is worth."""
        body = await asyncio.to_thread(request.body)
        lost = Usage()
        for attempt in count(1):
            try:
                answered = await self._attempt(request, body)
                return replace(answered, usage=answered.usage + lost)
            except Trouble as trouble:
                if trouble.may_cost:
                    lost += Usage(1)
                if attempt >= trouble.attempts or (trouble.wait or 0) > _LONGEST_RETRY_AFTER:
                    raise after_last_attempt(trouble, attempt, self._url) from None
                await self._pause(attempt, trouble)
        raise AssertionError("the last attempt returns or raises")

    async def _pause(self, attempt: int, trouble: Trouble) -> None:
        """Wait as long as the server asks, else at random up to twice as long after every attempt: many
        that were turned away together must not come back together."""
        ceiling = min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt)
        wait = random.uniform(ceiling / 2, ceiling) if trouble.wait is None else trouble.wait
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), wait)
        if self._why is not None:
            raise self._why

    async def _attempt(self, request: Request, body: dict[str, Any]) -> Answered:
        held = await self._meter.reserve(request.max_new_tokens)
        used: Usage | None = Usage()
        try:
            answered = await self._post(body, request.max_new_tokens)
            used = answered.usage if answered.counted else None
        except Trouble as trouble:
            used = None if trouble.may_cost else Usage()
            raise
        finally:
            await self._meter.settle(held, used, request.feature)
        return answered

    async def _post(self, body: dict[str, Any], max_new_tokens: int) -> Answered:
        import httpx

        began = time.perf_counter()
        sent = {**body, self._limit_name: max_new_tokens}
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._http.post("/chat/completions", json=sent)
        except TimeoutError:
            raise Trouble(f"no answer within {self._timeout:g} s", attempts=2, may_cost=True) from None
        except httpx.ConnectError as error:
            reason = self._without_key(str(error)) or "no connection"
            raise Trouble(reason, attempts=5, of_server=True) from None
        except httpx.RequestError as error:
            reason = f"the connection broke: {self._without_key(str(error)) or type(error).__name__}"
            raise Trouble(reason, attempts=4, may_cost=True) from None
        said = self._without_key(response.text)
        if response.status_code == 400 and "max_tokens" in sent and "max_completion_tokens" in said:
            # The newer name of the same limit; servers know one, the other or both.
            self._limit_name = "max_completion_tokens"
            raise Trouble("the server wants the limit by its newer name", attempts=8, wait=0.0)
        return read_answer(
            response.status_code, response.headers, said, time.perf_counter() - began, self._url
        )

    def _without_key(self, text: str) -> str:
        """A server's words, which may repeat what it was sent."""
        return text.replace(self._key, "***") if self._key else text


def server_address(server: ServerConfig) -> str:
    """The server that is meant: what the job says, else the environment.

    Raises:
        ConfigError: neither says anything, or the environment what is no address.
    """
    url = server.base_url or os.environ.get(_URL_ENV, "").strip()
    if not url:
        raise ConfigError(
            "the captioner 'openai' has no server to ask",
            hint=f"Set base_url in [server], --base-url, or {_URL_ENV} in the environment.",
        )
    try:
        return plain_address(url)
    except ValueError as error:
        raise ConfigError(f"{_URL_ENV}: {error}.") from None


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(f"the environment variable {variable} holds something that can be no key")
    return key


def _uncounted(url: str) -> ServerRefused:
    return ServerRefused(
        f"the server at {url} does not say how many tokens it used, so no cap on tokens can hold",
        hint="Set max_requests instead of max_tokens.",
    )

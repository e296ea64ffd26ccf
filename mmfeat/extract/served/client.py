"""One connection to an OpenAI-compatible server: bounded, patient, and no answer is paid for twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import time
import zlib
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import count, groupby
from typing import TYPE_CHECKING, Any, ClassVar

from mmfeat.extract.base import Usage
from mmfeat.extract.served.answers import (
    Answered,
    Refusal,
    Trouble,
    at_fault,
    refused_alike,
    unavailable,
)
from mmfeat.extract.served.journal import Journal
from mmfeat.extract.served.reply import Reply
from mmfeat.extract.served.spending import Meter
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

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("mmfeat.server")

_URL_ENV = "OPENAI_BASE_URL"
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 30.0
# A large model takes minutes to load.
_PATIENCE = 300.0
# An address at which nobody has ever answered is more likely wrong than in trouble.
_FIRST_CONTACT_PATIENCE = 10.0
# Far more than any caption with its reasoning.
_MOST_BYTES = 16 << 20
# So often a person hears that a server is waited for.
_SAY_SECONDS = 30.0
_PROBE_TOKENS = 16


class Endpoint(ABC):
    """One kind of question that a server answers, at an address of its own."""

    path: ClassVar[str]

    @abstractmethod
    def sent(self, body: dict[str, Any], limit: dict[str, int]) -> dict[str, Any]:
        """A body as httpx sends it, with the limit of new tokens where such a question has one."""

    @abstractmethod
    def simple(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body of something that the server can surely answer, if it answers any such body."""

    @abstractmethod
    def read(
        self, status: int, headers: Mapping[str, str], body: str, seconds: float, url: str, most_tokens: int
    ) -> Answered:
        """See :func:`~mmfeat.extract.served.answers.read_answer`."""

    def joined(self, requests: Sequence[Request]) -> Request:
        """Several requests of this kind as one, whose answer holds an outcome of each."""
        raise NotImplementedError(f"{self.path} takes one question a request")


@dataclass(frozen=True)
class Request:
    """One question for a server.

    Attributes:
        feature: fingerprint of the version it is for.
        digest: of everything that is sent.
        body: makes the body; called only if it is sent.
        max_new_tokens: the most tokens that the answer may have.
        endpoint: which kind of question it is.
        at_once: how many such requests may be sent as one.
        stands_for: how many are.
    """

    feature: str
    digest: str
    body: Callable[[], dict[str, Any]]
    max_new_tokens: int
    endpoint: Endpoint
    at_once: int = 1
    stands_for: int = 1


@lru_cache(maxsize=1)
def client_of(sending: Sending) -> Client:
    """The process's client for a run: its caps and its concurrency are for all features together."""
    return Client(sending)


class Client:
    """Sends requests, several at a time.

    Raises:
        ConfigError: there is no server address, or what is given is none.
        MissingExtra: httpx is not installed.
    """

    def __init__(self, sending: Sending) -> None:
        try:
            import httpx
        except ImportError:
            raise MissingExtra("Asking a model on a server", "openai", "httpx") from None
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
        self._patience = server.wait_seconds
        self._reached = False
        self._said = float("-inf")
        self._answers = 0
        self._trouble_since: float | None = None
        self._accepted: set[str] = set()
        self._refusals: dict[str, Counter[str]] = defaultdict(Counter)
        self._traffic = asyncio.Condition()
        self._under_way, self._one_alone = 0, False
        self._slots = asyncio.Semaphore(server.concurrency)
        self._why: MmfeatError | None = None
        self._stopped = asyncio.Event()
        self._http = httpx.AsyncClient(
            base_url=self._url,
            headers={
                **({"Authorization": f"Bearer {self._key}"} if self._key else {}),
                # A packed answer of a few bytes may be gigabytes.
                "Accept-Encoding": "identity",
            },
            # httpx bounds each read alone; a whole request is bounded where it is made.
            timeout=None,
            limits=httpx.Limits(max_connections=server.concurrency),
        )
        self._loop = asyncio.Runner()

    def ask(self, requests: Sequence[Request]) -> list[Reply | ItemError]:
        """One outcome per request, in order.

        An item's own trouble is an ItemError. After what concerns every request (a wrong key, a setting
        that the server takes of nobody, a dead server, a spending cap) those without an answer are
        NotAsked, and so are all that follow.
        """
        return self._loop.run(self._all(requests))

    def sent(self, feature: str) -> Usage:
        """What was sent for a feature since this was last called."""
        return self._meter.take(feature)

    async def _all(self, requests: Sequence[Request]) -> list[Reply | ItemError]:
        for feature in {request.feature for request in requests} - self._counted:
            self._count_earlier(feature)
        groups = await asyncio.gather(*(self._outcomes(group) for group in _groups(requests)))
        outcomes = [outcome for of_group in groups for outcome in of_group]
        return [self._judged(one, outcome) for one, outcome in zip(requests, outcomes, strict=True)]

    def _judged(self, request: Request, outcome: Reply | ItemError) -> Reply | ItemError:
        """The outcome; NotAsked in the place of a refusal that turned out to be that of all."""
        if not isinstance(outcome, Refusal):
            return outcome
        times = self._refusals[request.feature][outcome.alike]
        if isinstance(self._why, ServerRefused) and times >= outcome.times:
            return NotAsked(self._why)
        return ItemError(outcome.stage, outcome.reason)

    def _count_earlier(self, feature: str) -> None:
        """Count what a process of this run spent that has died since."""
        self._counted.add(feature)
        if self._journal is not None and self._caps.capped:
            for entry in self._journal.entries(feature):
                if entry["run"] == self._run_id:
                    self._meter.add_earlier(Usage(**entry["usage"]))

    async def _outcomes(self, group: Sequence[Request]) -> list[Reply | ItemError]:
        """Those of requests that may be sent as one; what is kept of them is not sent."""
        async with self._slots:
            try:
                kept = [self._kept(request) for request in group]
            except MmfeatError as error:
                return [NotAsked(self._stop(error)) for _ in group]
            if any(kept):
                self._accepted.add(group[0].feature)
            left = [request for request, found in zip(group, kept, strict=True) if found is None]
            answers = iter(await self._answers_to(left) if left else ())
            return [next(answers) if found is None else found for found in kept]

    async def _answers_to(self, requests: Sequence[Request]) -> list[Reply | ItemError]:
        """Those of requests that are sent as one. Where that is not taken, each half of them is tried: one of
        them may be at fault."""
        try:
            if self._why is not None:
                raise self._why
            first = requests[0]
            answered = await self._sent(first if len(requests) == 1 else first.endpoint.joined(requests))
        except ItemError as error:
            return [error] if len(requests) == 1 else await self._halves(requests)
        except MmfeatError as error:
            return [NotAsked(self._stop(error)) for _ in requests]
        if len(requests) > 1 and not answered.is_completion:
            return await self._halves(requests)
        outcomes = [answered.outcome, *answered.others]
        for number, (request, outcome) in enumerate(zip(requests, outcomes, strict=True)):
            await self._keep(request, outcome, Usage() if number else answered.usage)
        if self._caps.max_tokens is not None and not answered.counted:
            self._stop(_uncounted(self._url))
        return outcomes

    async def _halves(self, requests: Sequence[Request]) -> list[Reply | ItemError]:
        half = len(requests) // 2
        return [*await self._answers_to(requests[:half]), *await self._answers_to(requests[half:])]

    def _stop(self, why: MmfeatError) -> MmfeatError:
        self._why = self._why or why
        self._stopped.set()
        return self._why

    def _kept(self, request: Request) -> Reply | ItemError | None:
        entry = self._journal.get(request.feature, request.digest) if self._journal else None
        if entry is None:
            return None
        return Reply(**entry["reply"]) if "reply" in entry else ItemError("caption", entry["failed"])

    async def _keep(self, request: Request, said: Reply | ItemError, usage: Usage) -> None:
        if self._journal is None:
            return
        if isinstance(said, Refusal) and request.feature not in self._accepted:
            # It may be that of every request, which is no item's answer.
            return
        body = {"reply": said.kept()} if isinstance(said, Reply) else {"failed": said.reason}
        entry = {"run": self._run_id, "usage": asdict(usage), **body}
        try:
            await asyncio.to_thread(self._journal.put, request.feature, request.digest, entry)
        except StoreError as error:
            # This answer still goes to its row; without a journal, no further one may be bought.
            self._stop(error)

    def _count_refusal(self, request: Request, refusal: Refusal) -> None:
        """ServerRefused where the first requests of a feature are all refused for one reason.

        What stands for several is tried again in halves, and counted then.
        """
        if request.feature in self._accepted or request.stands_for > 1:
            return
        alike = self._refusals[request.feature]
        alike[refusal.alike] += 1
        if alike[refusal.alike] >= refusal.times:
            raise refused_alike(refusal, alike[refusal.alike], self._url)

    async def _sent(self, request: Request) -> Answered:
        """The answer, however long it takes that the server gives one.

        Raises:
            ServerUnavailable: it gave none for as long as the job waits.
            ItemError: it gives none to this request, and some to others.
        """
        body = await asyncio.to_thread(request.body)
        lost, answers, before, is_suspect = Usage(), 0, 0, False
        for attempt in count(1):
            try:
                async with self._in_turn(request, is_suspect):
                    before = self._answers
                    answered = await self._attempt(request, body)
                    if answered.is_completion:
                        self._accepted.add(request.feature)
                if isinstance(answered.outcome, Refusal):
                    self._count_refusal(request, answered.outcome)
                return replace(answered, usage=answered.usage + lost)
            except Refusal as refusal:
                self._trouble_since = None
                self._count_refusal(request, refusal)
                raise
            except ServerRefused as refused:
                # What stands between us and the server may take offence at one request alone.
                if request.feature not in self._accepted or not await self._probe(request, body):
                    raise
                raise Refusal("caption", refused.message) from None
            except Trouble as trouble:
                if attempt == 1:
                    answers = before = self._answers
                if self._trouble_since is None:
                    self._trouble_since = time.monotonic()
                self._reached |= trouble.reached
                if trouble.may_cost:
                    lost += Usage(1)
                if not trouble.of_server and attempt >= trouble.attempts:
                    # Others were answered after this one's first trouble, and before it was sent again.
                    if before > answers:
                        its_own = at_fault(trouble, attempt)
                        self._count_refusal(request, its_own)
                        raise its_own from None
                    if self._answers == answers:
                        await self._probe(request, body)
                is_suspect = not trouble.of_server and attempt + 1 >= trouble.attempts
                if not trouble.at_once:
                    await self._wait(attempt, trouble)
        raise AssertionError("an attempt returns, raises or is followed by another")

    @contextlib.asynccontextmanager
    async def _in_turn(self, request: Request, is_suspect: bool) -> AsyncIterator[None]:
        """A time to send one request, beside others or alone.

        Until the first request of a feature is taken they go one by one, so that few have been sent when it
        shows that none will be. And a request that is about to be called at fault is sent alone before: with
        many others at work, a server may be too slow for it.
        """
        alone = False
        try:
            async with self._traffic:
                await self._traffic.wait_for(lambda: not self._one_alone)
                if self._why is not None:
                    raise self._why
                alone = self._one_alone = is_suspect or request.feature not in self._accepted
                await self._traffic.wait_for(lambda: not (alone and self._under_way))
                self._under_way += 1
            try:
                yield
            finally:
                self._under_way -= 1
        finally:
            self._one_alone = self._one_alone and not alone
            async with self._traffic:
                self._traffic.notify_all()

    async def _probe(self, request: Request, body: dict[str, Any]) -> bool:
        """Ask the server something simple; gives whether it answers that. Then a request that it does not
        answer is at fault itself.

        Raises:
            ServerRefused: it takes nothing of us.
        """
        simple = request.endpoint.simple(body)
        try:
            await self._attempt(replace(request, max_new_tokens=_PROBE_TOKENS), simple)
        except Refusal:
            self._answers, self._trouble_since = self._answers + 1, None
        except Trouble:
            return False
        return True

    async def _wait(self, attempt: int, trouble: Trouble) -> None:
        """Wait as long as the server asks, or at random up to twice as long after every attempt: many that
        were turned away together must not come back together.

        Raises:
            ServerUnavailable: the server was waited for long enough, or asks for more.
        """
        patience = self._patience
        if patience is None:
            patience = _PATIENCE if self._reached else _FIRST_CONTACT_PATIENCE
        # Of all requests together: what an answer to any of them ends.
        waited = 0.0 if self._trouble_since is None else time.monotonic() - self._trouble_since
        if waited >= patience or waited + (trouble.wait or 0) > patience:
            raise unavailable(trouble, attempt, waited, self._url)
        if attempt > 1 and time.monotonic() - self._said >= _SAY_SECONDS:
            self._said = time.monotonic()
            log.warning(
                "Waiting for the server at %s, for %.0f s at most: %s", self._url, patience, trouble.reason
            )
        ceiling = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(attempt, 16))
        wait = min(random.uniform(ceiling / 2, ceiling), patience - waited)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), max(wait, trouble.wait or 0))
        if self._why is not None:
            raise self._why

    async def _attempt(self, request: Request, body: dict[str, Any]) -> Answered:
        held = await self._meter.reserve(request.max_new_tokens)
        used: Usage | None = Usage()
        try:
            answered = await self._post(request.endpoint, body, request.max_new_tokens)
            used = answered.usage if answered.counted else None
            if answered.is_completion:
                self._reached = True
                self._answers, self._trouble_since = self._answers + 1, None
        except Trouble as trouble:
            used = None if trouble.may_cost else Usage()
            raise
        finally:
            await self._meter.settle(held, used, request.feature)
        return answered

    async def _post(self, endpoint: Endpoint, body: dict[str, Any], max_new_tokens: int) -> Answered:
        import httpx

        began = time.perf_counter()
        sent = endpoint.sent(body, {self._limit_name: max_new_tokens})
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream("POST", endpoint.path, **sent) as response,
            ):
                data = await _whole(response)
        except TimeoutError:
            reason = f"no answer within {self._timeout:g} s"
            raise Trouble(reason, attempts=2, may_cost=True, reached=False) from None
        except httpx.ConnectError as error:
            reason = self._without_key(str(error)) or "no connection"
            raise Trouble(reason, of_server=True, reached=False) from None
        except httpx.RequestError as error:
            reason = f"the connection broke: {self._without_key(str(error)) or type(error).__name__}"
            raise Trouble(reason, may_cost=True) from None
        said = self._without_key(data.decode(json.detect_encoding(data), "replace").removeprefix("\ufeff"))
        by_old_name = "max_tokens" in sent.get("json", ())
        if response.status_code == 400 and by_old_name and "max_completion_tokens" in said:
            # The newer name of the same limit; servers know one, the other or both.
            self._limit_name = "max_completion_tokens"
            raise Trouble("the server wants the limit by its newer name", of_server=True, at_once=True)
        seconds = time.perf_counter() - began
        return endpoint.read(response.status_code, response.headers, said, seconds, self._url, max_new_tokens)

    def _without_key(self, text: str) -> str:
        """A server's words, which may repeat what it was sent."""
        return text.replace(self._key, "***") if self._key else text


def _groups(requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
    """Requests in their order, those together that may be sent as one."""
    for (_, _, most), alike in groupby(
        requests, key=lambda one: (one.feature, one.endpoint.path, one.at_once)
    ):
        mine = list(alike)
        yield from (mine[start : start + most] for start in range(0, len(mine), most))


async def _whole(response: httpx.Response) -> bytes:
    """The body, unpacked.

    Raises:
        Trouble: it has no end that we would wait for, or comes packed as nobody asked for.
    """
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > _MOST_BYTES:
            raise _too_large()
    packed = response.headers.get("content-encoding", "").strip().lower()
    if packed in ("", "identity"):
        return bytes(data)
    if packed not in ("gzip", "x-gzip", "deflate"):
        raise Trouble(f"the server packs its answers ({packed[:20]}), which nobody asked for", may_cost=True)
    try:
        # Window bits that read both headers.
        unpacked = zlib.decompressobj(wbits=47).decompress(bytes(data), _MOST_BYTES + 1)
    except zlib.error:
        raise Trouble("the server's answer cannot be unpacked", may_cost=True) from None
    if len(unpacked) > _MOST_BYTES:
        raise _too_large()
    return unpacked


def _too_large() -> Trouble:
    return Trouble(f"the server's answer is larger than {_MOST_BYTES >> 20} MiB", attempts=2, may_cost=True)


def server_address(server: ServerConfig) -> str:
    """The server that is meant: what the job says, else the environment.

    Raises:
        ConfigError: neither says anything, or the environment what is no address.
    """
    url = server.base_url or os.environ.get(_URL_ENV, "").strip()
    if not url:
        raise ConfigError(
            "'openai' has no server to ask",
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

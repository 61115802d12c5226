"""Several Tritons behind one transport: each request goes where there is least to do, and around a server that is away.

A server is away when a connection to it breaks, or when it answers nothing for a while and others are there: what is in
flight there goes to another server at once, and nobody upstream hears of it. It is asked four times a second whether it
is back; then what it serves is checked again, and work comes back little by little (balance.py). Only when nobody is
left does a request fail. A server whose last answer is outstanding may still read shared memory: see flight.py.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, Self

from clients.errors import ConfigError, InferenceError, ModelError, ServerUnavailable
from clients.inference.balance import Balance
from clients.inference.server import EngineCounts, TritonLink
from clients.inference.transport import Request, Transport
from clients.logs import about
from clients.types import Detections, Tier

_LOOK_S = 0.25  # between two looks at a server
_SILENT_S = 0.5  # a server that says nothing for so long is away
log = logging.getLogger(__name__)


class Server(Protocol):
    """What a fleet asks of what serves it: one Triton, or several as one."""

    @property
    def alive(self) -> int:
        """How many servers answer, as far as is known."""

    async def is_ready(self) -> bool:
        """Whether any server answers and is ready."""

    async def engine_counts(self) -> EngineCounts:
        """What all engines have inferred. Raises ServerUnavailable, ModelError."""


class Endpoint:
    """One server of a pool. `offers` says what it may be used for, `opens` makes its transport, started."""

    def __init__(
        self,
        link: TritonLink,
        offers: Callable[[], Awaitable[tuple[Tier, ...]]],
        opens: Callable[[], Awaitable[Transport]],
    ) -> None:
        """`offers` raises InferenceError, and ConfigError when it serves what the others do not."""
        self.link = link
        self.complaint: str | None = None
        self._offers = offers
        self._opens = opens
        self._transport: Transport | None = None
        self._flying: set[asyncio.Task[Detections]] = set()
        self.answered_s = 0.0  # when it answered last

    async def ready(self) -> tuple[Tier, ...]:
        """Make it usable, for the first time or again; the tiers that it has. Raises InferenceError, ConfigError."""
        tiers = await self._offers()
        if self._transport is None:
            self._transport = await self._opens()
        else:
            await self._transport.start()
        return tiers

    async def infer(self, request: Request) -> Detections:
        """As a transport does. Raises ServerUnavailable too when it is `left` meanwhile."""
        if self._transport is None:
            raise ServerUnavailable(f"{self.link.url}: it has not been ready yet")
        task = asyncio.create_task(self._transport.infer(request))
        self._flying.add(task)
        try:
            await asyncio.wait({task})
        finally:
            self._flying.discard(task)
            task.cancel()  # what is done is not changed by it
        if task.cancelled():
            raise ServerUnavailable(f"{self.link.url}: it does not answer any more")
        found = task.result()
        self.answered_s = time.monotonic()
        return found

    def left(self) -> None:
        """Wait no longer for what is in flight here."""
        for task in self._flying:
            task.cancel()

    async def close(self) -> None:
        """Release its transport."""
        if self._transport is not None:
            await self._transport.close()


class Pool:
    """The transport over all endpoints, and the server that they are together. Use as an async context manager."""

    def __init__(self, endpoints: Sequence[Endpoint], cost_ms: Mapping[Tier, float]) -> None:
        """`cost_ms`: of one inference of each tier, for who has least to do."""
        self._endpoints = tuple(endpoints)
        self._balance = Balance(len(endpoints), cost_ms)
        self._watches: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Raises ServerUnavailable when no server can be used, ConfigError."""
        outcomes = await asyncio.gather(*(one.ready() for one in self._endpoints), return_exceptions=True)
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, InferenceError):
                log.warning("%s; the others do its work", outcome, extra=about("endpoint_away"))
            elif isinstance(outcome, BaseException):
                await self.close()
                raise outcome
            else:
                self._balance.begin(index, outcome)
        if not self._balance.alive:
            await self.close()
            await self.start()
        self._watches = [asyncio.create_task(self._watch(index)) for index in range(len(self._endpoints))]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def alive(self) -> int:
        """How many servers answer."""
        return self._balance.alive

    async def start(self) -> None:
        """Raises ServerUnavailable when nobody is there; what is needed to use a server was done when it came back."""
        if not self._balance.alive:
            raise ServerUnavailable(f"none of {', '.join(one.link.url for one in self._endpoints)} answers")

    async def infer(self, request: Request) -> Detections:
        """See Transport. A tier that no living server has is a ModelError: its cameras use the fallback."""
        asked: list[int] = []
        while (index := self._balance.take(request.tier, asked)) is not None:
            asked.append(index)
            answered = False
            try:
                found = await self._endpoints[index].infer(request)
                answered = True
            except ServerUnavailable as error:
                self._lost(index, str(error))
            else:
                return found
            finally:
                self._balance.over(index, request.tier, answered=answered)
        await self.start()
        raise ModelError(f"{request.tier}: no server that has it answers")

    async def close(self) -> None:
        """See Transport."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        self._watches = []
        await asyncio.gather(*(one.close() for one in self._endpoints))

    async def is_ready(self) -> bool:
        """Whether anybody is there."""
        return self._balance.alive > 0

    async def engine_counts(self) -> EngineCounts:
        """The sums over the servers that are alive. Raises ServerUnavailable, ModelError."""
        await self.start()
        alive = [one for index, one in enumerate(self._endpoints) if self._balance.is_alive(index)]
        return sum(await asyncio.gather(*(one.link.engine_counts() for one in alive)), EngineCounts(0, 0))

    async def _watch(self, index: int) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await (self._look if self._balance.is_alive(index) else self._try)(index)
            except Exception:  # a defect here must not cost the server for ever
                log.exception("%s could not be watched", self._endpoints[index].link.url)

    async def _look(self, index: int) -> None:
        """Whether it still answers. The last one is not given up for its silence: its requests tell."""
        endpoint, asked_s = self._endpoints[index], time.monotonic()
        if await endpoint.link.is_ready(_SILENT_S) or endpoint.answered_s >= asked_s or self._balance.alive == 1:
            return
        self._lost(index, f"{endpoint.link.url}: it is not ready any more, or silent")

    async def _try(self, index: int) -> None:
        """Whether it can be used again."""
        endpoint = self._endpoints[index]
        if not await endpoint.link.is_ready(_SILENT_S):
            return
        try:
            tiers = await endpoint.ready()
        except (InferenceError, ConfigError) as error:
            if str(error) != endpoint.complaint:
                log.error("%s is back and not used: %s", endpoint.link.url, error, extra=about("endpoint_refused"))
            endpoint.complaint = str(error)
            return
        endpoint.complaint = None
        self._balance.back(index, tiers)
        log.warning("%s is back and gets work little by little", endpoint.link.url, extra=about("endpoint_back"))

    def _lost(self, index: int, why: str) -> None:
        if self._balance.away(index):
            log.error("%s; servers that are left: %d", why, self._balance.alive, extra=about("endpoint_away"))
            self._endpoints[index].left()

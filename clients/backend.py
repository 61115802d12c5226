"""What answers a fleet's requests: one Triton with its transport, or several of them as one pool."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from clients.config import EndpointKeys, Settings, TransportName
from clients.errors import ConfigError, InferenceError, ServerUnavailable
from clients.inference.access import access_to
from clients.inference.choose import open_transport
from clients.inference.pool import Endpoint, Pool, Server
from clients.inference.server import TritonLink
from clients.inference.transport import Transport
from clients.serving import Served, name_missing, offered_by, served_by, server_of, wait_ready
from clients.shares import T4_COST_MS
from clients.types import Tier

_OTHERS_S = 2.0  # once a server of several is ready, how long the others may take to be there from the start
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backend:
    """What is served, by whom, and what carries the frames there; `name` is the transport's, of several all of them."""

    served: Served
    server: Server
    name: str
    transport: Transport


@asynccontextmanager
async def backend_of(settings: Settings, executor: Executor, window: int) -> AsyncIterator[Backend]:
    """What is configured, ready to be asked, with so many requests in flight. `executor` scales pictures.

    Raises ConfigError, ServerUnavailable, ModelError, and the launcher's errors when the embedded one cannot start.
    """
    if settings.triton.endpoints:
        async with _pool(settings, executor, window) as backend:
            yield backend
        return
    async with AsyncExitStack() as stack:
        url, access = await stack.enter_async_context(server_of(settings))
        timeout_s = settings.triton.timeout_ms / 1000
        link = await stack.enter_async_context(TritonLink(url, request_timeout_s=timeout_s, access=access))
        await wait_ready(link, settings.triton.ready_timeout_s)
        served = await served_by(link, settings)
        name, transport = await open_transport(settings, link, executor, window=window)
        stack.push_async_callback(transport.close)
        yield Backend(served, link, name, transport)


@asynccontextmanager
async def _pool(settings: Settings, executor: Executor, window: int) -> AsyncIterator[Backend]:
    access, timeout_s = access_to(settings.triton), settings.triton.timeout_ms / 1000
    async with AsyncExitStack() as stack:
        links = {}
        for keys in settings.triton.endpoints:
            link = TritonLink(keys.url, request_timeout_s=timeout_s, access=access)
            links[keys] = await stack.enter_async_context(link)
        await _first_ready(list(links.values()), settings.triton.ready_timeout_s)
        offers = await _offers(settings, links)
        served = merged(settings.tiers, offers)
        name_missing(settings, served.tiers)
        names: dict[str, TransportName] = {}
        endpoints = [_endpoint(settings, keys, link, served, executor, window, names) for keys, link in links.items()]
        pool = await stack.enter_async_context(Pool(endpoints, T4_COST_MS))
        yield Backend(served, pool, "+".join(sorted(set(names.values()))), pool)


def _endpoint(
    settings: Settings,
    keys: EndpointKeys,
    link: TritonLink,
    served: Served,
    executor: Executor,
    window: int,
    names: dict[str, TransportName],
) -> Endpoint:
    async def offers() -> tuple[Tier, ...]:
        offered = await offered_by(link, settings, _wanted(settings, keys))
        check_alike(served, offered, link.url)
        return offered.tiers

    async def opens() -> Transport:
        names[link.url], transport = await open_transport(settings, link, executor, window=window)
        return transport

    return Endpoint(link, offers, opens)


async def _first_ready(links: Sequence[TritonLink], timeout_s: float) -> None:
    """Until one is ready, and a little longer for the others. Raises ServerUnavailable."""
    waits = {asyncio.create_task(wait_ready(link, timeout_s)) for link in links}
    try:
        waiting = waits
        while waiting and not any(_is_ready(wait) for wait in waits):
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if waiting:
            await asyncio.wait(waiting, timeout=_OTHERS_S)
        if not any(_is_ready(wait) for wait in waits):
            urls = ", ".join(link.url for link in links)
            raise ServerUnavailable(f"no Triton is ready at {urls} after {timeout_s:g} s (triton.ready_timeout_s)")
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def _is_ready(wait: asyncio.Task[None]) -> bool:
    return wait.done() and not wait.cancelled() and wait.exception() is None


async def _offers(settings: Settings, links: Mapping[EndpointKeys, TritonLink]) -> dict[str, Served]:
    """What each server that is there offers, by its address. Raises ConfigError, ServerUnavailable."""
    offers: dict[str, Served] = {}
    for keys, link in links.items():
        try:
            if await link.is_ready():
                offers[link.url] = await offered_by(link, settings, _wanted(settings, keys))
        except InferenceError as error:
            log.warning("%s", error)
    if not offers:
        raise ServerUnavailable(f"none of {', '.join(link.url for link in links.values())} answers any more")
    return offers


def _wanted(settings: Settings, keys: EndpointKeys) -> tuple[Tier, ...]:
    return keys.tiers or settings.tiers


def merged(order: Sequence[Tier], offers: Mapping[str, Served]) -> Served:
    """What several servers offer together, tiers in this order. Raises ConfigError where two do not go together."""
    labels: dict[Tier, tuple[str, ...]] = {}
    batches: dict[Tier, int] = {}
    precisions: set[str] = set()
    for url, offered in offers.items():
        check_alike(Served((), labels, {}, ""), offered, url)
        precisions.add(offered.precision)
        for tier in offered.tiers:
            labels[tier] = offered.labels[tier]
            batches[tier] = batches.get(tier, 0) + offered.largest_batch[tier]
    tiers = tuple(tier for tier in order if tier in labels)
    if not tiers:
        raise ConfigError(f"triton.endpoints: none of {', '.join(order)} is used at any of {', '.join(offers)}")
    return Served(tiers, labels, {tier: batches[tier] for tier in tiers}, "/".join(sorted(precisions)))


def check_alike(served: Served, offered: Served, url: str) -> None:
    """Raises ConfigError when a server calls the classes of a tier otherwise than the rest does."""
    for tier in offered.tiers:
        known, told = served.labels.get(tier), offered.labels[tier]
        if known is not None and told != known:
            here, elsewhere = _few(told), _few(known)
            raise ConfigError(f"triton.endpoints: {url} serves {tier} with other classes ({here}; others {elsewhere})")


def _few(labels: Sequence[str]) -> str:
    return f"{len(labels)}: {', '.join(labels[:3])}{', …' if len(labels) > 3 else ''}"

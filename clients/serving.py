"""The server side of a fleet: which Triton, what it serves, and how much may be in flight there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from clients.config import Settings
from clients.errors import ConfigError, InferenceError, ServerUnavailable
from clients.fallback import resolve_tier
from clients.inference.access import Access, access_to
from clients.inference.pool import Server
from clients.inference.server import EngineCounts, TritonLink
from clients.shares import T4_COST_MS, TierLimits
from clients.types import Tier

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """What the server offers: the tiers that are ready, each one's class names and largest batch, the arithmetic.

    Of several servers, the largest batches of all that have the tier together.
    """

    tiers: tuple[Tier, ...]
    labels: Mapping[Tier, tuple[str, ...]]
    largest_batch: Mapping[Tier, int]
    precision: str


@asynccontextmanager
async def server_of(settings: Settings) -> AsyncIterator[tuple[str, Access]]:
    """host:port of the one configured Triton, or of an embedded one that lives as long as the context, and its access.

    Raises ConfigError for a key or certificate that is not there, and the launcher's errors when the embedded one
    cannot start.
    """
    if settings.triton.url is not None:
        yield settings.triton.url, access_to(settings.triton)
        return
    from clients.server import EmbeddedServer  # beside a Triton elsewhere, nothing of the launcher is loaded

    server = EmbeddedServer(settings)
    try:
        await asyncio.to_thread(server.start)
        watch = asyncio.create_task(server.keep_alive())
        try:
            yield server.url, Access(server.admin_key)
        finally:
            await ended(watch, "the embedded server's watch")
    finally:
        await asyncio.to_thread(server.stop)


async def wait_ready(link: TritonLink, timeout_s: float) -> None:
    """Raises ServerUnavailable when no Triton is ready in time."""
    deadline_s = time.monotonic() + timeout_s
    while not await link.is_ready():
        if time.monotonic() > deadline_s:
            raise ServerUnavailable(f"no Triton is ready at {link.url} after {timeout_s:g} s (triton.ready_timeout_s)")
        await asyncio.sleep(0.2)


async def served_by(link: TritonLink, settings: Settings) -> Served:
    """What is ready of the configured tiers; those that are not are named.

    Raises ConfigError: no tier is served, or one for another canvas; ServerUnavailable, ModelError.
    """
    served = await offered_by(link, settings, settings.tiers)
    name_missing(settings, served.tiers)
    return served


def name_missing(settings: Settings, tiers: Sequence[Tier]) -> None:
    """Say which of the configured tiers are not among those that are served."""
    for tier in settings.tiers:
        if tier not in tiers:
            instead = resolve_tier(tier, tiers, settings.model.fallback)
            log.warning("%s is not served; its cameras use %s", tier, instead)


async def offered_by(link: TritonLink, settings: Settings, wanted: Sequence[Tier]) -> Served:
    """What is ready of the tiers that are wanted of one server. Raises as `served_by` does."""
    tiers = await link.ready_tiers(wanted)
    if not tiers:
        names = ", ".join(wanted)
        raise ConfigError(f"none of {names} is served at {link.url}; export one with python -m export")
    for tier in tiers:
        await link.check_canvas(tier, settings.canvas)
    precisions = sorted({await link.precision(tier) for tier in tiers})
    labels = {tier: await link.labels(tier) for tier in tiers}
    batches = {tier: await link.largest_batch(tier) for tier in tiers}
    return Served(tiers, labels, batches, "/".join(precisions))


def in_flight_window(settings: Settings) -> int:
    """Requests in flight, all cameras together: what is configured, else enough to fill three of the largest batches.

    At least `system.min_batch_size`, and no more than `system.max_streams` cameras can have: one each. It shrinks while
    answers come too late. Several servers have so much more in flight.
    """
    if settings.triton.window is not None:
        return settings.triton.window
    system, servers = settings.system, max(1, len(settings.triton.addresses))
    return max(system.min_batch_size, min(system.max_streams, 3 * system.max_batch_size * servers))


def tier_limits(settings: Settings, largest_batch: Mapping[Tier, int]) -> dict[Tier, TierLimits]:
    """Of each served tier, three of its largest batches (one runs, one waits, one forms), or a configured window."""
    window = settings.triton.window
    return {tier: TierLimits(T4_COST_MS[tier], window or 3 * batch) for tier, batch in largest_batch.items()}


async def engine_counts(link: Server) -> EngineCounts | None:
    """What the engines have inferred so far; None, and a line, when the server does not say."""
    try:
        return await link.engine_counts()
    except InferenceError as error:
        log.warning("no statistics from the server: %s", error)
        return None


async def ended(task: asyncio.Task[None], name: str) -> None:
    """Cancel a task that runs beside the fleet, and say so when it had died before."""
    task.cancel()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(outcome, Exception):
        log.error("%s has failed: %s: %s", name, type(outcome).__name__, outcome)

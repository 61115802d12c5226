"""Looks at server and card once a second, asks control.py what to do, and has the pipeline do it.

The only place where measurements of the server meet the decisions: queue and compute times are Triton's own statistics,
utilisation and clocks NVML's. Where there is no card, or there are several servers, the engines' busy time stands for
utilisation. A server that is away gives no reading, and nothing is decided meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time

import cv2
import numpy as np

from clients.config import Settings
from clients.control import Control, Reading
from clients.errors import InferenceError
from clients.governor import GovernorRules, governor_of
from clients.gpu import GpuReading, read_gpu
from clients.inference.pool import Server
from clients.inference.server import EngineCounts
from clients.pipeline import Edges, Pipeline
from clients.router import ARTICLE_WIDTH_PX, article_edges, edge_density, router_of, tier_costs
from clients.serving import Served, first_window, in_flight_window
from clients.shares import T4_COST_MS
from clients.sources.frame import Frame
from clients.types import Tier

LOOK_S = 1.0
_CAPACITY_MS_PER_S = 1000.0  # of one card
log = logging.getLogger(__name__)


def control_of(settings: Settings, served: Served, wanted: dict[str, Tier]) -> Control | None:
    """The policies that the configuration asks for; None when it asks for no governor. `wanted` is read later too."""
    saving = settings.optimization
    if saving.governor == "off":
        return None
    costs = tier_costs({tier: T4_COST_MS[tier] for tier in served.tiers})
    first, most = first_window(settings), in_flight_window(settings)
    rules = GovernorRules(
        age_objective_ms=settings.monitoring.age_objective_ms,
        capacity_ms_per_s=_CAPACITY_MS_PER_S,
        gpu_utilization_threshold=settings.monitoring.gpu_utilization_threshold,
        first_window=first,
        least_window=min(2, first),
        largest_window=most,
    )
    policy = saving.switching if saving.enable_model_switching else "fixed"
    return Control(
        router_of(policy, wanted, costs),
        governor_of(saving.governor, rules),
        costs,
        full_ms_per_s=_CAPACITY_MS_PER_S * settings.monitoring.gpu_utilization_threshold / 100,
    )


def edges_of(settings: Settings, served: Served) -> Edges | None:
    """What measures a frame's edges for the policy: the article's on the whole frame, else the thumbnail's.

    None where nothing is to be chosen, so that no picture is looked at for nothing.
    """
    saving = settings.optimization
    if len(served.tiers) == 1 or saving.switching == "fixed" or not saving.enable_model_switching:
        return None
    return _article_edges if settings.optimization.switching == "article" else _thumbnail_edges


async def _thumbnail_edges(frame: Frame) -> float:
    return edge_density(frame.picture.thumbnail())


async def _article_edges(frame: Frame) -> float:
    """Milliseconds of work, so not in the event loop."""
    width, height = frame.picture.size_px
    scale = min(1.0, ARTICLE_WIDTH_PX / width)

    def measure() -> float:
        picture = frame.picture.to_bgr(max(1, round(width * scale)), max(1, round(height * scale)))
        return article_edges(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)))

    return await asyncio.to_thread(measure)


class Steering:
    """Steers one pipeline until it is cancelled."""

    def __init__(self, control: Control, pipeline: Pipeline, server: Server, *, has_card: bool = True) -> None:
        """`has_card`: a card in this machine would be the server's."""
        self._control = control
        self._pipeline = pipeline
        self._server = server
        self._has_card = has_card
        self.counts: EngineCounts | None = None  # the server's, at the last look
        self._before_s = 0.0

    async def run(self) -> None:
        """A look a second."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._pipeline.server_up:
                await self.look()

    async def look(self) -> None:
        """Read, decide, obey."""
        try:
            counts = await self._server.engine_counts()
        except InferenceError:  # the turns notice it too, and say so
            self.counts = None
            return
        gpu = self._pipeline.gpu = await asyncio.to_thread(read_gpu) if self._has_card else None
        now_s = time.monotonic()
        reading = reading_of(self.counts, counts, now_s - self._before_s, gpu, max(1, self._server.alive))
        self.counts, self._before_s = counts, now_s
        before = self._pipeline.decision
        decision = self._control.look(reading, self._pipeline.scheduler.in_flight, time.monotonic_ns())
        self._pipeline.obey(decision)
        if before is None or before.orders.reason != decision.orders.reason:
            log.debug("governor: %s", decision.orders)


def reading_of(
    before: EngineCounts | None, after: EngineCounts, elapsed_s: float, gpu: GpuReading | None, servers: int = 1
) -> Reading:
    """What has happened between two looks, all servers together; of one that was restarted or lost in between, nothing
    is known."""
    if before is None or elapsed_s <= 0 or after.busy_ns < before.busy_ns or after.queued < before.queued:
        return Reading(servers=servers)
    engine_ms = (after.busy_ns - before.busy_ns) / 1e6
    queued = after.queued - before.queued
    queue_ms = (after.queue_ns - before.queue_ns) / 1e6 / queued if queued else None
    busy = min(100.0, engine_ms / (elapsed_s * 1000 * servers) * 100)
    if gpu is None:
        return Reading(engine_ms, queue_ms, busy, servers=servers)
    return Reading(
        engine_ms,
        queue_ms,
        gpu.utilization_percent,
        sm_clock_mhz=gpu.sm_clock_mhz,
        sm_clock_max_mhz=gpu.sm_clock_max_mhz,
        memory_percent=gpu.memory_percent,
        decoder_percent=gpu.decoder_percent,
        servers=servers,
    )

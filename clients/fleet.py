"""From a configuration to a running fleet and its summary: server, transport, cameras, sinks, put together once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

from clients.config import Settings
from clients.dashboard.live import show
from clients.errors import ConfigError, InferenceError, ServerUnavailable
from clients.inference.choose import open_transport
from clients.inference.server import EngineCounts, TritonLink
from clients.lane import Lane, gate_rules
from clients.pipeline import Pipeline, Sink
from clients.server import EmbeddedServer
from clients.sinks.jsonl import JsonlSink
from clients.sinks.mosaic import MosaicSink, View
from clients.statistics import Summary
from clients.types import StreamSpec, Tier

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """What the server offers: the tiers that are ready, the class names, the arithmetic."""

    tiers: tuple[Tier, ...]
    labels: tuple[str, ...]
    precision: str


async def run_fleet(settings: Settings, duration_s: float | None = None) -> Summary:
    """Run the configured cameras until they end, the time is over or the process is told to stop.

    Raises ConfigError, SinkError, ServerUnavailable, and the launcher's errors when the embedded Triton cannot start.
    """
    streams = settings.streams()
    async with AsyncExitStack() as stack:
        url = settings.triton.url
        if url is None:
            url = await stack.enter_async_context(_embedded(settings))
        link = await stack.enter_async_context(TritonLink(url, request_timeout_s=settings.triton.timeout_ms / 1000))
        await _wait_ready(link, settings.triton.ready_timeout_s)
        served = await _served(link, settings)
        workers = stack.enter_context(ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1), "scale"))
        window = in_flight_window(settings, len(streams))
        name, transport = await open_transport(settings, link, workers, window=window)
        stack.push_async_callback(transport.close)
        lanes = [_lane(settings, spec, served) for spec in streams]
        with _sinks(settings, lanes, served.labels) as sinks:
            pipeline = Pipeline(lanes, transport, sinks, window=window, server_ready=link.is_ready)
            before, started_s, cpu_s = await _counts(link), time.monotonic(), time.process_time()
            await _run(pipeline, lanes, settings, duration_s)
            seconds, cpu_s = time.monotonic() - started_s, time.process_time() - cpu_s
        after = await _counts(link)
        failed_cameras = sum(lane.state == "failed" for lane in lanes)
        return Summary(
            seconds=seconds,
            cameras=tuple(lane.report() for lane in lanes),
            mean_batch=None if before is None or after is None else after.mean_batch_since(before),
            precision=served.precision,
            transport=name,
            client_cpu_s=cpu_s,
            errors=failed_cameras + pipeline.failures.total(),
            dropped={"jsonl": sum(sink.dropped for sink in sinks if isinstance(sink, JsonlSink))},
        )


def in_flight_window(settings: Settings, cameras: int) -> int:
    """Requests in flight, all cameras together: what is configured, else enough to fill three of the largest batches.

    More than one per camera is never in flight, and never fewer than `system.min_batch_size` are allowed.
    """
    if settings.triton.window is not None:
        return settings.triton.window
    return max(settings.system.min_batch_size, min(cameras, 3 * settings.system.max_batch_size))


def resolve_tier(spec: StreamSpec, served: Sequence[Tier], fallback: Tier) -> Tier:
    """The tier that serves this camera: its own, else the fallback, else the smallest that is ready."""
    return next(tier for tier in (spec.tier, fallback, *served) if tier in served)


async def _run(pipeline: Pipeline, lanes: Sequence[Lane], settings: Settings, duration_s: float | None) -> None:
    with _stop_on_signals(pipeline.stop):
        display = asyncio.create_task(show(lanes, settings.monitoring))
        try:
            await pipeline.run(duration_s)
        finally:
            display.cancel()
            await asyncio.gather(display, return_exceptions=True)


@contextmanager
def _stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@asynccontextmanager
async def _embedded(settings: Settings) -> AsyncIterator[str]:
    server = EmbeddedServer(settings)
    try:
        await asyncio.to_thread(server.start)
        watch = asyncio.create_task(server.keep_alive())
        try:
            yield server.url
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
    finally:
        await asyncio.to_thread(server.stop)


async def _wait_ready(link: TritonLink, timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not await link.is_ready():
        if time.monotonic() > deadline_s:
            raise ServerUnavailable(
                f"no Triton is ready at {link.url} (waited {timeout_s:g} s; triton.ready_timeout_s)"
            )
        await asyncio.sleep(0.2)


async def _served(link: TritonLink, settings: Settings) -> Served:
    tiers = await link.ready_tiers(settings.tiers)
    if not tiers:
        wanted = ", ".join(settings.tiers)
        raise ConfigError(f"none of {wanted} is served at {link.url}; export one with python -m export")
    for tier in settings.tiers:
        if tier not in tiers:
            log.warning("%s is not served; its cameras use %s", tier, _instead(settings, tiers))
    for tier in tiers:
        await link.check_canvas(tier, settings.canvas)
    return Served(tiers, await link.labels(tiers[0]), await link.precision(tiers[0]))


def _instead(settings: Settings, tiers: Sequence[Tier]) -> Tier:
    return settings.model.fallback if settings.model.fallback in tiers else tiers[0]


def _lane(settings: Settings, spec: StreamSpec, served: Served) -> Lane:
    return Lane(spec, gate_rules(settings, spec), resolve_tier(spec, served.tiers, settings.model.fallback))


@contextmanager
def _sinks(settings: Settings, lanes: Sequence[Lane], labels: tuple[str, ...]) -> Iterator[list[Sink]]:
    chosen = settings.sinks
    with ExitStack() as stack:
        sinks: list[Sink] = []
        if chosen.jsonl is not None:
            jsonl = JsonlSink(chosen.jsonl, labels)
            stack.callback(jsonl.close)
            sinks.append(jsonl)
        if chosen.mosaic_video is not None or chosen.mosaic_image is not None:
            views = [_view(lane) for lane in lanes]
            video, image = chosen.mosaic_video, chosen.mosaic_image
            mosaic = MosaicSink(views, labels, video=video, image=image, fps=chosen.mosaic_fps)
            stack.callback(mosaic.close)
        yield sinks


def _view(lane: Lane) -> View:
    def caption() -> str:
        report = lane.report()
        age_ms = report.ages.quantile(0.5)
        age = "-" if age_ms is None else f"{age_ms:.0f} ms"
        return f"{report.state}  {lane.tier}  {len(report.ages)} inferred of {report.decoded}  {age}"

    return View(lane.spec.stream_id, lambda: lane.camera.newest, lane.tracker.predict, caption)


async def _counts(link: TritonLink) -> EngineCounts | None:
    try:
        return await link.engine_counts()
    except InferenceError as error:
        log.warning("no statistics from the server: %s", error)
        return None

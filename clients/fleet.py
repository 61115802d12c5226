"""From a configuration to a running fleet and its summary: server, transport, cameras, sinks, put together once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Self

from clients.config import Settings
from clients.dashboard.live import show
from clients.errors import ConfigError, InferenceError, ServerUnavailable
from clients.inference.choose import open_transport
from clients.inference.server import EngineCounts, TritonLink
from clients.lane import Lane, gate_rules
from clients.metrics import served_metrics
from clients.nvdec import nvdec_plan
from clients.pipeline import Pipeline
from clients.shares import T4_COST_MS, TierLimits
from clients.sinks.jsonl import JsonlSink
from clients.sinks.mosaic import MosaicSink, View
from clients.sources.placement import NvdecPlan
from clients.statistics import Summary
from clients.types import StreamSpec, Tier

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """What the server offers: the tiers that are ready, each one's class names and largest batch, the arithmetic."""

    tiers: tuple[Tier, ...]
    labels: Mapping[Tier, tuple[str, ...]]
    largest_batch: Mapping[Tier, int]
    precision: str


async def run_fleet(settings: Settings, duration_s: float | None = None) -> Summary:
    """Run the configured cameras until they end, the time is over or the process is told to stop.

    SIGINT and SIGTERM end the run in order; before the cameras run they cancel it, after that they are ignored.
    Raises ConfigError, SinkError, ServerUnavailable, and the launcher's errors when the embedded Triton cannot start.
    """
    streams = settings.streams()
    nvdec = nvdec_plan(settings)
    async with AsyncExitStack() as stack:
        signals = stack.enter_context(_Signals())
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
        lanes = [_lane(settings, spec, served, nvdec) for spec in streams]
        with _sinks(settings, lanes, served.labels) as sinks:
            pipeline = Pipeline(
                lanes,
                transport,
                sinks.results,
                window=window,
                limits=tier_limits(settings, served.largest_batch),
                first_window=settings.system.min_batch_size,
                server_ready=link.is_ready,
            )
            before, started_s, cpu_s = await _counts(link), time.monotonic(), time.process_time()
            with served_metrics(settings.monitoring, pipeline, sinks.dropped):
                signals.on_signal = pipeline.stop
                await _run(pipeline, lanes, settings, duration_s)
            signals.on_signal = _ignore
            seconds, cpu_s = time.monotonic() - started_s, time.process_time() - cpu_s
        mean_batch = None if pipeline.outages else _mean_batch(before, await _counts(link))
        down = sum(lane.is_down for lane in lanes)
        return Summary(
            seconds=seconds,
            cameras=tuple(lane.report() for lane in lanes),
            mean_batch=mean_batch,
            precision=served.precision,
            transport=name,
            client_cpu_s=cpu_s,
            errors=down + pipeline.failures.total() + sinks.failures,
            dropped=sinks.dropped(),
        )


def in_flight_window(settings: Settings, cameras: int) -> int:
    """Requests in flight, all cameras together: what is configured, else enough to fill three of the largest batches.

    At least `system.min_batch_size`; one camera never has more than one. It shrinks while answers come too late.
    """
    if settings.triton.window is not None:
        return settings.triton.window
    return max(settings.system.min_batch_size, min(cameras, 3 * settings.system.max_batch_size))


def tier_limits(settings: Settings, largest_batch: Mapping[Tier, int]) -> dict[Tier, TierLimits]:
    """Of each served tier, three of its largest batches (one runs, one waits, one forms), or a configured window."""
    window = settings.triton.window
    return {tier: TierLimits(T4_COST_MS[tier], window or 3 * batch) for tier, batch in largest_batch.items()}


def resolve_tier(wanted: Tier, served: Sequence[Tier], fallback: Tier) -> Tier:
    """The tier that serves a camera: the wanted one, else the fallback, else the smallest that is ready."""
    return next(tier for tier in (wanted, fallback, *served) if tier in served)


class _Signals:
    """SIGINT and SIGTERM call `on_signal`; at first they cancel the task that entered."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        self.on_signal: Callable[[], object] = _ignore if task is None else task.cancel

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.remove_signal_handler(number)

    def _received(self) -> None:
        self.on_signal()


def _ignore() -> None:
    """The run is over; what remains takes a moment."""


async def _run(pipeline: Pipeline, lanes: Sequence[Lane], settings: Settings, duration_s: float | None) -> None:
    display = asyncio.create_task(show(lanes, settings.monitoring))
    try:
        await pipeline.run(duration_s)
    finally:
        await _ended(display, "the display")


async def _ended(task: asyncio.Task[None], name: str) -> None:
    """Cancel a task that runs beside the fleet, and say so when it had died before."""
    task.cancel()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(outcome, Exception):
        log.error("%s has failed: %s: %s", name, type(outcome).__name__, outcome)


@asynccontextmanager
async def _embedded(settings: Settings) -> AsyncIterator[str]:
    from clients.server import EmbeddedServer  # beside a Triton elsewhere, nothing of the launcher is loaded

    server = EmbeddedServer(settings)
    try:
        await asyncio.to_thread(server.start)
        watch = asyncio.create_task(server.keep_alive())
        try:
            yield server.url
        finally:
            await _ended(watch, "the embedded server's watch")
    finally:
        await asyncio.to_thread(server.stop)


async def _wait_ready(link: TritonLink, timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not await link.is_ready():
        if time.monotonic() > deadline_s:
            raise ServerUnavailable(f"no Triton is ready at {link.url} after {timeout_s:g} s (triton.ready_timeout_s)")
        await asyncio.sleep(0.2)


async def _served(link: TritonLink, settings: Settings) -> Served:
    tiers = await link.ready_tiers(settings.tiers)
    if not tiers:
        wanted = ", ".join(settings.tiers)
        raise ConfigError(f"none of {wanted} is served at {link.url}; export one with python -m export")
    for tier in settings.tiers:
        if tier not in tiers:
            instead = resolve_tier(tier, tiers, settings.model.fallback)
            log.warning("%s is not served; its cameras use %s", tier, instead)
    for tier in tiers:
        await link.check_canvas(tier, settings.canvas)
    precisions = sorted({await link.precision(tier) for tier in tiers})
    labels = {tier: await link.labels(tier) for tier in tiers}
    batches = {tier: await link.largest_batch(tier) for tier in tiers}
    return Served(tiers, labels, batches, "/".join(precisions))


def _lane(settings: Settings, spec: StreamSpec, served: Served, nvdec: NvdecPlan) -> Lane:
    tier = resolve_tier(spec.tier, served.tiers, settings.model.fallback)
    return Lane(spec, gate_rules(settings, spec), tier, settings.sinks.emit, nvdec=nvdec, canvas=settings.canvas)


@dataclass(slots=True)
class _Sinks:
    """The open sinks; `failures` is complete when they are closed."""

    results: list[JsonlSink]
    failures: int = 0

    def dropped(self) -> dict[str, int]:
        """Results that each kind of sink could not take."""
        return {"jsonl": sum(sink.dropped for sink in self.results)}


@contextmanager
def _sinks(settings: Settings, lanes: Sequence[Lane], labels: Mapping[Tier, tuple[str, ...]]) -> Iterator[_Sinks]:
    chosen = settings.sinks
    sinks = _Sinks([])
    with ExitStack() as stack:
        if chosen.jsonl is not None:
            jsonl = JsonlSink(chosen.jsonl, labels)
            stack.callback(jsonl.close)
            sinks.results.append(jsonl)
        mosaic = None
        if chosen.mosaic_video is not None or chosen.mosaic_image is not None:
            views = [_view(lane, labels.get(lane.tier, ())) for lane in lanes]
            mosaic = MosaicSink(views, video=chosen.mosaic_video, image=chosen.mosaic_image, fps=chosen.mosaic_fps)
            stack.callback(mosaic.close)
        yield sinks
    sinks.failures = 0 if mosaic is None else mosaic.failures


def _view(lane: Lane, labels: tuple[str, ...]) -> View:
    def caption() -> str:
        report = lane.report()
        age_ms = report.ages.quantile(0.5)
        age = "-" if age_ms is None else f"{age_ms:.0f} ms"
        return f"{report.state}  {lane.tier}  {len(report.ages)} inferred of {report.decoded}  {age}"

    return View(lane.spec.stream_id, labels, lane.shown, caption)


async def _counts(link: TritonLink) -> EngineCounts | None:
    try:
        return await link.engine_counts()
    except InferenceError as error:
        log.warning("no statistics from the server: %s", error)
        return None


def _mean_batch(before: EngineCounts | None, after: EngineCounts | None) -> float | None:
    return None if before is None or after is None else after.mean_batch_since(before)

"""The fleet as a library: a server, a transport and the pipeline put together once, cameras that come and go.

    async with Fleet(settings) as fleet:
        await fleet.add_stream("gate-3", "rtsp://...", max_fps=10)
        async for result in fleet.results("gate-3"):
            ...

`python -m clients run` is a thin user of it, and so is blocking.py for programs without asyncio.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from clients.admission import Admission
from clients.audit import AuditRules
from clients.backend import backend_of
from clients.config import Settings, load_settings, parse_camera
from clients.control import Control, Decision
from clients.dashboard.live import show
from clients.errors import ConfigError, FleetStopped, NoRoom, StreamExists, TooManyStreams, UnknownStream
from clients.fallback import Fallback, resolve_tier
from clients.inference.pool import Server
from clients.inference.server import EngineCounts
from clients.lane import Lane, gate_rules
from clients.logs import about
from clients.metrics import FleetCollector, served_metrics
from clients.nvdec import nvdec_plan
from clients.pipeline import Pipeline, member_of
from clients.reload import follow
from clients.result import Result
from clients.roster import Roster, state_file
from clients.serving import (
    Served,
    ended,
    engine_counts,
    in_flight_window,
    tier_limits,
)
from clients.shards import Shard
from clients.signals import Signals, nothing
from clients.sinks.clips import ClipSink
from clients.sinks.mosaic import View
from clients.sinks.opened import OpenSinks, opened, view_of
from clients.statistics import CameraReport, Summary, Totals
from clients.steering import Steering, control_of, edges_of
from clients.subscriptions import MOST_WAITING, Subscription, Subscriptions
from clients.types import StreamSpec, Tier
from clients.zones.bus import MOST_WAITING as MOST_EVENTS
from clients.zones.bus import EventBus
from clients.zones.event import Counts, Event
from clients.zones.layout import Layout

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    """What exists while the fleet runs."""

    served: Served
    server: Server
    transport: str
    pipeline: Pipeline
    control: Control | None
    sinks: OpenSinks
    task: asyncio.Task[None]
    steering: Steering | None
    before: EngineCounts | None
    started_s: float
    started_cpu_s: float
    seconds: float | None = None
    cpu_s: float = 0.0
    mean_batch: float | None = None


class Fleet:
    """Cameras on one Triton; an async context manager that can be entered once.

    It begins with the cameras of the settings, which may be none. On leaving, the answers in flight are still taken,
    the sinks written, threads and shared memory given back; then `summary` is complete.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError when the cameras of the settings cannot be used."""
        self.settings = settings
        self._first = settings.streams(may_be_empty=True)
        self._nvdec = nvdec_plan(settings)
        self._ids: set[str] = set()  # those that are being removed included
        self._wanted: dict[str, Tier] = {}  # what each camera's configuration resolves to
        self._removed = Totals()
        self._subscriptions = Subscriptions()
        self._events = EventBus()
        self._clips: ClipSink | None = None
        self._stack = AsyncExitStack()
        self._running: _Running | None = None

    async def __aenter__(self) -> Self:
        """Raises ConfigError, SinkError, ServerUnavailable, ModelError, and the launcher's errors."""
        if self._running is not None:
            raise FleetStopped("a fleet is entered once; make a new one")
        async with AsyncExitStack() as stack:
            await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.__aexit__(*error)

    async def add_stream(self, stream_id: str, source: str, **options: Any) -> None:
        """One more camera, from now on. The options are the keys of `cameras` in config.yaml: `max_fps=10`, ...

        Raises ConfigError for an option, id or source that cannot be one, StreamExists, TooManyStreams, FleetStopped.
        """
        self.add(self.settings.stream(parse_camera(stream_id, source, options)))

    def add(self, spec: StreamSpec) -> None:
        """One more camera, as a value. Raises StreamExists, TooManyStreams, FleetStopped."""
        running, stream_id = self._live(), spec.stream_id
        if stream_id in self._ids:
            raise StreamExists(f"camera {stream_id}: the id is in use; every camera needs its own")
        most = self.settings.system.max_streams
        if len(self._ids) >= most:
            raise TooManyStreams(f"camera {stream_id}: there are system.max_streams ({most}) cameras already")
        self._admit(spec)
        self._enter(running.pipeline, self._lane(spec, running.served))

    def would_fit(self, spec: StreamSpec) -> Admission:
        """Whether this camera could be added now, and why not. Nothing is changed. Raises FleetStopped."""
        running, most = self._live(), self.settings.system.max_streams
        if running.control is not None:
            return running.control.admission(member_of(spec), most, self.settings.system.admission)
        full = len(self._ids) >= most
        return Admission(not full, float(not full), f"max_streams is {most}, and so many there are" if full else "")

    def _admit(self, spec: StreamSpec) -> None:
        verdict = self.would_fit(spec)
        if not verdict.accepted:
            raise NoRoom(f"camera {spec.stream_id}: {verdict.reason}")
        if verdict.reason:
            told = about("rates_reduced", camera=spec.stream_id)
            log.warning("camera %s: %s; all cameras get fewer inferences", spec.stream_id, verdict.reason, extra=told)

    async def remove_stream(self, stream_id: str) -> CameraReport:
        """Take a camera out and return its numbers: its answer in flight is still taken, its thread ends.

        Raises UnknownStream.
        """
        pipeline = self._known().pipeline
        lane = pipeline.lanes.get(stream_id)
        if lane is None:
            raise UnknownStream(f"camera {stream_id}: there is no such camera")
        try:
            await pipeline.remove(stream_id)
        finally:
            report = lane.report()
            self._removed.add(report)
            self._subscriptions.close(stream_id)
            self._events.close(stream_id)
            if self._clips is not None:
                self._clips.forget(stream_id)
            self._ids.discard(stream_id)
            self._wanted.pop(stream_id, None)
        return report

    def results(self, stream_id: str, *, most: int = MOST_WAITING) -> Subscription[Result]:
        """The camera's results from now on, for `async for`. It ends when the camera ends, or is removed.

        Who reads slower than results come misses the oldest of more than `most`. Raises UnknownStream.
        """
        with self._named(stream_id):
            return self._subscriptions.subscribe(stream_id, most)

    def get_results(self, stream_id: str) -> list[Result]:
        """The newest results of a camera, oldest first, 30 at most. Asking takes nothing away. Raises UnknownStream."""
        with self._named(stream_id):
            return self._subscriptions.newest(stream_id)

    def events(self, stream_id: str | None = None, *, most: int = MOST_EVENTS) -> Subscription[Event]:
        """What happens at zones and lines from now on, of one camera or of all, for `async for`; ends with the fleet.

        Who reads slower than events come misses the oldest of more than `most`. Raises ValueError for less than one.
        """
        return self._events.subscribe(stream_id, most)

    def newest_events(self, most: int = 100) -> list[Event]:
        """The newest events of all cameras, oldest first, 500 at most. Asking takes nothing away."""
        return self._events.newest(most)

    def layout(self, stream_id: str) -> Layout:
        """A camera's zones and lines. Raises UnknownStream."""
        with self._named(stream_id):
            return self._events.layout(stream_id)

    def set_layout(self, stream_id: str, layout: Layout) -> None:
        """Other zones and lines from now on; those that stay as they are keep who is inside and their counts.

        Raises UnknownStream, and ConfigError for a class that no model knows.
        """
        with self._named(stream_id):
            self._events.change(stream_id, layout)

    def zone_counts(self, stream_id: str) -> dict[str, Counts]:
        """The counts of a camera's zones and lines since it was added, by name. Raises UnknownStream."""
        with self._named(stream_id):
            return self._events.counts(stream_id)

    def reports(self) -> list[CameraReport]:
        """The numbers of each camera so far."""
        return [lane.report() for lane in list(self._known().pipeline.lanes.values())]

    def stats(self) -> Summary:
        """What the fleet has done so far; after it was left, the summary of the run. Raises FleetStopped before."""
        running = self._known()
        reports = self.reports()
        totals = self._removed.with_cameras(reports)
        pipeline, sinks = running.pipeline, running.sinks
        is_over = running.seconds is not None
        return Summary(
            seconds=running.seconds if running.seconds is not None else time.monotonic() - running.started_s,
            cameras=tuple(reports),
            mean_batch=running.mean_batch,
            precision=running.served.precision,
            transport=running.transport,
            client_cpu_s=running.cpu_s if is_over else time.process_time() - running.started_cpu_s,
            errors=totals.down + pipeline.failures.total() + sinks.failures,
            dropped=self._dropped(sinks),
            removed=self._removed.with_cameras(()),
        )

    @property
    def decision(self) -> Decision | None:
        """What was decided last: orders, tiers and paces; None before the first look, or without a governor."""
        return self._known().pipeline.decision

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """The cameras that run, for those who only look."""
        return self._known().pipeline.lanes

    @property
    def served(self) -> Served:
        """What the server offers."""
        return self._known().served

    @property
    def servers_alive(self) -> int:
        """How many of the Tritons answer, as far as is known; one where there is one."""
        return self._known().server.alive

    @property
    def is_ready(self) -> bool:
        """Whether it runs and the server answers."""
        running = self._running
        return running is not None and running.pipeline.server_up and not running.pipeline.is_stopping

    @property
    def server_counts(self) -> EngineCounts | None:
        """What the engines had inferred when the governor last looked; None before that, or without a governor."""
        steering = self._known().steering
        return None if steering is None else steering.counts

    def collector(self) -> FleetCollector:
        """The metrics, to be registered with Prometheus."""
        running = self._known()
        return FleetCollector(
            running.pipeline,
            lambda: self._dropped(running.sinks),
            age_objective_ms=self.settings.monitoring.age_objective_ms,
            tiers=self.settings.tiers,
        )

    def stop(self) -> None:
        """No new turns from now on; leaving the context waits for the rest."""
        self._known().pipeline.stop()

    async def finished(self, duration_s: float | None = None, *, stays: bool = False) -> None:
        """Wait until the time is over, `stop` was called or, unless it `stays`, all cameras have ended; then it is
        stopped."""
        running = self._known()
        over = asyncio.create_task(_never() if stays else running.pipeline.until_over())
        try:
            await asyncio.wait({over, running.task}, timeout=duration_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            running.pipeline.stop()

    async def _open(self, stack: AsyncExitStack) -> None:
        settings = self.settings
        workers = stack.enter_context(ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1), "scale"))
        window, servers = in_flight_window(settings), max(1, len(settings.triton.endpoints))
        backend = await stack.enter_async_context(backend_of(settings, workers, window))
        served, server = backend.served, backend.server
        sinks = stack.enter_context(opened(settings.sinks, self._views, served.labels, cameras=len(self._first)))
        control = control_of(settings, served, self._wanted)
        pipeline = Pipeline(
            [],
            backend.transport,
            [self._subscriptions, self._events, *sinks.results],
            window=window,
            limits=tier_limits(settings, served.largest_batch),
            first_window=settings.system.min_batch_size,
            server_ready=server.is_ready,
            fallback=Fallback(served.tiers, settings.model.fallback, rest_s=settings.model.retry_s),
            stays=True,
            on_over=self._over,
            control=control,
            edges=edges_of(settings, served) if control is not None else None,
            alive_share=lambda: server.alive / servers,
        )
        self._events.start(served.labels, sinks.events)
        self._clips = sinks.clips
        for spec in self._first:
            self._enter(pipeline, self._lane(spec, served))
        before = await engine_counts(server)
        stack.push_async_callback(self._measured, server)
        stack.enter_context(served_metrics(settings.monitoring, pipeline, lambda: self._dropped(sinks), settings.tiers))
        task = asyncio.create_task(pipeline.run(), name="pipeline")
        stack.push_async_callback(_quiet, pipeline, task)
        task.add_done_callback(lambda _: self._all_over())
        steering = None
        if control is not None:
            steering = Steering(control, pipeline, server, has_card=servers == 1)
            looks = asyncio.create_task(steering.run(), name="steering")
            stack.push_async_callback(ended, looks, "the governor")
        now_s, cpu_s = time.monotonic(), time.process_time()
        self._running = _Running(
            served, server, backend.name, pipeline, control, sinks, task, steering, before, now_s, cpu_s
        )

    async def _measured(self, server: Server) -> None:
        running = self._running
        if running is None:  # it could not begin
            return
        running.seconds = time.monotonic() - running.started_s
        running.cpu_s = time.process_time() - running.started_cpu_s
        after = await engine_counts(server)
        if not (running.pipeline.outages or running.before is None or after is None):
            running.mean_batch = after.mean_batch_since(running.before)

    def _over(self, stream_id: str) -> None:
        self._subscriptions.end(stream_id)
        self._events.end(stream_id)

    def _all_over(self) -> None:
        self._subscriptions.end_all()
        self._events.end_all()

    def _enter(self, pipeline: Pipeline, lane: Lane) -> None:
        self._events.open(lane.spec.stream_id, lane.spec.layout)
        self._ids.add(lane.spec.stream_id)
        self._wanted[lane.spec.stream_id] = lane.tier
        self._subscriptions.open(lane.spec.stream_id)
        pipeline.add(lane)

    def _lane(self, spec: StreamSpec, served: Served) -> Lane:
        settings = self.settings
        tier = resolve_tier(spec.tier, served.tiers, settings.model.fallback)
        if spec.tier not in (tier, *settings.tiers):  # what the configuration names has been said
            told = about("tier_missing", camera=spec.stream_id, tier=spec.tier)
            log.warning("camera %s: %s is not served; it uses %s", spec.stream_id, spec.tier, tier, extra=told)
        audit = AuditRules(share=settings.optimization.audit_share)
        emit, canvas = settings.sinks.emit, settings.canvas
        rules = gate_rules(settings, spec)
        lane = partial(Lane, spec, rules, tier, emit, canvas=canvas, audit=audit, nvdec=self._nvdec)
        if self._clips is None:
            return lane()
        try:
            return lane(tap=self._clips.ring(spec.stream_id))
        except ConfigError:
            self._clips.forget(spec.stream_id)
            raise

    def _views(self) -> list[View]:
        running = self._running
        if running is None:
            return []
        labels = running.served.labels
        return [view_of(lane, labels.get(lane.tier, ())) for lane in list(running.pipeline.lanes.values())]

    def _dropped(self, sinks: OpenSinks) -> dict[str, int]:
        return sinks.dropped() | {
            "subscriptions": self._subscriptions.dropped,
            "event_subscriptions": self._events.dropped,
        }

    @contextmanager
    def _named(self, stream_id: str) -> Iterator[None]:
        try:
            yield
        except KeyError:
            raise UnknownStream(f"camera {stream_id}: there is no such camera") from None

    def _known(self) -> _Running:
        if self._running is None:
            raise FleetStopped("the fleet does not run yet: enter it with `async with Fleet(settings)`")
        return self._running

    def _live(self) -> _Running:
        running = self._known()
        if running.pipeline.is_stopping:
            raise FleetStopped("the fleet has been stopped")
        return running


async def _never() -> None:
    await asyncio.Event().wait()


async def _quiet(pipeline: Pipeline, task: asyncio.Task[None]) -> None:
    pipeline.stop()
    await task


async def run_fleet(
    settings: Settings,
    duration_s: float | None = None,
    *,
    file: Path | None = None,
    watch: bool = True,
    load: Callable[[Path], Settings] = load_settings,
    shard: Shard | None = None,
) -> Summary:
    """Run the configured cameras until they end, the time is over or the process is told to stop.

    SIGINT and SIGTERM end the run in order; before the cameras run they cancel it, after that they are ignored. With
    `file`, SIGHUP applies its cameras, as `load` reads them, and so does a change of it while `watch` is set. With
    `web.enabled` the REST API and the wall are served, cameras may be none to begin with, and the run does not end with
    the last of them. Of several fleets with one file each takes the cameras of its `shard`; with none, it waits.
    Raises ConfigError, SinkError, ServerUnavailable, and the launcher's errors when the embedded Triton cannot start.
    """
    waits = settings.web.enabled
    if shard is not None:
        own, load = _shared_out(settings, shard), partial(_loaded, load, shard)
        waits = waits or (bool(settings.cameras) and not own.cameras)  # the next change of the file may bring one
        settings = own
    settings.streams(may_be_empty=waits)
    roster = Roster(settings, state_file(settings.web, file, shard), shard)
    with Signals(hears_hangup=file is not None) as signals:
        async with _served(roster), Fleet(roster.settings()) as fleet:
            roster.attach(fleet)
            signals.on_stop = fleet.stop
            beside = {"the display": asyncio.create_task(show(fleet.reports, settings.monitoring))}
            if file is not None:
                may_be_empty = shard is not None
                following = follow(
                    file, roster, settings, signals.hangup, watch=watch, load=load, may_be_empty=may_be_empty
                )
                beside["the watch of the configuration"] = asyncio.create_task(following)
            try:
                await fleet.finished(duration_s, stays=waits)
            finally:
                for name, task in beside.items():
                    await ended(task, name)
                signals.on_stop = nothing
        return fleet.stats()


def _shared_out(settings: Settings, shard: Shard) -> Settings:
    own = settings.of_shard(shard)
    log.info("shard %s: %d of %d cameras", shard, len(own.cameras), len(settings.cameras), extra=about("shard"))
    return own


def _loaded(load: Callable[[Path], Settings], shard: Shard, path: Path) -> Settings:
    return load(path).of_shard(shard)


def _served(roster: Roster) -> AbstractAsyncContextManager[None]:
    if not roster.base.web.enabled:
        return nullcontext()
    from clients.web.serve import serving  # who serves nothing loads no web server

    return serving(roster)

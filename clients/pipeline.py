"""The shell around the decisions: grants turns, awaits answers, hands results on, and outlives the server.

It decides nothing itself: the gate says which frame deserves a turn, the scheduler whose turn it is. One task per
turn; a turn is reserved before anything is awaited.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from clients.errors import FleetError, InferenceError, RequestRejected, RequestTimeout, ServerUnavailable
from clients.inference.transport import Request, Transport
from clients.lane import Lane
from clients.result import Result
from clients.scheduler import Scheduler
from clients.shares import TierLimits, TierShares
from clients.sources.frame import Frame
from clients.types import Detections, Tier, Verdict
from clients.window import Window

_RETRY_S = (0.1, 2.0)  # first and longest pause between two looks at a server that is away
_WATCH_S = 0.25  # between two looks at whether a camera has fallen silent
_LEAVE_S = 2.0  # all threads together have so long to end; one that hangs in FFmpeg is left behind
log = logging.getLogger(__name__)


class Sink(Protocol):
    """Takes results; `write` never waits."""

    def write(self, result: Result) -> None:
        """One result."""


class Pipeline:
    """Runs lanes against one transport until all cameras have ended, the time is over, or `stop` is called."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        transport: Transport,
        sinks: Sequence[Sink],
        *,
        window: int,
        limits: Mapping[Tier, TierLimits],
        first_window: int | None = None,
        server_ready: Callable[[], Awaitable[bool]],
    ) -> None:
        self.lanes = {lane.spec.stream_id: lane for lane in lanes}
        self.failures: Counter[str] = Counter()
        self.outages = 0
        self._window = Window(window, first_window)
        self._shares = TierShares(limits, self._window.size)
        self.scheduler = Scheduler(self._shares)
        self._transport = transport
        self._sinks = sinks
        self._server_ready = server_ready
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._server_up = True

    @property
    def server_up(self) -> bool:
        """Whether the server answered when it was last asked."""
        return self._server_up

    def stop(self) -> None:
        """End the run: no new turns, the answers in flight are still taken."""
        self._stopping.set()
        self._wake.set()

    async def run(self, duration_s: float | None = None) -> None:
        """Start the cameras, run, stop them. Returns when everything is quiet."""
        loop = asyncio.get_running_loop()
        for lane in self.lanes.values():
            spec, now_ns = lane.spec, time.monotonic_ns()
            self.scheduler.add(spec.stream_id, weight=spec.weight, min_fps=spec.min_fps, tier=lane.tier, now_ns=now_ns)
        timer = None if duration_s is None else loop.call_later(duration_s, self.stop)
        try:
            async with asyncio.TaskGroup() as turns:
                for lane in self.lanes.values():
                    lane.start(
                        on_waiting=partial(_call_soon, loop, self._waiting, lane),
                        on_end=partial(_call_soon, loop, self._stop_when_over),
                    )
                watch = turns.create_task(self._watch())
                await self._dispatch(turns)
                watch.cancel()
        finally:
            if timer is not None:
                timer.cancel()
            await self._stop_lanes()

    async def _dispatch(self, turns: asyncio.TaskGroup) -> None:
        while not self._stopping.is_set():
            await self._wake.wait()
            self._wake.clear()
            if not self._server_up:
                await self._await_server()
            self._grant_all(turns)

    def _grant_all(self, turns: asyncio.TaskGroup) -> None:
        while not self._stopping.is_set() and self._server_up:
            now_ns = time.monotonic_ns()
            stream_id = self.scheduler.grant(now_ns)
            if stream_id is None:
                return
            lane = self.lanes[stream_id]
            frame = lane.camera.take(now_ns)
            if frame is None:  # it has grown stale while it waited
                self.scheduler.withdraw(stream_id)
                self._stop_when_over()
            else:
                turns.create_task(self._turn(lane, frame, now_ns))

    async def _turn(self, lane: Lane, frame: Frame, granted_ns: int) -> None:
        spec = lane.spec
        try:
            request = Request(spec.stream_id, frame.picture, lane.tier, spec.thresholds)
            detections = await self._transport.infer(request)
            self._answered(lane, frame, detections)
        except FleetError as error:
            lane.camera.settle(Verdict.FAILED)
            self._failed(spec.stream_id, error)
            if isinstance(error, RequestTimeout | RequestRejected):
                self._window.timed_out(granted_ns, time.monotonic_ns())
        except Exception as error:  # a defect met by one camera's frame must not end the run of the others
            lane.camera.settle(Verdict.FAILED)
            self.failures[type(error).__name__] += 1
            log.exception("camera %s: a turn failed unexpectedly", spec.stream_id)
        finally:
            self._shares.window = self._window.size
            self.scheduler.finish(spec.stream_id)
            self._waiting(lane)
            self._stop_when_over()

    def _answered(self, lane: Lane, frame: Frame, detections: Detections) -> None:
        self._window.answered()
        result = lane.answered(frame, detections, time.monotonic_ns())
        lane.camera.settle(Verdict.INFERRED)
        for sink in self._sinks:
            try:
                sink.write(result)
            except Exception:  # a defect of a sink costs its result, not the camera's
                self.failures["sink"] += 1
                log.exception("a sink failed unexpectedly")

    def _waiting(self, lane: Lane) -> None:
        if lane.camera.has_waiting:
            self.scheduler.ready(lane.spec.stream_id)
        self._wake.set()

    def _failed(self, stream_id: str, error: FleetError) -> None:
        kind = type(error).__name__
        self.failures[kind] += 1
        if isinstance(error, ServerUnavailable):
            if self._server_up:
                self.outages += 1
                log.error("the server is away, waiting for it: %s", error)
            self._server_up = False
        elif self.failures[kind] == 1:
            log.error("camera %s: %s: %s (further ones are counted)", stream_id, kind, error)

    async def _await_server(self) -> None:
        pause_s = _RETRY_S[0]
        while not self._stopping.is_set():
            if await self._server_ready() and await self._restarted():
                self._server_up = True
                log.warning("the server is back, the run goes on")
                return
            self._give_up_ended()
            await _first_of(self._stopping.wait(), pause_s)
            pause_s = min(2 * pause_s, _RETRY_S[1])

    async def _restarted(self) -> bool:
        try:
            await self._transport.start()
        except InferenceError as error:
            log.warning("the server answers but cannot be used yet: %s", error)
            return False
        return True

    def _give_up_ended(self) -> None:
        """A file that has ended while the server is away does not hold the run up with a frame that nobody needs."""
        for lane in self.lanes.values():
            lane.camera.expire(time.monotonic_ns())
        self._stop_when_over()

    def _stop_when_over(self) -> None:
        if self.scheduler.in_flight == 0 and all(lane.is_over for lane in self.lanes.values()):
            self.stop()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            now_ns = time.monotonic_ns()
            for lane in self.lanes.values():
                lane.watch(now_ns)

    async def _stop_lanes(self) -> None:
        deadline_s = time.monotonic() + _LEAVE_S
        for lane in self.lanes.values():
            lane.stop()
        for lane in self.lanes.values():
            await asyncio.to_thread(lane.join, max(0.0, deadline_s - time.monotonic()))


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: object) -> None:
    with suppress(RuntimeError):  # a thread that was left behind ends after its loop
        loop.call_soon_threadsafe(callback, *arguments)


async def _first_of(event: Awaitable[bool], timeout_s: float) -> None:
    try:
        await asyncio.wait_for(event, timeout_s)
    except TimeoutError:
        return

"""The shell around the decisions: grants turns, awaits answers, hands results on, and outlives the server.

It decides nothing itself: the gate says which frame deserves a turn, the scheduler whose turn it is. One task per
turn; a turn is reserved before anything is awaited. Cameras come and go while it runs.
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

from clients.control import Control, Decision, Member
from clients.errors import FleetError, InferenceError, ModelError, RequestRejected, RequestTimeout, ServerUnavailable
from clients.fallback import Fallback
from clients.gpu import GpuReading
from clients.inference.transport import Request, Transport
from clients.lane import Lane
from clients.logs import about
from clients.result import Result
from clients.scheduler import Scheduler
from clients.shares import TierLimits, TierShares
from clients.sources.frame import Frame
from clients.statistics import Histogram
from clients.types import Detections, StreamSpec, Tier, Verdict
from clients.window import Window

_RETRY_S = (0.1, 2.0)  # first and longest pause between two looks at a server that is away
_LEAST_FPS = 1.0  # of every camera that has a frame to show
_WATCH_S = 0.25  # between two looks at whether a camera has fallen silent
_LEAVE_S = 2.0  # all threads together have so long to end; one that hangs in FFmpeg is left behind
log = logging.getLogger(__name__)


Edges = Callable[[Frame], Awaitable[float]]


class Sink(Protocol):
    """Takes results; `write` never waits."""

    def write(self, result: Result) -> None:
        """One result."""


class Pipeline:
    """Runs lanes against one transport until `stop` is called or, unless it `stays`, all cameras have ended."""

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
        fallback: Fallback | None = None,
        stays: bool = False,
        on_over: Callable[[str], None] = lambda _: None,
        control: Control | None = None,
        edges: Edges | None = None,
        alive_share: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """`control` is told what is answered; whoever asks it for a decision hands that to `obey`. `edges` measures a
        frame's edges for it; without that it is not told what the pictures show.

        `fallback` is made of the tiers in `limits` when it is left out, the first of them being what others use.

        `alive_share`: of the servers, how many are there; of the window at most as much is used.

        `on_over` hears of each camera that has ended and brings no more results, perhaps more than once.
        """
        self.lanes = {lane.spec.stream_id: lane for lane in lanes}
        self.failures: Counter[str] = Counter()
        self.stages = {"waiting": Histogram(), "inference": Histogram()}
        self.outages = 0
        self.fallback = fallback or Fallback(tuple(limits), next(iter(limits)))
        self._window = Window(window, first_window)
        self._most_window = window
        self._alive_share = alive_share
        self.shares = TierShares(limits, self._window.size)
        self.scheduler = Scheduler(self.shares)
        self._transport = transport
        self._sinks = sinks
        self._server_ready = server_ready
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._over = asyncio.Event()
        self._control = control
        self._edges = edges
        self.decision: Decision | None = None
        self.gpu: GpuReading | None = None  # the card when it was last read, where there is one
        self._stays = stays
        self._on_over = on_over
        self._turns: dict[str, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None  # while it runs
        self._server_up = True

    @property
    def server_up(self) -> bool:
        """Whether the server answered when it was last asked."""
        return self._server_up

    @property
    def is_stopping(self) -> bool:
        """Whether the run ends or has ended."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """End the run: no new turns, the answers in flight are still taken."""
        self._stopping.set()
        self._wake.set()

    async def until_over(self) -> None:
        """Wait until every camera has ended and nothing is in flight; at once when there is no camera."""
        self._look_whether_over()
        await self._over.wait()

    async def run(self) -> None:
        """Start the cameras, run, stop them. Returns when everything is quiet."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for lane in self.lanes.values():
                    self._start(lane)
                watch = tasks.create_task(self._watch())
                await self._dispatch(tasks)
                watch.cancel()
        finally:
            self._tasks = None
            await self._stop_lanes()

    def add(self, lane: Lane) -> None:
        """One more camera; it starts at once where the pipeline runs. Raises ValueError for an id that is in use."""
        stream_id = lane.spec.stream_id
        if stream_id in self.lanes or stream_id in self._turns:
            raise ValueError(f"camera {stream_id!r} is in the pipeline already")
        self.lanes[stream_id] = lane
        self._over.clear()
        if self._tasks is not None:
            self._start(lane)

    async def remove(self, stream_id: str) -> Lane:
        """Take a camera out: no more turns, its answer in flight is still taken, its thread ends. Returns it.

        From the first moment on it is gone for metrics and reports. Raises KeyError when there is none.
        """
        lane = self.lanes.pop(stream_id)
        lane.stop()
        turn = self._turns.get(stream_id)
        if turn is None:
            self._forget(stream_id)
        else:
            await asyncio.wait({turn})  # it forgets the camera when it ends, whoever waits for it
        await asyncio.to_thread(lane.join, _LEAVE_S)
        self._look_whether_over()
        return lane

    def _start(self, lane: Lane) -> None:
        spec, loop = lane.spec, asyncio.get_running_loop()
        self.scheduler.add(
            spec.stream_id, weight=spec.weight, min_fps=spec.min_fps, tier=lane.tier, now_ns=time.monotonic_ns()
        )
        if self._control is not None:
            self._control.add(spec.stream_id, member_of(spec))
        lane.has_room = self._has_room
        self._follow_cameras()
        lane.start(
            on_waiting=partial(_call_soon, loop, self._waiting, lane),
            on_end=partial(_call_soon, loop, self._ended, lane),
        )

    def _forget(self, stream_id: str) -> None:
        """A camera without a turn leaves the scheduler."""
        if self._tasks is not None:
            self.scheduler.remove(stream_id)
            if self._control is not None:
                self._control.remove(stream_id)
        self.fallback.gave_up(stream_id)
        self._follow_cameras()

    def _follow_cameras(self) -> None:
        self._window.follow(len(self.lanes))
        self._set_window()

    def obey(self, decision: Decision) -> None:
        """Take over what was decided: the window, each camera's pace and tier."""
        self.decision = decision
        self._set_window()
        for stream_id, pace in decision.paces.items():
            if (lane := self.lanes.get(stream_id)) is not None:
                lane.camera.pace(pace)
        for stream_id, tier in decision.tiers.items():
            if (lane := self.lanes.get(stream_id)) is not None:
                lane.wanted = tier

    def _set_window(self) -> None:
        """The smallest of three: what answers in time allow, what was ordered, and what the servers there can take."""
        ordered = self._window.size if self.decision is None else self.decision.orders.window
        possible = int(self._most_window * self._alive_share())
        self.shares.window = max(1, min(self._window.size, ordered, possible))

    def _has_room(self) -> bool:
        """Whether an audit would make nobody wait."""
        return self.scheduler.waiting == 0 and 2 * self.scheduler.in_flight < self.shares.window

    async def _dispatch(self, turns: asyncio.TaskGroup) -> None:
        while not self._stopping.is_set():
            await self._wake.wait()
            self._wake.clear()
            if not self._server_up:
                await self._await_server()
            self._grant_all(turns)

    def _grant_all(self, tasks: asyncio.TaskGroup) -> None:
        while not self._stopping.is_set() and self._server_up:
            now_ns = time.monotonic_ns()
            stream_id = self.scheduler.grant(now_ns)
            if stream_id is None:
                return
            lane = self.lanes[stream_id]
            if self._has_moved(lane, now_ns):
                continue
            frame = lane.camera.take(now_ns)
            if frame is None:  # it has grown stale while it waited
                self.scheduler.withdraw(stream_id)
                self.fallback.gave_up(stream_id)
                self._ended(lane)
            else:
                self._turns[stream_id] = tasks.create_task(self._turn(lane, frame, now_ns))

    def _has_moved(self, lane: Lane, now_ns: int) -> bool:
        """Whether the camera that was just granted is to use another tier: then it queues there instead."""
        stream_id = lane.spec.stream_id
        tier = self.fallback.choose(stream_id, lane.wanted, now_ns)
        if tier is lane.tier:
            lane.asked = lane.wanted
            return False
        self.scheduler.withdraw(stream_id)
        self.scheduler.move(stream_id, tier)
        lane.tier = tier
        self.scheduler.ready(stream_id)
        return True

    async def _turn(self, lane: Lane, frame: Frame, granted_ns: int) -> None:
        spec = lane.spec
        try:
            request = Request(spec.stream_id, frame.picture, lane.tier, spec.thresholds)
            detections = await self._transport.infer(request)
            edges = None if self._edges is None else await self._edges(frame)
            self._answered(lane, frame, detections, granted_ns, edges)
        except FleetError as error:
            lane.camera.settle(Verdict.FAILED)
            self._failed(lane, error)
            if isinstance(error, RequestTimeout | RequestRejected):
                self._window.timed_out(granted_ns, time.monotonic_ns())
        except Exception as error:  # a defect met by one camera's frame must not end the run of the others
            lane.camera.settle(Verdict.FAILED)
            self.failures[type(error).__name__] += 1
            told = about("turn_failed", camera=spec.stream_id)
            log.exception("camera %s: a turn failed unexpectedly", spec.stream_id, extra=told)
        finally:
            self._finish(lane)

    def _finish(self, lane: Lane) -> None:
        stream_id = lane.spec.stream_id
        del self._turns[stream_id]
        self._set_window()
        self.scheduler.finish(stream_id)
        self.fallback.gave_up(stream_id)
        if self.lanes.get(stream_id) is not lane:  # it was removed meanwhile
            self._forget(stream_id)
        self._waiting(lane)
        self._ended(lane)

    def _answered(self, lane: Lane, frame: Frame, detections: Detections, granted_ns: int, edges: float | None) -> None:
        now_ns = time.monotonic_ns()
        self._window.answered()
        if self.fallback.answered(lane.spec.stream_id, lane.tier):
            log.warning("%s answers again; its cameras use it", lane.tier, extra=about("tier_back", tier=lane.tier))
        self.stages["waiting"].add((granted_ns - frame.captured_ns) / 1e6)
        self.stages["inference"].add((now_ns - granted_ns) / 1e6)
        between = lane.between(frame, now_ns)
        result = lane.answered(frame, detections, now_ns, edges)
        self._tell_control(lane, frame, result, now_ns)
        for one in (*between, result):
            self._hand_over(one)

    def _tell_control(self, lane: Lane, frame: Frame, result: Result, now_ns: int) -> None:
        stream_id = lane.spec.stream_id
        if self._control is None or self.lanes.get(stream_id) is not lane:
            return
        self._control.answered(stream_id, lane.tier, result.age_ms, lane.tracker.wrong, frame.media_time_s)
        if lane.scene is not None:
            self._control.observed(stream_id, lane.scene, now_ns)

    def _hand_over(self, result: Result) -> None:
        for sink in self._sinks:
            try:
                sink.write(result)
            except Exception:  # a defect of a sink costs its result, not the camera's
                self.failures["sink"] += 1
                log.exception("a sink failed unexpectedly")

    def _waiting(self, lane: Lane) -> None:
        if self.lanes.get(lane.spec.stream_id) is lane and lane.camera.has_waiting:
            self.scheduler.ready(lane.spec.stream_id)
        self._wake.set()

    def _failed(self, lane: Lane, error: FleetError) -> None:
        kind = type(error).__name__
        self.failures[kind] += 1
        if isinstance(error, ServerUnavailable):
            if self._server_up:
                self.outages += 1
                log.error("the server is away, waiting for it: %s", error, extra=about("server_away"))
            self._server_up = False
        elif self.failures[kind] == 1:
            told = about("request_failed", camera=lane.spec.stream_id, kind=kind)
            log.error("camera %s: %s: %s (further ones are counted)", lane.spec.stream_id, kind, error, extra=told)
        if isinstance(error, ModelError) and self.fallback.failed(lane.spec.stream_id, lane.tier, time.monotonic_ns()):
            instead, rest_s = self.fallback.instead_of(lane.tier), self.fallback.rest_s
            told = about("tier_rests", tier=lane.tier)
            text = "%s fails: its cameras use %s for %.0f s, then it is tried again"
            log.error(text, lane.tier, instead, rest_s, extra=told)

    async def _await_server(self) -> None:
        pause_s = _RETRY_S[0]
        while not self._stopping.is_set():
            if await self._server_ready() and await self._restarted():
                self._server_up = True
                log.warning("the server is back, the run goes on", extra=about("server_back"))
                return
            self._give_up_ended()
            await _first_of(self._stopping.wait(), pause_s)
            pause_s = min(2 * pause_s, _RETRY_S[1])

    async def _restarted(self) -> bool:
        try:
            await self._transport.start()
        except InferenceError as error:
            log.warning("the server answers but cannot be used yet: %s", error, extra=about("server_unusable"))
            return False
        return True

    def _give_up_ended(self) -> None:
        """A file that has ended while the server is away does not hold the run up with a frame that nobody needs."""
        for lane in self.lanes.values():
            lane.camera.expire(time.monotonic_ns())
            self._ended(lane)

    def _ended(self, lane: Lane) -> None:
        """A camera may have come to its end, and with it the run."""
        stream_id = lane.spec.stream_id
        if lane.is_over and stream_id not in self._turns and self.lanes.get(stream_id) is lane:
            self._on_over(stream_id)
            self._look_whether_over()

    def _look_whether_over(self) -> None:
        if self._turns or not all(lane.is_over for lane in self.lanes.values()):
            return
        for stream_id in self.lanes:  # a camera's own word may still be on its way from its thread
            self._on_over(stream_id)
        self._over.set()
        if not self._stays:
            self.stop()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            now_ns = time.monotonic_ns()
            for lane in self.lanes.values():
                lane.watch(now_ns)

    async def _stop_lanes(self) -> None:
        deadline_s = time.monotonic() + _LEAVE_S
        lanes = list(self.lanes.values())
        for lane in lanes:
            lane.stop()
        for lane in lanes:
            await asyncio.to_thread(lane.join, max(0.0, deadline_s - time.monotonic()))


def member_of(spec: StreamSpec) -> Member:
    """What a camera may have: at least its own minimum, and one inference a second in any case."""
    return Member(max(spec.min_fps, min(_LEAST_FPS, spec.max_fps)), spec.max_fps, spec.weight)


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: object) -> None:
    with suppress(RuntimeError):  # a thread that was left behind ends after its loop
        loop.call_soon_threadsafe(callback, *arguments)


async def _first_of(event: Awaitable[bool], timeout_s: float) -> None:
    try:
        await asyncio.wait_for(event, timeout_s)
    except TimeoutError:
        return

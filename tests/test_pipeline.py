"""The shell around the decisions, with the in-memory transport: nothing is lost, nobody harms anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import moving_square, write_clip

from clients.errors import ModelError, RequestTimeout, ServerUnavailable
from clients.gate import GateRules
from clients.inference.memory import MemoryTransport
from clients.inference.transport import Request
from clients.lane import Lane
from clients.pipeline import Pipeline
from clients.result import Result
from clients.shares import TierLimits
from clients.types import Detections, StreamSpec, Tier, Verdict

pytestmark = pytest.mark.anyio
LIMITS = {Tier.N: TierLimits(cost_ms=1.0, most=64)}


class Collected:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.results: list[Result] = []

    def write(self, result: Result) -> None:
        self.results.append(result)


def lanes(folder: Path, count: int, **changes: object) -> list[Lane]:
    """Cameras on one second of H.264, inferred as often as possible."""
    clip = folder / "clip.mp4"
    if not clip.exists():
        write_clip(clip, moving_square(25))
    rules = GateRules(min_interval_s=0.001, max_age_ms=2000, similarity_threshold=None)
    specs = [StreamSpec(f"cam{i}", str(clip), **changes) for i in range(count)]  # type: ignore[arg-type]
    return [Lane(spec, rules, Tier.N) for spec in specs]


def pipeline(
    cameras: list[Lane], answer: Callable[[Request], Detections], *, window: int = 4, delay_s: float = 0.0
) -> tuple[Pipeline, Collected, MemoryTransport]:
    """A pipeline on the in-memory twin, its sink and its transport."""
    sink, transport = Collected(), MemoryTransport(answer, delay_s=delay_s)

    async def ready() -> bool:
        return True

    return Pipeline(cameras, transport, [sink], window=window, limits=LIMITS, server_ready=ready), sink, transport


def nothing(_: Request) -> Detections:
    """An empty scene."""
    return Detections.empty()


def accounted(cameras: list[Lane]) -> bool:
    """Every decoded frame of every camera ended in exactly one way."""
    return all(decoded == verdicts.total() > 0 for decoded, verdicts in (lane.camera.counts() for lane in cameras))


async def test_the_run_ends_with_its_cameras(tmp_path: Path) -> None:
    """Without a duration the run ends when the last camera has: all frames decoded, all accounted for."""
    cameras = lanes(tmp_path, 3)
    pipe, sink, _ = pipeline(cameras, nothing)
    await pipe.run()
    assert [lane.camera.counts()[0] for lane in cameras] == [25, 25, 25]
    assert accounted(cameras)
    assert {lane.state for lane in cameras} == {"ended"}
    inferred = sum(lane.camera.counts()[1][Verdict.INFERRED] for lane in cameras)
    assert inferred == len(sink.results) > 30


async def test_results_of_a_camera_come_in_order(tmp_path: Path) -> None:
    """One request in flight per camera: its results are ordered by frame, whatever the others do."""
    cameras = lanes(tmp_path, 4)
    pipe, sink, _ = pipeline(cameras, nothing, delay_s=0.01)
    await pipe.run()
    for lane in cameras:
        order = [result.frame_index for result in sink.results if result.stream_id == lane.spec.stream_id]
        assert order == sorted(set(order))
        assert len(order) > 3


async def test_a_camera_whose_turns_fail_harms_nobody(tmp_path: Path) -> None:
    """A model error, and even a defect, for one camera: counted as failed, the others are inferred as ever."""

    def answer(request: Request) -> Detections:
        if request.stream_id == "cam0":
            raise ModelError("not today")
        if request.stream_id == "cam1":
            raise ZeroDivisionError
        return Detections.empty()

    cameras = lanes(tmp_path, 4)
    pipe, sink, _ = pipeline(cameras, answer)
    await pipe.run()
    assert accounted(cameras)
    assert {result.stream_id for result in sink.results} == {"cam2", "cam3"}
    assert pipe.failures["ModelError"] == cameras[0].camera.counts()[1][Verdict.FAILED] > 5
    assert pipe.failures["ZeroDivisionError"] == cameras[1].camera.counts()[1][Verdict.FAILED] > 5


async def test_a_server_that_is_away_is_waited_for(tmp_path: Path) -> None:
    """While it is away nothing is sent; when it is back the transport is started again and the run goes on."""
    sent = looks = 0

    def answer(_: Request) -> Detections:
        nonlocal sent
        sent += 1
        if sent >= 6 and looks < 3:
            raise ServerUnavailable("gone")
        return Detections.empty()

    async def ready() -> bool:
        nonlocal looks
        looks += 1
        return looks >= 3

    cameras = lanes(tmp_path, 2, loop=True)
    sink, transport = Collected(), MemoryTransport(answer)
    pipe = Pipeline(cameras, transport, [sink], window=4, limits=LIMITS, server_ready=ready)
    run = asyncio.create_task(pipe.run())
    while len(sink.results) < 20:
        await asyncio.sleep(0.01)
    pipe.stop()
    await run
    assert accounted(cameras)
    assert (transport.starts, pipe.outages, pipe.server_up) == (1, 1, True)
    assert 1 <= pipe.failures["ServerUnavailable"] <= 2, "at most what was in flight when it went"


async def test_a_run_whose_last_frame_grew_stale_ends(tmp_path: Path) -> None:
    """Answers slower than max_age_ms: the last waiting frame is dropped as stale, and the run is over."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(25))
    rules = GateRules(min_interval_s=0.001, max_age_ms=200, similarity_threshold=None)
    cameras = [Lane(StreamSpec("cam", str(clip)), rules, Tier.N)]
    pipe, _, _ = pipeline(cameras, nothing, delay_s=0.8)
    await asyncio.wait_for(pipe.run(), 20)
    assert accounted(cameras)
    assert cameras[0].camera.counts()[1][Verdict.STALE] >= 1


async def test_files_that_end_while_the_server_is_away_end_the_run(tmp_path: Path) -> None:
    """A server that never returns does not keep a run alive whose cameras are all over."""

    def gone(_: Request) -> Detections:
        raise ServerUnavailable("gone")

    async def never() -> bool:
        return False

    cameras = lanes(tmp_path, 2)
    pipe = Pipeline(cameras, MemoryTransport(gone), [], window=2, limits=LIMITS, server_ready=never)
    await asyncio.wait_for(pipe.run(), 20)
    assert accounted(cameras)


async def test_a_sink_that_fails_costs_its_results_only(tmp_path: Path) -> None:
    """A defect in a sink is counted; the cameras are inferred to their end."""

    class Broken:
        def write(self, result: Result) -> None:
            raise OSError("broken")

    async def ready() -> bool:
        return True

    cameras = lanes(tmp_path, 2)
    pipe = Pipeline(cameras, MemoryTransport(nothing), [Broken()], window=2, limits=LIMITS, server_ready=ready)
    await pipe.run()
    assert accounted(cameras)
    assert pipe.failures["sink"] == sum(lane.camera.counts()[1][Verdict.INFERRED] for lane in cameras) > 10


async def test_the_longest_gap_counts_silence_at_both_ends(tmp_path: Path) -> None:
    """A camera whose answers stop after the first has a gap as long as the rest of the run."""
    answers = 0

    def answer(_: Request) -> Detections:
        nonlocal answers
        answers += 1
        if answers > 1:
            raise ModelError("not today")
        return Detections.empty()

    cameras = lanes(tmp_path, 1)
    pipe, _, _ = pipeline(cameras, answer)
    await pipe.run()
    gap_s = cameras[0].report().longest_gap_s
    assert gap_s is not None
    assert gap_s > 0.7


async def test_the_window_bounds_what_is_in_flight(tmp_path: Path) -> None:
    """Ten cameras and a window of three: never more than three requests at once, and all cameras are served."""
    open_now, most, served = 0, 0, set()

    class Counting(MemoryTransport):
        async def infer(self, request: Request) -> Detections:
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            served.add(request.stream_id)
            try:
                return await super().infer(request)
            finally:
                open_now -= 1

    async def ready() -> bool:
        return True

    cameras = lanes(tmp_path, 10)
    pipe = Pipeline(cameras, Counting(nothing, delay_s=0.01), [], window=3, limits=LIMITS, server_ready=ready)
    await pipe.run()
    assert most == 3
    assert len(served) == 10


async def test_stopping_is_prompt_and_loses_nothing(tmp_path: Path) -> None:
    """`stop` ends a looping fleet; what was in flight is still taken, every thread is gone."""
    cameras = lanes(tmp_path, 3, loop=True)
    pipe, sink, _ = pipeline(cameras, nothing, delay_s=0.05)
    run = asyncio.create_task(pipe.run())
    while len({result.stream_id for result in sink.results}) < 3:
        await asyncio.sleep(0.01)
    pipe.stop()
    await asyncio.wait_for(run, 5)
    assert accounted(cameras)
    assert {lane.state for lane in cameras} == {"live"}, "they did not end by themselves"


async def test_a_server_that_is_too_slow_is_asked_for_less(tmp_path: Path) -> None:
    """A server whose answers come too late with the whole window in flight still answers some: the window shrinks."""
    open_now = 0

    class Slow(MemoryTransport):
        async def infer(self, request: Request) -> Detections:
            nonlocal open_now
            open_now += 1
            try:
                await asyncio.sleep(0.02 * open_now)
                if open_now > 3:
                    raise RequestTimeout("too many at once")
                return await super().infer(request)
            finally:
                open_now -= 1

    async def ready() -> bool:
        return True

    cameras = lanes(tmp_path, 12)
    sink = Collected()
    pipe = Pipeline(cameras, Slow(nothing), [sink], window=12, limits=LIMITS, server_ready=ready)
    await pipe.run()
    assert accounted(cameras)
    assert pipe.failures["RequestTimeout"] > 0
    assert len(sink.results) > pipe.failures["RequestTimeout"]

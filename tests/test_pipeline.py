"""The shell around the decisions, with the in-memory transport: nothing is lost, nobody harms anybody."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import moving_square, write_clip

from clients.errors import ModelError, RequestTimeout, ServerUnavailable
from clients.fallback import Fallback
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


async def test_all_frames_are_emitted_when_asked(tmp_path: Path) -> None:
    """`emit: all`: each frame between two inferences once, in order, marked, with the boxes that are expected there.

    The first inference fails: before the first answer there is nothing to predict from.
    """
    asked: list[Request] = []

    def answer(request: Request) -> Detections:
        asked.append(request)
        if len(asked) == 1:
            raise ModelError("not yet")
        return Detections.from_rows(np.array([[50, 60, 110, 120, 0.9, 1]], np.float32))

    clip = write_clip(tmp_path / "clip.mp4", moving_square(25))
    rules = GateRules(min_interval_s=0.2, max_age_ms=2000, similarity_threshold=None)
    camera = Lane(StreamSpec("cam", str(clip)), rules, Tier.N, "all")
    pipe, sink, _ = pipeline([camera], answer)
    await pipe.run()
    inferred = [result.frame_index for result in sink.results if not result.is_predicted]
    assert 2 <= len(inferred) < 10
    assert [result.frame_index for result in sink.results] == list(range(inferred[0], inferred[-1] + 1))
    for result in sink.results:
        assert result.track_ids.tolist() == [1]
        assert result.detections.class_id.tolist() == [1]
        assert np.abs(result.detections.xyxy - (50, 60, 110, 120)).max() < 3
        assert result.age_ms > 0


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


async def until(condition: Callable[[], bool]) -> None:
    """Until it holds; the test's own time limit ends what never does."""
    while not condition():
        await asyncio.sleep(0.01)


async def test_cameras_come_and_go_while_it_runs(tmp_path: Path) -> None:
    """One is added and inferred, one is removed: the others go on, its thread is gone, nothing of it is left."""
    cameras = lanes(tmp_path, 3, loop=True)
    pipe, sink, _ = pipeline(cameras[:2], nothing, delay_s=0.02)
    run = asyncio.create_task(pipe.run())
    await until(lambda: len({result.stream_id for result in sink.results}) == 2)
    pipe.add(cameras[2])
    with pytest.raises(ValueError, match="'cam2' is in the pipeline already"):
        pipe.add(cameras[2])
    await until(lambda: any(result.stream_id == "cam2" for result in sink.results))
    removed = await pipe.remove("cam0")
    assert removed is cameras[0]
    assert accounted([removed])
    assert {thread.name for thread in threading.enumerate() if thread.name.startswith("camera-")} == {
        "camera-cam1",
        "camera-cam2",
    }
    assert list(pipe.lanes) == ["cam1", "cam2"]
    with pytest.raises(KeyError):
        pipe.scheduler.ready("cam0")
    before = len(sink.results)
    await until(lambda: {result.stream_id for result in sink.results[before:]} == {"cam1", "cam2"})
    again = lanes(tmp_path, 1, loop=True)[0]
    pipe.add(again)
    await until(lambda: len(again.ages) > 3)
    pipe.stop()
    await run
    assert accounted([*cameras, again])


async def test_a_removed_cameras_answer_is_still_taken(tmp_path: Path) -> None:
    """Removing waits for the turn in flight, even when nobody waits for the removal; until then its name is taken."""
    landing, asked = asyncio.Event(), asyncio.Event()

    class Held(MemoryTransport):
        async def infer(self, request: Request) -> Detections:
            asked.set()
            await landing.wait()
            return await super().infer(request)

    async def ready() -> bool:
        return True

    camera, sink = lanes(tmp_path, 1, loop=True)[0], Collected()
    pipe = Pipeline([camera], Held(nothing), [sink], window=1, limits=LIMITS, server_ready=ready, stays=True)
    run = asyncio.create_task(pipe.run())
    await asked.wait()
    await until(
        lambda: camera.camera.has_waiting
    )  # when the answer comes, this frame wants a turn that it must not get
    removal = asyncio.create_task(pipe.remove("cam0"))
    await until(lambda: not pipe.lanes)
    removal.cancel()
    await asyncio.gather(removal, return_exceptions=True)
    with pytest.raises(ValueError, match="'cam0' is in the pipeline already"):
        pipe.add(camera)
    landing.set()
    await until(lambda: len(sink.results) == 1)
    await until(lambda: pipe.scheduler.in_flight == 0)
    pipe.add(lanes(tmp_path, 1, loop=True)[0])
    await until(lambda: len(sink.results) > 3)
    pipe.stop()
    await run


async def test_a_run_that_stays_waits_for_cameras(tmp_path: Path) -> None:
    """Without a camera it goes on; each one that ends is told of, and when all have it is over but not stopped."""
    over: list[str] = []

    async def ready() -> bool:
        return True

    pipe = Pipeline(
        [], MemoryTransport(nothing), [], window=4, limits=LIMITS, server_ready=ready, stays=True, on_over=over.append
    )
    run = asyncio.create_task(pipe.run())
    await pipe.until_over()
    for camera in lanes(tmp_path, 2):
        pipe.add(camera)
    await pipe.until_over()
    assert set(over) == {"cam0", "cam1"}
    assert not pipe.is_stopping
    pipe.stop()
    await run


async def test_cameras_of_a_failing_tier_are_served_by_the_fallback(tmp_path: Path) -> None:
    """Tier m fails: its cameras go on with n, counted; when a probe is answered they return. n never notices."""
    broken, answered_by = True, Counter[str]()

    def answer(request: Request) -> Detections:
        if broken and request.tier is Tier.M:
            raise ModelError("m is broken")
        answered_by[f"{request.stream_id} {request.tier}"] += 1
        return Detections.empty()

    async def ready() -> bool:
        return True

    rules = GateRules(min_interval_s=0.001, max_age_ms=2000, similarity_threshold=None)
    write_clip(tmp_path / "clip.mp4", moving_square(25))
    specs = [
        StreamSpec(f"cam{i}", str(tmp_path / "clip.mp4"), tier=tier, loop=True)
        for i, tier in enumerate((Tier.N, Tier.M, Tier.M))
    ]
    cameras = [Lane(spec, rules, spec.tier) for spec in specs]
    limits = {Tier.N: TierLimits(1.0, 64), Tier.M: TierLimits(3.0, 64)}
    fallback = Fallback([Tier.N, Tier.M], Tier.N, rest_s=0.3)
    pipe = Pipeline(
        cameras, MemoryTransport(answer), [], window=4, limits=limits, server_ready=ready, fallback=fallback
    )
    run = asyncio.create_task(pipe.run())
    await until(lambda: min(answered_by["cam1 yolo12n"], answered_by["cam2 yolo12n"]) > 3)
    assert fallback.resting == (Tier.M,)
    assert all(camera.report().is_on_fallback for camera in cameras[1:])
    await until(lambda: pipe.failures["ModelError"] > 4)  # a probe has failed
    broken = False
    await until(lambda: min(answered_by["cam1 yolo12m"], answered_by["cam2 yolo12m"]) > 3)
    assert fallback.resting == ()
    pipe.stop()
    await run
    assert accounted(cameras)
    reports = [camera.report() for camera in cameras]
    assert reports[0].fallbacks == 0
    assert [report.fallbacks for report in reports[1:]] == [answered_by[f"cam{i} yolo12n"] for i in (1, 2)]
    assert not any(report.is_on_fallback for report in reports)
    assert pipe.failures["ModelError"] < 20, "a tier that rests is asked by a probe only"
    assert pipe.scheduler.in_flight == 0


async def test_a_camera_that_is_given_another_tier_is_on_no_fallback(tmp_path: Path) -> None:
    """What was decided is not what was missed: a camera moved from n to m has no fallbacks, before and after."""

    async def ready() -> bool:
        return True

    (camera,) = lanes(tmp_path, 1, loop=True)
    limits = {Tier.N: TierLimits(1.0, 64), Tier.M: TierLimits(3.0, 64)}
    pipe = Pipeline([camera], MemoryTransport(nothing), [], window=4, limits=limits, server_ready=ready)
    run = asyncio.create_task(pipe.run())
    await until(lambda: camera.inferred[Tier.N] > 3)
    camera.wanted = Tier.M
    await until(lambda: camera.inferred[Tier.M] > 3)
    pipe.stop()
    await run
    report = camera.report()
    assert (report.fallbacks, report.is_on_fallback, report.wanted) == (0, False, Tier.M)

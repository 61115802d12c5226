"""A pipeline on the in-memory twin with real sources, for tests that look at what cameras do to each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from conftest import moving_square, write_clip

from clients.gate import GateRules
from clients.inference.memory import MemoryTransport
from clients.inference.transport import Request
from clients.lane import Lane
from clients.pipeline import Pipeline
from clients.result import Result
from clients.shares import TierLimits
from clients.types import Detections, LiveOptions, StreamSpec, Tier, Verdict

QUICK = LiveOptions(open_timeout_s=0.5, read_timeout_s=1.0)
NEVER_LOST = {"connecting": 1, "live": 1}


class Fleet:
    """A running pipeline on the in-memory twin, and what each camera's requests and results were."""

    def __init__(self, sources: dict[str, str], live: LiveOptions, others: dict[str, LiveOptions]) -> None:
        rules = GateRules(min_interval_s=0.02, max_age_ms=2000, similarity_threshold=None)
        self.lanes = {
            name: Lane(StreamSpec(name, source, loop=True, live=others.get(name, live)), rules, Tier.N)
            for name, source in sources.items()
        }
        self.results: dict[str, list[Result]] = {name: [] for name in sources}
        self.sizes: dict[str, set[tuple[int, int]]] = {name: set() for name in sources}
        self.pipeline = Pipeline(
            list(self.lanes.values()),
            MemoryTransport(self._answer),
            [self],
            window=8,
            limits={Tier.N: TierLimits(1.0, 64)},
            server_ready=self._ready,
        )

    def write(self, result: Result) -> None:
        """It is a sink."""
        self.results[result.stream_id].append(result)

    def entered(self, name: str, state: str) -> int:
        """How often a camera entered a state."""
        return self.lanes[name].report().states.get(state, 0)

    def problem(self, name: str) -> str:
        """A camera's last problem."""
        return self.lanes[name].report().last_problem or ""

    async def until(self, condition: Callable[[], bool]) -> None:
        """Until it holds; a test's own time limit ends what never does."""
        while not condition():
            await asyncio.sleep(0.02)

    async def until_others_go_on(self, *others: str, results: int = 25) -> None:
        """Until each of these has been inferred so many times more."""
        before = {name: len(self.results[name]) for name in others}
        await self.until(lambda: all(len(self.results[name]) >= before[name] + results for name in others))

    def assert_undisturbed(self, *names: str) -> None:
        """These cameras went live once and stayed so, every result in order, nothing failed."""
        for name in names:
            report = self.lanes[name].report()
            assert report.states == NEVER_LOST, f"{name}: {report.last_problem}"
            assert report.verdicts.get(Verdict.FAILED, 0) == 0
            order = [result.frame_index for result in self.results[name]]
            assert order == sorted(set(order))
            times = [result.media_time_s for result in self.results[name]]
            assert times == sorted(set(times))

    def _answer(self, request: Request) -> Detections:
        self.sizes[request.stream_id].add(request.picture.size_px)
        return Detections.empty()

    async def _ready(self) -> bool:
        return True


@asynccontextmanager
async def running(sources: dict[str, str], live: LiveOptions = QUICK, **others: LiveOptions) -> AsyncIterator[Fleet]:
    """The fleet while the test looks at it; it must end within the test's patience, and account for each frame."""
    fleet = Fleet(sources, live, others)
    run = asyncio.create_task(fleet.pipeline.run())
    try:
        yield fleet
    finally:
        fleet.pipeline.stop()
        await asyncio.wait_for(run, 20)
    for lane in fleet.lanes.values():
        decoded, verdicts = lane.camera.counts()
        assert decoded == verdicts.total()


def two_clips(folder: Path) -> tuple[Path, Path]:
    """Three seconds of H.264, and two of a larger size."""
    options = {"preset": "ultrafast", "crf": "20", "g": "25"}
    small = write_clip(folder / "small.mp4", moving_square(75), options=options)
    large = write_clip(folder / "large.mp4", moving_square(50, width=640, height=384), options=options)
    return small, large

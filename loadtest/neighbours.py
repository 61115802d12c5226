"""What one bad camera costs the others: their rate and the age of their results, with it and without it.

The client is real: sources, decoders, gates, scheduler, pipeline. The server is the in-memory twin, which scales each
picture and answers at once, so nothing but the client is measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clients.gate import GateRules
from clients.inference.memory import MemoryTransport
from clients.inference.transport import Request
from clients.lane import Lane
from clients.pipeline import Pipeline
from clients.result import Result
from clients.shares import TierLimits
from clients.statistics import Histogram
from clients.types import Canvas, Detections, LiveOptions, StreamSpec, Tier
from loadtest.bad_cameras import BEHAVIOURS, bad_camera

_ALONE, _UNBOUNDED = "none", "floods, not held back"
KINDS = (_ALONE, *BEHAVIOURS, _UNBOUNDED)
_FOR_EVER = 1e6  # pictures a second
_START_S = 2.0  # until all cameras are running; what comes before does not count


@dataclass(frozen=True, slots=True)
class Neighbours:
    """`cameras` good ones of `clip`, each wanting `demand_fps`, for `seconds` beside each kind of bad camera."""

    clip: Path
    cameras: int = 8
    seconds: float = 8.0
    demand_fps: float = 10.0
    rounds: int = 2

    def __post_init__(self) -> None:
        if not (self.cameras > 0 and self.seconds > 0 and self.demand_fps > 0 and self.rounds > 0):
            raise ValueError(f"cameras, seconds, demand and rounds must be positive, got {self}")
        if not self.clip.is_file():
            raise ValueError(f"{self.clip}: no such file")


def measure(asked: Neighbours, kinds: Sequence[str] = KINDS) -> dict[str, Any]:
    """Of each run beside each kind of bad camera: what the good ones got, and the CPU of all, bad servers included.

    Raises ValueError for a kind that there is not.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"expected one of {', '.join(KINDS)}, got {kind!r}")
    rounds: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(asked.rounds):
        for kind in kinds:
            rounds[kind].append(_run(asked, kind))
    rows = {kind: {key: [one[key] for one in found] for key in found[0]} for kind, found in rounds.items()}
    return {"kind": "measured", "cameras": asked.cameras, "seconds": asked.seconds, "beside": rows}


def _run(asked: Neighbours, kind: str) -> dict[str, float]:
    with ExitStack() as stack:
        good = [
            StreamSpec(f"good{number}", str(asked.clip), max_fps=asked.demand_fps, loop=True)
            for number in range(asked.cameras)
        ]
        bad = [StreamSpec("bad", url, live=live) for url, live in _bad(stack, kind)]
        rules = GateRules(min_interval_s=1 / asked.demand_fps, max_age_ms=2000, similarity_threshold=None)
        lanes = [Lane(spec, rules, Tier.N) for spec in (*good, *bad)]
        started_s, cpu_s = time.monotonic(), time.process_time()
        answers = _Answers(started_s + _START_S)
        asyncio.run(_pipeline(lanes, answers, _START_S + asked.seconds))
        elapsed_s, cpu_s = time.monotonic() - started_s, time.process_time() - cpu_s
    return {
        "inferences_per_s": round(len(answers.ages) / asked.seconds, 2),
        "p99_age_ms": round(answers.ages.quantile(0.99) or 0.0, 1),
        "cores": round(cpu_s / elapsed_s, 3),
        "bad_pictures_per_s": round(sum(lane.report().decoded for lane in lanes[asked.cameras :]) / elapsed_s, 1),
    }


def _bad(stack: ExitStack, kind: str) -> Iterator[tuple[str, LiveOptions]]:
    if kind == _UNBOUNDED:
        yield stack.enter_context(bad_camera(BEHAVIOURS["floods"])), LiveOptions(most_fps=_FOR_EVER)
    elif kind != _ALONE:
        yield stack.enter_context(bad_camera(BEHAVIOURS[kind])), LiveOptions(open_timeout_s=2, read_timeout_s=2)


class _Answers:
    """A sink for the ages of the good cameras' results, once all have started."""

    def __init__(self, from_s: float) -> None:
        self.ages = Histogram()
        self._from_s = from_s

    def write(self, result: Result) -> None:
        if result.stream_id != "bad" and time.monotonic() >= self._from_s:
            self.ages.add(result.age_ms)


async def _pipeline(lanes: list[Lane], answers: _Answers, seconds: float) -> None:
    canvas, out = Canvas(), np.empty(Canvas().nv12_shape, np.uint8)

    def answer(request: Request) -> Detections:
        request.picture.write_canvas(canvas, out)
        return Detections.empty()

    async def ready() -> bool:
        return True

    limits = {Tier.N: TierLimits(1.0, 48)}
    pipeline = Pipeline(lanes, MemoryTransport(answer), [answers], window=48, limits=limits, server_ready=ready)
    asyncio.get_running_loop().call_later(seconds, pipeline.stop)
    await pipeline.run()

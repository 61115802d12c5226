"""Cameras at an equal age of results: a naive tritonclient per camera beside the fleet, on the same emulated card.

Both sides: the same H.264 clips, decoded and paced, each camera inferred so many times a second, a real Triton whose
yolo12n takes a T4's modelled time, the same two cores for everything. What differs is what a client does with a frame.
A side carries a number of cameras when 95 % of its results are young enough and hardly an inference is left out.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from clients.config import Settings, parse_settings
from clients.errors import FleetError
from clients.fleet import Fleet
from clients.types import Tier
from deploy.claim import scratch
from deploy.server import TritonServer
from loadtest.emulator.repository import assemble_emulated, models_of
from loadtest.opponents.naive_client import WARM_S
from loadtest.profile import GpuProfile

_ROOT = Path(__file__).resolve().parents[2]
_SQUARE_MS = 1.64  # T4, 640x640, batch 1: YOLO12's authors
_ENOUGH = 0.95  # of the inferences that are asked for
_NAIVE_STEPS = (5, 10, 20, 30, 40, 60, 80, 100)
_OUR_STEPS = (20, 40, 60, 80, 100, 140, 200)
_NAIVE_CONFIG = """name: "naive"
backend: "python"
max_batch_size: 0
input [{{ name: "images" data_type: TYPE_FP32 dims: [1, 3, 640, 640] }}]
output [{{ name: "output0" data_type: TYPE_FP32 dims: [1, 84, 8400] }}]
instance_group [{{ count: 1 kind: KIND_CPU }}]
parameters [{{ key: "latency_ms" value: {{ string_value: "{latency_ms}" }} }}]
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """Inferences per second of each camera, how old results may be (95 %), seconds of each run."""

    fps: float = 5.0
    age_ms: float = 150.0
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Run:
    """One side with so many cameras."""

    side: str
    cameras: int
    inferences_per_s: float
    age_p50_ms: float
    age_p95_ms: float
    failed: int

    def holds(self, asked: Asked) -> bool:
        """Young enough, and as many as were asked for."""
        is_enough = self.inferences_per_s >= _ENOUGH * asked.fps * self.cameras
        return is_enough and self.age_p95_ms <= asked.age_ms and not self.failed


def naive(clips: Sequence[Path], asked: Asked, progress: Callable[[str], None]) -> list[Run]:
    """Runs with more and more cameras, until it does not hold any more. Raises FleetError."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        model = folder / "models" / "naive"
        (model / "1").mkdir(parents=True)
        (model / "config.pbtxt").write_text(_NAIVE_CONFIG.format(latency_ms=_SQUARE_MS), encoding="utf-8")
        code = Path(__file__).with_name("naive_engine.py").read_text(encoding="utf-8")
        (model / "1" / "model.py").write_text(code, encoding="utf-8")
        server = stack.enter_context(TritonServer(folder / "models", log=Path("out/opponents/naive-triton.log")))
        run = partial(_naive_run, clips, server.grpc_url, asked)
        return _climb("naive", _NAIVE_STEPS, run, asked, progress)


def _naive_run(clips: Sequence[Path], url: str, asked: Asked, count: int) -> Run:
    paths = [str(path.resolve()) for path in islice(cycle(clips), count)]
    options = ["--url", url, "--fps", f"{asked.fps:g}", "--seconds", f"{asked.seconds:g}"]
    command = [sys.executable, "-m", "loadtest.opponents.naive_client", *options, *paths]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FleetError(f"the naive client failed: {done.stderr.strip().splitlines()[-1:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    return Run("naive", count, told["inferences_per_s"], told["age_ms"]["p50"], told["age_ms"]["p95"], told["failed"])


def ours(clips: Sequence[Path], profile: GpuProfile, asked: Asked, progress: Callable[[str], None]) -> list[Run]:
    """Likewise the fleet, with its gate off: every due frame is inferred. Raises FleetError."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        assemble_emulated(folder / "card", profile, [Tier.N])
        log = Path("out/opponents/our-triton.log")
        server = stack.enter_context(TritonServer(models_of(folder / "card"), log=log))
        run = partial(_our_run, clips, server.grpc_url, asked)
        return _climb("ours", _OUR_STEPS, run, asked, progress)


def _our_run(clips: Sequence[Path], url: str, asked: Asked, count: int) -> Run:
    cameras = [
        {"id": f"cam{number:03d}", "source": str(clip), "loop": True, "max_fps": asked.fps}
        for number, clip in enumerate(islice(cycle(clips), count))
    ]
    told: dict[str, Any] = {
        "system": {"max_streams": max(50, count)},
        "model": {"default": "yolo12n", "fallback": "yolo12n", "high_precision": "yolo12n"},
        "optimization": {"enable_memory_optimization": False},
        "triton": {"url": url},
        "sinks": {"jsonl": None},
        "cameras": cameras,
    }
    summary, per_s = asyncio.run(watched(parse_settings(told, origin="opponents"), asked.seconds))
    age = summary["result_age_ms"]
    return Run("ours", count, per_s, age["p50"], age["p95"], summary["errors"])


async def watched(settings: Settings, run_s: float) -> tuple[dict[str, Any], float]:
    """The summary of a run, and its inferences per second once the cameras are there; ages are those of all of it."""
    async with Fleet(settings) as fleet:
        await asyncio.sleep(WARM_S)
        before, began_s = fleet.stats().inferences, time.monotonic()
        await asyncio.sleep(run_s - WARM_S)
        summary = fleet.stats()
        return summary.as_json(), round((summary.inferences - before) / (time.monotonic() - began_s), 1)


def _climb(
    side: str, steps: Sequence[int], run: Callable[[int], Run], asked: Asked, progress: Callable[[str], None]
) -> list[Run]:
    """The steps up to the first that does not hold, then one halfway back."""
    runs: list[Run] = []
    for count in steps:
        progress(f"{side}: {count} cameras")
        runs.append(run(count))
        if not runs[-1].holds(asked):
            break
    if len(runs) > 1 and not runs[-1].holds(asked) and (between := (runs[-1].cameras + runs[-2].cameras) // 2):
        progress(f"{side}: {between} cameras")
        runs.append(run(between))
    return sorted(runs, key=lambda one: one.cameras)


def carried(runs: Sequence[Run], asked: Asked) -> int:
    """The most cameras that held; 0 when not even the fewest did."""
    return max((one.cameras for one in runs if one.holds(asked)), default=0)

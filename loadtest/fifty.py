"""Fifty cameras, really decoded, against a real Triton with emulated engines: what the client itself costs and gives.

Every answer must carry the number that its own camera wrote into its pixels. Nothing here is a T4: the engine waits.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from clients.config import Settings, parse_settings
from clients.fleet import run_fleet
from clients.gate import Gate, GateRules
from clients.sources.file import FileSource, Timing
from clients.types import Tier
from deploy.claim import scratch
from deploy.server import TritonServer
from loadtest.emulator.repository import Emulation, assemble_emulated, models_of
from loadtest.profile import GpuProfile
from loadtest.thread_cpu import thread_cpu_s

PROFILES = Path(__file__).resolve().parent / "gpus"
CLIP_S = 8
_RSS_EVERY_S = 1.0
_GATED_FRAMES = 200


@dataclass(frozen=True, slots=True)
class Fifty:
    """What is run: cameras that each want `demand_fps` inferences per second, for `seconds`, the gate on or off."""

    cameras: int = 50
    seconds: float = 60.0
    demand_fps: float = 8.0
    gate: bool = False
    time_scale: float = 1.0
    transport: str = "auto"
    out: Path = Path("out/fifty")

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.demand_fps > 0):
            raise ValueError(f"seconds and demand must be positive, got {self.seconds} and {self.demand_fps}")


def run(asked: Fifty, clips: Sequence[Path], profile: GpuProfile) -> dict[str, Any]:
    """Start Triton, run the clips, judge; the summary's JSON with what is asked beside it. Raises FleetError."""
    with scratch() as folder:
        assemble_emulated(folder / "emulated", profile, [Tier.N], Emulation(time_scale=asked.time_scale))
        with TritonServer(models_of(folder / "emulated"), log=asked.out / "triton.log") as server:
            settings = settings_of(asked, clips, server.grpc_url)
            with watched() as watch:
                summary = asyncio.run(run_fleet(settings, asked.seconds)).as_json()
    rates = [one["inferences_per_s"] for one in summary["per_camera"].values()]
    return summary | {
        "kind": "emulated",
        "gpu": profile.gpu,
        "gate": "on" if asked.gate else "off",
        "frames_seen_per_s": round(summary["frames_decoded"] / summary["seconds"], 1),
        "fair_share_min": fair_share_min(rates, asked.demand_fps),
        "rss_slope_mb_per_min": slope_per_min(watch.memory),
        "client_cpu_ms_by_part": watch.cpu_ms_per(summary["inferences_per_s"]),
        "client_cpu_ms_per_gated_frame": gated_frame_ms(clips[0]),
        "cross_talk": cross_talk(asked.out / "detections.jsonl"),
    }


def fair_share_min(rates: Sequence[float], demand_fps: float) -> float:
    """The worst-served of equal cameras: its rate over what equal shares of all inferences, up to its demand, give."""
    fair = min(demand_fps, sum(rates) / len(rates))
    return round(min(rates) / fair, 3) if fair else 0.0


def slope_per_min(samples: Sequence[tuple[float, float]]) -> float | None:
    """Least-squares slope, per minute, of (seconds, MB) in the second half of a run; None with too few samples."""
    half = samples[len(samples) // 2 :]
    if len(half) < 5:
        return None
    seconds, megabytes = np.array(half).T
    return round(float(np.polyfit(seconds, megabytes, 1)[0]) * 60, 3)


def gated_frame_ms(clip: Path) -> float:
    """CPU of a frame that the gate refuses, without decoding: its thumbnail and the decision; the median of many."""
    gate = Gate(GateRules(min_interval_s=1e-6, max_age_ms=1e9, similarity_threshold=0.5, max_skip_s=3600))
    costs: list[int] = []
    for frame in FileSource("gated", clip).frames(Timing(time.monotonic_ns, lambda _seconds: False)):
        started_ns = time.thread_time_ns()
        verdict = gate.decide(frame.picture.thumbnail, frame.captured_ns, frame.captured_ns)
        costs.append(time.thread_time_ns() - started_ns)
        if verdict is None:
            gate.granted(frame.picture.thumbnail, frame.captured_ns)
        if len(costs) > _GATED_FRAMES:
            break
    return round(float(np.median(costs)) / 1e6, 4)


def cross_talk(results: Path) -> int:
    """How many results do not carry their own camera's number, and nothing but it."""
    wrong = 0
    with results.open(encoding="utf-8") as lines:
        for line in lines:
            told = json.loads(line)
            expected = [f"camera {int(told['camera'].removeprefix('cam'))}"]
            wrong += [one["class"] for one in told["objects"]] != expected
    return wrong


def settings_of(asked: Fifty, clips: Sequence[Path], url: str) -> Settings:
    """The configuration of these cameras, all on tier n, at this Triton."""
    cameras = [
        {"id": f"cam{number:03d}", "source": str(clip), "loop": True, "max_fps": asked.demand_fps, "model": "yolo12n"}
        for number, clip in enumerate(clips)
    ]
    return parse_settings(
        {
            "system": {"max_streams": max(50, asked.cameras)},
            "model": {"default": "yolo12n", "fallback": "yolo12n", "high_precision": "yolo12n"},
            "optimization": {"enable_memory_optimization": asked.gate},
            "triton": {"url": url, "transport": asked.transport},
            "sinks": {"jsonl": str(asked.out / "detections.jsonl")},
            "cameras": cameras,
        },
        origin="fifty",
    )


@dataclass(slots=True)
class _Watch:
    """Once a second: (seconds, resident MB of this process), and the processor seconds of its threads so far."""

    memory: list[tuple[float, float]] = field(default_factory=list)
    cpu: list[dict[str, float]] = field(default_factory=list)

    def cpu_ms_per(self, per_s: float) -> dict[str, float]:
        """Processor milliseconds of each part per inference, from a third of the run to its last second but one."""
        first, last = len(self.cpu) // 3, len(self.cpu) - 2
        if last <= first or not per_s:
            return {}
        seconds = self.memory[last][0] - self.memory[first][0]
        before, after = self.cpu[first], self.cpu[last]
        spent = {part: cpu_s - before.get(part, 0.0) for part, cpu_s in sorted(after.items())}
        return {part: round(cpu_s / seconds / per_s * 1000, 3) for part, cpu_s in spent.items()}


@contextmanager
def watched() -> Iterator[_Watch]:
    """Look once a second while the block runs."""
    watch = _Watch()
    done, process, started_s = threading.Event(), psutil.Process(), time.monotonic()

    def look() -> None:
        while not done.wait(_RSS_EVERY_S):
            watch.memory.append((time.monotonic() - started_s, process.memory_info().rss / 1e6))
            watch.cpu.append(thread_cpu_s())

    thread = threading.Thread(target=look, name="memory")
    thread.start()
    try:
        yield watch
    finally:
        done.set()
        thread.join()

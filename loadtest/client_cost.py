"""What the client costs beside decoding: scheduling, transport, scaling and tracking of 10 to 100 cameras.

The cameras are the pictures of `fifty`'s clips, not coded, so that their threads hardly work; everything behind them is
the real client against a real Triton whose engine only waits. Processor time is counted by thread: the event loop's
holds scheduling, transport, tracking and handing on, `native` is gRPC's own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from clients.fleet import run_fleet
from clients.tracking.tracker import Tracker
from clients.types import Detections, Tier
from deploy.claim import scratch
from deploy.server import TritonServer
from loadtest.coded_clips import coded_clips
from loadtest.emulator.repository import assemble_emulated, models_of
from loadtest.fifty import CLIP_S, Fifty, gated_frame_ms, settings_of, watched
from loadtest.profile import GpuProfile
from loadtest.raw_clips import raw_clip

_DIFFERENT = 4  # clips; more cameras than that show the same ones
_TRACKED = 30  # objects
_UPDATES = 300
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class ClientCost:
    """One run per number of cameras, each camera inferred `demand_fps` times a second, `rounds` times in turns."""

    cameras: Sequence[int] = (10, 50, 100)
    seconds: float = 15.0
    demand_fps: float = 4.0
    rounds: int = 2
    transport: str = "auto"
    out: Path = Path("out/client-cost")

    def __post_init__(self) -> None:
        if not self.cameras or min(self.cameras) < 1 or not (self.seconds > 0 and self.demand_fps > 0 < self.rounds):
            told = f"{list(self.cameras)}, {self.seconds}, {self.demand_fps} and {self.rounds}"
            raise ValueError(f"cameras, seconds, demand and rounds must be positive, got {told}")


def measure(asked: ClientCost, profile: GpuProfile, progress: Progress) -> dict[str, Any]:
    """CPU milliseconds per inference by part, medians of the rounds. Raises FleetError, ValueError."""
    progress("clips", 0.0)
    coded = coded_clips(_DIFFERENT, CLIP_S, Path("out/fifty/clips"), lambda _done, _of: None)
    clips = [raw_clip(clip, asked.out / f"{clip.stem}.nut") for clip in coded]
    runs: dict[int, list[dict[str, Any]]] = {count: [] for count in asked.cameras}
    with scratch() as folder:
        assemble_emulated(folder / "emulated", profile, [Tier.N])
        with TritonServer(models_of(folder / "emulated"), log=asked.out / "triton.log") as server:
            for number in range(asked.rounds * len(asked.cameras)):
                count = asked.cameras[number % len(asked.cameras)]
                progress(f"{count} cameras", number / (asked.rounds * len(asked.cameras)))
                runs[count].append(_run(asked, count, clips, server.grpc_url))
    tracker_ms = _tracker_ms()
    return {
        "kind": "measured",
        "demand_fps": asked.demand_fps,
        "cameras": {count: _merged(told) for count, told in runs.items()},
        "tracker_ms_30_objects": tracker_ms,
        "client_cpu_ms_per_gated_frame": gated_frame_ms(clips[0]),
        "errors": sum(one["errors"] for told in runs.values() for one in told),
    }


def _run(asked: ClientCost, count: int, clips: Sequence[Path], url: str) -> dict[str, Any]:
    fifty = Fifty(count, asked.seconds, asked.demand_fps, transport=asked.transport, out=asked.out)
    settings = settings_of(fifty, [clips[number % len(clips)] for number in range(count)], url)
    with watched() as watch:
        summary = asyncio.run(run_fleet(settings, asked.seconds)).as_json()
    parts = watch.cpu_ms_per(summary["inferences_per_s"])
    return {"inferences_per_s": summary["inferences_per_s"], "errors": summary["errors"], "parts": parts}


def _merged(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians; `beside_reading` leaves out the cameras' own threads."""
    names = sorted({name for one in told for name in one["parts"]})
    parts = {name: round(median(one["parts"].get(name, 0.0) for one in told), 3) for name in names}
    return {
        "inferences_per_s": median(one["inferences_per_s"] for one in told),
        "cpu_ms_per_inference": parts,
        "beside_reading": round(sum(ms for name, ms in parts.items() if name != "decode"), 3),
    }


def _tracker_ms() -> float:
    """CPU of one update with thirty objects that move, ms, the median."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 500, (_TRACKED, 2))
    steps = rng.uniform(-2, 2, (_TRACKED, 2))
    tracker, costs = Tracker(), []
    for update in range(_UPDATES):
        moved = corners + steps * update
        rows = np.hstack([moved, moved + 40, np.full((_TRACKED, 1), 0.8), np.zeros((_TRACKED, 1))]).astype(np.float32)
        started_ns = time.thread_time_ns()
        tracker.update(Detections.from_rows(rows), update / 8)
        costs.append(time.thread_time_ns() - started_ns)
    return round(median(costs) / 1e6, 4)

"""`python -m loadtest fidelity`: the same cameras live against the stand-in engine and in virtual time, side by side.

Real client, real H.264, real Triton whose engine waits, on the one hand; the simulator on the other. What is compared
is what a plan rests on: inferences, and the age of results. The card is made slower (`--time-scale`), so that the CPUs
that feed it are not what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clients.arguments import seconds
from clients.config import Settings, parse_settings
from clients.fleet import run_fleet
from clients.sources.file import FileSource, Timing
from clients.types import Detections, Tier
from deploy.claim import scratch
from deploy.server import TritonServer
from loadtest.emulator.repository import Emulation, assemble_emulated, models_of
from loadtest.profile import GpuProfile, read_profile
from loadtest.recordings import CANVASES, Recording
from loadtest.simulate import PROFILES
from loadtest.simulation.card import TierTiming, timings
from loadtest.simulation.run import Scenario, Simulation
from loadtest.simulation.verdict import Judge

_UNPACED = Timing(lambda: 0, lambda _seconds: False)


@dataclass(frozen=True, slots=True)
class Twin:
    """What both sides run: cameras on these clips at `fps`, each wanting `demand_fps` inferences, on a card so slow."""

    clips: Sequence[Path]
    seconds: float = 15.0
    demand_fps: float = 8.0
    time_scale: float = 20.0
    gate: bool = True


def compare(twin: Twin, profile: GpuProfile, log: Path) -> dict[str, Any]:
    """Both, and their ratios. Raises FleetError."""
    live, virtual = _live(twin, profile, log), _virtual(twin, profile)
    return {
        "live": live,
        "simulated": virtual,
        "inferences_ratio": round(virtual["inferences_per_s"] / live["inferences_per_s"], 3),
        "age_p50_ratio": round(virtual["age_ms"]["p50"] / live["age_ms"]["p50"], 3),
        "age_p95_ratio": round(virtual["age_ms"]["p95"] / live["age_ms"]["p95"], 3),
        "kind": "emulated beside simulated",
        "gpu": profile.gpu,
        "time_scale": twin.time_scale,
    }


def _live(twin: Twin, profile: GpuProfile, log: Path) -> dict[str, Any]:
    with scratch() as folder:
        assemble_emulated(folder / "emulated", profile, [Tier.N], Emulation(time_scale=twin.time_scale))
        with TritonServer(models_of(folder / "emulated"), log=log) as server:
            summary = asyncio.run(run_fleet(_settings(twin, server.grpc_url), twin.seconds)).as_json()
    return {
        "inferences_per_s": summary["inferences_per_s"],
        "mean_batch": summary["mean_batch"],
        "age_ms": summary["result_age_ms"],
        "skipped": summary["frames_skipped"],
        "errors": summary["errors"],
    }


def _settings(twin: Twin, url: str) -> Settings:
    cameras = [
        {"id": f"cam{number:03d}", "source": str(clip), "loop": True, "max_fps": twin.demand_fps, "max_age_ms": 5000}
        for number, clip in enumerate(twin.clips)
    ]
    return parse_settings(
        {
            "system": {"max_streams": max(50, len(cameras)), "min_batch_size": 16},
            "model": {"default": "yolo12n", "fallback": "yolo12n", "high_precision": "yolo12n"},
            "optimization": {"enable_memory_optimization": twin.gate, "governor": "off", "audit_share": 0.0},
            "triton": {"url": url, "window": 48, "timeout_ms": 20_000},
            "sinks": {"jsonl": None},
            "cameras": cameras,
        },
        origin="fidelity",
    )


def _virtual(twin: Twin, profile: GpuProfile) -> dict[str, Any]:
    tiers = {Tier.N: _slowed(timings(profile)[Tier.N], twin.time_scale)}
    similarity = 0.95 if twin.gate else None
    scenario = Scenario(
        len(twin.clips),
        twin.seconds,
        twin.demand_fps,
        similarity=similarity,
        max_age_ms=5000,
        judge_every=10**9,
        in_step=True,
    )
    simulation = Simulation(scenario, [_recording(clip) for clip in twin.clips], tiers, Judge(scenario.judge_every))
    simulation.run()
    verdicts: dict[str, int] = {}
    for one in simulation.cameras.values():
        for verdict, count in one.camera.counts()[1].items():
            verdicts[verdict.value] = verdicts.get(verdict.value, 0) + count
    return {
        "inferences_per_s": round(sum(simulation.answered.values()) / twin.seconds, 2),
        "mean_batch": round(simulation.pool.mean_batch or 0.0, 2),
        "age_ms": simulation.ages.summary(),
        "skipped": verdicts,
    }


def _slowed(timing: TierTiming, scale: float) -> TierTiming:
    latencies_ms = tuple(ms * scale for ms in timing.latencies_ms)
    return replace(timing, latencies_ms=latencies_ms, delay_ms=timing.delay_ms * scale)


def _recording(clip: Path) -> Recording:
    """A clip without a truth: what the gate sees, and one box, as the stand-in engine answers."""
    frames = list(FileSource("twin", clip).frames(_UNPACED))
    box = Detections.from_rows(np.array([[100, 100, 140, 160, 0.9, 0]], np.float32))
    seen: Mapping[str, list[Detections]] = {str(canvas): [box] * len(frames) for canvas in CANVASES}
    times_s = np.array([frame.media_time_s for frame in frames])
    fps = round((len(frames) - 1) / (times_s[-1] - times_s[0]))
    thumbnails = np.stack([frame.picture.thumbnail() for frame in frames])
    edges, truth = np.zeros(len(frames), np.float32), [()] * len(frames)
    return Recording(clip.stem, "", frames[0].picture.size_px, fps, times_s, thumbnails, edges, truth, seen)


def add_fidelity(commands: Any) -> None:
    """The command and its options."""
    text = "the same cameras live against the stand-in engine and in virtual time: how true the simulator is"
    parser = commands.add_parser("fidelity", help=text, description=text)
    parser.add_argument("--gpu", default="t4", metavar="NAME", help="loadtest/gpus/NAME.json (default %(default)s)")
    parser.add_argument("--cameras", type=int, default=16, metavar="N", help="default %(default)s")
    parser.add_argument("--seconds", type=seconds, default=20.0, metavar="S", help="default %(default)s")
    parser.add_argument("--demand", type=float, default=8.0, metavar="FPS", help="per camera (default %(default)s)")
    parser.add_argument("--time-scale", type=float, default=5.0, metavar="X", help="how slow a card (default 5)")
    parser.set_defaults(command=fidelity)


def fidelity(options: argparse.Namespace) -> dict[str, Any]:
    """Run it on the coded clips of `fifty`."""
    from demo.progress import bars
    from loadtest.coded_clips import coded_clips
    from loadtest.fifty import CLIP_S

    started = time.monotonic()
    with bars() as bar:
        task = bar.add_task("clips", total=None)
        folder = Path("out/fifty/clips")
        clips = coded_clips(
            options.cameras, CLIP_S, folder, lambda done, of: bar.update(task, completed=done, total=of)
        )
    twin = Twin(clips, options.seconds, options.demand, options.time_scale)
    told = compare(twin, read_profile(PROFILES / f"{options.gpu}.json"), Path("out/fidelity-triton.log"))
    return told | {"seconds": round(time.monotonic() - started, 1)}

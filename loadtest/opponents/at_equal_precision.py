"""Cameras at equal streaming AP on this machine's processor: Ultralytics' multi-stream predict beside the fleet.

**Measured**, on the same clips with the same weights, decoding included: how many frames a second each side infers when
it does nothing else. **In virtual time**, on the recordings of those clips with their truth: what its users would see
of so many cameras at that speed. Ultralytics infers cameras in turn, every time the newest frame, and shows boxes until
the next ones come; ours has gate, scheduler, tracker and governor, as they are by default. Both get the detections of
the same network. For Ultralytics no batch has to be waited for and nothing costs time but inferring: it is drawn
fresher than it is.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clients.config import parse_settings
from clients.errors import FleetError
from clients.types import Tier
from deploy.claim import scratch
from loadtest.opponents.at_equal_age import watched
from loadtest.recordings import WEIGHTS, Recording
from loadtest.simulate import run
from loadtest.simulation.card import TierTiming
from loadtest.simulation.run import Scenario

_ROOT = Path(__file__).resolve().parents[2]
_WATCHED = 18  # cameras that are simulated, static, calm and busy ones alike, whatever the count stands for
COUNTS = (1, 2, 3, 6, 9, 18, 36, 54)  # parts and multiples of them
_RUN_S, _JUDGED_EVERY = 8.0, 6  # seconds, and of how many frames one is judged
FORMS: Mapping[str, tuple[str, str]] = {
    "torch, as documented": ("pt", "640"),
    "ONNX, 640x384": ("onnx", "384x640"),
    "OpenVINO, 640x384": ("openvino", "384x640"),
}


def ultralytics_speed(clips: Sequence[Path], form: str, size: str, seconds: float) -> dict[str, Any]:
    """What export/multi_stream.py prints, run in a process of its own. Raises FleetError."""
    with scratch() as folder:
        weights = folder / WEIGHTS.name
        shutil.copy(WEIGHTS, weights)
        options = ["--format", form, "--size", size, "--seconds", f"{seconds:g}"]
        command = [sys.executable, "-m", "export.multi_stream", str(weights), *map(str, clips), *options]
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["it said nothing"]
            raise FleetError(f"Ultralytics' {form} multi-stream predict failed: {lines[-1]}")
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told


def our_speed(clips: Sequence[Path], models: Path, seconds: float) -> dict[str, Any]:
    """The fleet with its embedded Triton, asked for more than it can do, gate off. Raises FleetError."""
    told = {
        "system": {"target_fps": 25},
        "model": {"default": "yolo12n", "fallback": "yolo12n", "high_precision": "yolo12n"},
        "optimization": {"enable_memory_optimization": False, "governor": "off", "audit_share": 0.0},
        "triton": {"models": str(models)},
        "sinks": {"jsonl": None},
        "cameras": [{"id": clip.stem, "source": str(clip), "loop": True} for clip in clips],
    }
    summary, per_s = asyncio.run(watched(parse_settings(told, origin="opponents"), seconds))
    if not per_s:
        raise FleetError("the fleet inferred nothing")
    return {
        "frames_per_s": per_s,
        "age_ms": summary["result_age_ms"],
        "precision": summary["precision"],
        "mean_batch": summary["mean_batch"],
    }


def curve(
    found: Sequence[Recording], frames_per_s: float, *, is_ours: bool, progress: Callable[[str], None]
) -> dict[int, float]:
    """Streaming AP by number of cameras, on a processor that infers so many frames a second.

    The same cameras are watched for every count, on a processor that is as many times faster or slower, so that all
    points judge the same scenes. What one inference takes less by it is added to every answer's age; Ultralytics has as
    many in flight then as gives its speed.
    """
    points = {}
    for count in COUNTS:
        progress(f"{count} cameras at {frames_per_s:.0f} frames/s")
        one_ms = 1000 / frames_per_s * count / _WATCHED
        timing = TierTiming((1,), (one_ms,), 4, (1,), 0.0)
        told = Scenario(_WATCHED, _RUN_S, 25.0, judge_every=_JUDGED_EVERY)
        added_ms = max(0.0, 1000 / frames_per_s - one_ms)
        if is_ours:
            scenario = replace(told, policy="fixed", overhead_ms=told.overhead_ms + added_ms)
        else:
            in_flight = max(1, _WATCHED // count)
            untracked = replace(told, demand_fps=60.0, similarity=None, tracks=False, max_age_ms=1e6)
            scenario = replace(untracked, window=in_flight, overhead_ms=added_ms)
        points[count] = float(run(scenario, found, {Tier.N: timing})["streaming_ap"])
    return points


def cameras_at(points: Mapping[int, float], precision: float) -> float:
    """The most cameras that keep this AP, between two counts interpolated; 0 where one camera does not."""
    kept = [count for count in points if points[count] >= precision]
    if not kept or 1 not in kept:
        return 0.0
    last = max(kept)
    after = next((count for count in points if count > last), None)
    if after is None:
        return float(last)
    share = (points[last] - precision) / (points[last] - points[after])
    return round(last + share * (after - last), 1)

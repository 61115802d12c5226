"""`python -m loadtest reliability`: a fleet on a real Triton is hurt again and again; what became of its cameras.

The engines are an emulated card's, so every answer carries the number of the camera that asked. A camera is lost when
it has no results within a minute after the harm is over. Then the fleet is told to stop under load, and in the end all
processes of a fleet with its own Triton are killed at once and it is started again.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from clients.errors import ConfigError
from clients.types import Tier
from deploy.server import TritonServer
from loadtest.coded_clips import coded_clips
from loadtest.emulator.repository import assemble_emulated, models_of
from loadtest.faults import FAKETIME, FAULTS, CannotInject, Stack
from loadtest.fifty import PROFILES
from loadtest.profile import read_profile
from loadtest.watched_fleet import WatchedFleet

EVERYTHING = "everything-killed"
_CLIP_S = 4
_MODELS = Path(__file__).resolve().parent.parent / "demo" / "weights"
_N_ONLY = {"default": "yolo12n", "fallback": "yolo12n", "high_precision": "yolo12n"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the cameras: how many were lost, how long one was silent at most, from the first harm on, and how
    long after the end of the harm all were back. Not injected: `lost` is None."""

    fault: str
    remark: str
    lost: int | None = None
    silence_s: float | None = None
    back_s: float | None = None


def reliability(options: argparse.Namespace) -> dict[str, Any]:
    """Run it; the report has `errors` when a camera was lost. Raises FleetError."""
    wanted = options.only or [*FAULTS, EVERYTHING]
    for name in wanted:
        if name not in (*FAULTS, EVERYTHING):
            raise ConfigError(f"--only: expected one of {', '.join((*FAULTS, EVERYTHING))}, got {name}")
    options.out.mkdir(parents=True, exist_ok=True)
    clips = coded_clips(options.cameras, _CLIP_S, options.out / "clips", lambda _done, _of: None)
    outcomes, ended = [], {}
    faults = [name for name in wanted if name != EVERYTHING]
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        if faults:
            with _stack(clips, options.demand, Path(folder), options.out / "fleet.log") as stack:
                for name in faults:
                    outcomes.append(_injected(stack, name))
                    _say(outcomes[-1])
                ended = _stopped(stack)
        if EVERYTHING in wanted:
            outcomes.append(_everything_killed(clips[:2], Path(folder), options.out / "killed.log"))
            _say(outcomes[-1])
    lost = sum(outcome.lost or 0 for outcome in outcomes)
    return {"cameras": options.cameras, "faults": [asdict(one) for one in outcomes], **ended, "errors": lost}


def _injected(stack: Stack, name: str) -> Outcome:
    """One fault, and what it did to the cameras of the fleet."""
    stack.fleet.mark()
    try:
        remark = FAULTS[name](stack)
    except CannotInject as error:
        return Outcome(name, str(error))
    over_s = time.monotonic()
    lost = stack.fleet.lost()
    back_s = time.monotonic() - over_s
    return Outcome(name, remark, len(lost), round(stack.fleet.silence_s(), 1), round(back_s, 1))


def _stopped(stack: Stack) -> dict[str, Any]:
    """SIGTERM while all cameras are being inferred."""
    in_load = stack.fleet.lost()
    took_s, summary = stack.fleet.stop()
    accounted = summary["inferences"] + sum(summary["frames_skipped"].values())
    return {
        "sigterm_s": round(took_s, 1),
        "cross_talk": stack.fleet.wrong(),
        "lost_before_sigterm": len(in_load),
        "inferences_per_s": summary["inferences_per_s"],
        "frames_unaccounted": summary["frames_decoded"] - accounted,
    }


@contextmanager
def _stack(clips: Sequence[Path], demand_fps: float, folder: Path, log: Path) -> Iterator[Stack]:
    assemble_emulated(folder / "card", read_profile(PROFILES / "t4.json"), [Tier.N])
    log.unlink(missing_ok=True)
    clock = None
    if FAKETIME.exists():
        clock = folder / "clock"
        clock.write_text("+0h\n")
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with TritonServer(models_of(folder / "card"), log=log.with_name("triton.log")) as server:
        cameras = [{"id": f"cam{number:03d}", "source": str(clip), "loop": True} for number, clip in enumerate(clips)]
        content = {
            "system": {"target_fps": demand_fps},
            "model": _N_ONLY,
            "optimization": {"enable_memory_optimization": False},
            "triton": {"url": server.grpc_url, "timeout_ms": 1000},
            "monitoring": {"metrics_port": port, "log_format": "json", "check_interval": 1},
            "sinks": {"jsonl": str(folder / "detections.jsonl")},
            "cameras": cameras,
        }
        names = [str(camera["id"]) for camera in cameras]
        config = folder / "config.yaml"
        with WatchedFleet(config, folder / "detections.jsonl", names, log) as fleet:
            stack = Stack(server, fleet, content, port, clock, folder)
            stack.write_config(content)
            fleet.start(stack.environment)
            fleet.wait_for(lambda: not fleet.lost())
            yield stack


def _everything_killed(clips: Sequence[Path], folder: Path, log: Path) -> Outcome:
    """A fleet with its own Triton: all its processes get SIGKILL at once; the next start removes what they left."""
    log.unlink(missing_ok=True)
    results = folder / "killed.jsonl"
    content = {
        "system": {"target_fps": 2},
        "model": _N_ONLY,
        "triton": {"models": str(_MODELS), "log": str(log.with_name("killed-triton.log"))},
        "optimization": {"max_skip_s": 0.5},
        "sinks": {"jsonl": str(results)},
        "cameras": [{"id": f"cam{n:03d}", "source": str(clip), "loop": True} for n, clip in enumerate(clips)],
    }
    config = folder / "killed.yaml"
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    names = [f"cam{number:03d}" for number in range(len(clips))]
    with WatchedFleet(config, results, names, log, coded=False) as fleet:
        fleet.start()
        fleet.wait_for(lambda: not fleet.lost())
        processes = [psutil.Process(fleet.pid), *psutil.Process(fleet.pid).children(recursive=True)]
        ours = _traces([process.pid for process in processes])
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)
        psutil.wait_procs(processes, timeout=10)
        fleet.kill()
        results.unlink(missing_ok=True)
        fleet.mark()
        fleet.start()
        began_s = time.monotonic()
        lost = fleet.lost()
        back_s = time.monotonic() - began_s
        left = [path for path in ours if path.exists()]
        fleet.stop()
    told = f"{len(processes)} processes; of the {len(ours)} files that they left, {len(left)} are there after the start"
    return Outcome(EVERYTHING, told, len(lost) + len(left), None, round(back_s, 1))


def _traces(pids: Sequence[int]) -> list[Path]:
    """What these processes have in shared memory and as temporary folders."""
    folders = (Path("/dev/shm"), Path(tempfile.gettempdir()))
    return [
        path
        for folder in folders
        for pid in pids
        for kind in ("y12f", "y12triton")
        for path in _named(folder, kind, pid)
    ]


def _named(folder: Path, kind: str, pid: int) -> list[Path]:
    return list(folder.glob(f"{kind}-{pid}-*"))


def _say(outcome: Outcome) -> None:
    figures = f"lost {outcome.lost}, silent {outcome.silence_s} s, back after {outcome.back_s} s"
    sys.stderr.write(f"{outcome.fault}: {figures}; {outcome.remark}\n")
    sys.stderr.flush()

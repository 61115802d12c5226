"""`python -m loadtest soak`: a fleet under load for a long time; what of memory and open files does not come back.

The fleet runs as a process of its own against a real Triton with an emulated card's engines; one of its cameras comes
and goes all the time, so connections are opened and closed again and again. What grows is looked for after the first
third (growth_mb_per_min).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from clients.errors import ConfigError
from clients.types import Tier
from deploy.server import TritonServer
from loadtest.bad_cameras import bad_camera, flaps
from loadtest.coded_clips import coded_clips
from loadtest.emulator.repository import assemble_emulated, models_of
from loadtest.fifty import PROFILES, slope_per_min
from loadtest.profile import read_profile
from loadtest.resident import resident_of, tree_of
from loadtest.watched_fleet import WatchedFleet

_CLIP_S = 8
_LOOKS = 200  # over the whole run
_N_ONLY = {"default": "yolo12n", "fallback": "yolo12n", "high_precision": "yolo12n"}
_MOST_GROWTH_MB_PER_MIN = 1.0
_MOST_MORE_FILES = 10  # between the middle and the end; a camera that comes and goes has some open now and then


@dataclass(frozen=True, slots=True)
class Look:
    """A process tree at one moment. Resident memory of its own, and shared memory that it has touched so far.

    The latter is at most the fleet's region and what Triton's Python backends share, and counts in each process: pages
    are touched when more requests are in flight than ever before, which may be late in a run.
    """

    at_s: float
    memory_mb: float
    files: int
    threads: int
    shared_mb: float = 0.0


def soak(options: argparse.Namespace) -> dict[str, Any]:
    """Run it; the report has `errors` when something grows or a camera is lost. Raises FleetError."""
    if options.cameras < 2:
        raise ConfigError(f"--cameras: expected at least 2, got {options.cameras}")
    options.out.mkdir(parents=True, exist_ok=True)
    clips = coded_clips(options.cameras - 1, _CLIP_S, options.out / "clips", lambda _done, _of: None)
    log = options.out / "fleet.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out) as scratch, bad_camera(flaps) as url:
        folder = Path(scratch)
        assemble_emulated(folder / "card", read_profile(PROFILES / "t4.json"), [Tier.N])
        with TritonServer(models_of(folder / "card"), log=options.out / "triton.log") as server:
            config = folder / "config.yaml"
            config.write_text(yaml.safe_dump(_content(clips, url, server.grpc_url, options.demand)), encoding="utf-8")
            with WatchedFleet(config, folder / "none", (), log) as fleet:
                fleet.start()
                fleet.wait_for(lambda: fleet.said(": live") >= len(clips))
                looks = {"fleet": (fleet.pid, list[Look]()), "triton": (server.pid, list[Look]())}
                _watch(looks, options.seconds, fleet)
                _, summary = fleet.stop()
    return judged({name: seen for name, (_, seen) in looks.items()}, summary)


def _content(clips: Sequence[Path], bad: str, url: str, demand_fps: float) -> dict[str, Any]:
    cameras = [{"id": f"cam{number:03d}", "source": str(clip), "loop": True} for number, clip in enumerate(clips)]
    return {
        "system": {"target_fps": demand_fps, "max_streams": max(50, len(clips) + 1)},
        "model": _N_ONLY,
        "triton": {"url": url},
        "monitoring": {"check_interval": 60},
        "sinks": {"jsonl": "/dev/null"},  # written all the same
        "cameras": [*cameras, {"id": "flaps", "source": bad}],
    }


def _watch(looks: dict[str, tuple[int, list[Look]]], seconds: float, fleet: WatchedFleet) -> None:
    began_s, every_s = time.monotonic(), max(1.0, seconds / _LOOKS)
    while (at_s := time.monotonic() - began_s) < seconds:
        for pid, seen in looks.values():
            seen.append(look_at_tree(pid, at_s))
        newest = ", ".join(
            f"{name} {seen[-1].memory_mb:.0f} MB {seen[-1].files} files" for name, (_, seen) in looks.items()
        )
        sys.stderr.write(f"{at_s:.0f} s: {newest}\n")
        fleet.wait_for(lambda: time.monotonic() - began_s >= at_s + every_s)


def look_at_tree(pid: int, at_s: float) -> Look:
    """A process and all below it, now. Raises psutil.NoSuchProcess."""
    tree = tree_of(pid)
    resident = resident_of(tree)
    return Look(
        at_s,
        resident.own_mb,
        sum(process.num_fds() for process in tree),
        sum(process.num_threads() for process in tree),
        resident.shared_mb,
    )


def growth_mb_per_min(looks: Sequence[Look]) -> float:
    """How much higher memory is in the last third of a run than in the middle one, medians, per minute between them.

    Decoders give tens of megabytes back and take them again, which tilts a straight line through a short run and makes
    one peak higher than another; a leak lifts the median by as much as the line. The first third, in which all is
    loaded, does not count.
    """
    third = max(1, len(looks) // 3)
    middle, last = looks[-2 * third : -third], looks[-third:]
    if not middle:
        return 0.0
    minutes = (last[-1].at_s - middle[-1].at_s) / 60
    grown_mb = median(look.memory_mb for look in last) - median(look.memory_mb for look in middle)
    return round(grown_mb / minutes, 3)


def judged(looks: dict[str, list[Look]], summary: dict[str, Any]) -> dict[str, Any]:
    """What grew, beside what was inferred; `errors` counts processes that grow and cameras that are lost."""
    report: dict[str, Any] = {"kind": "emulated", "errors": 0}
    for name, seen in looks.items():
        growth = growth_mb_per_min(seen)
        middle, last = seen[len(seen) // 2], seen[-1]
        report[name] = {
            "memory_mb": [round(look.memory_mb, 1) for look in (seen[0], middle, last)],
            "shared_mb": [round(look.shared_mb, 1) for look in (seen[0], middle, last)],
            "growth_mb_per_min": growth,
            "slope_mb_per_min": slope_per_min([(look.at_s, look.memory_mb) for look in seen]),
            "files": [look.files for look in (seen[0], middle, last)],
            "threads": [look.threads for look in (seen[0], middle, last)],
        }
        grows = growth >= _MOST_GROWTH_MB_PER_MIN or last.files > middle.files + _MOST_MORE_FILES
        report["errors"] += int(grows)
    states = {name: one["state"] for name, one in summary["per_camera"].items() if name != "flaps"}
    lost = [name for name, state in states.items() if state != "live"]
    report |= {"seconds": summary["seconds"], "cameras": summary["cameras"], "cameras_lost": lost}
    report |= {key: summary[key] for key in ("inferences", "inferences_per_s", "result_age_ms")}
    report["connections_of_the_bad_camera"] = summary["per_camera"]["flaps"]["states"].get("connecting", 0)
    report["errors"] += len(lost)
    return report

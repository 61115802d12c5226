"""What the death of a part of a Ray cluster costs its cameras: real nodes on this machine, and a card that is emulated.

Under load a fleet's process is killed, another one is stopped, then a whole node is removed. Told is the silence of the
cameras that ran there, from their last answer there to the first one elsewhere, and what the other cameras noticed. A
fleet that takes its cameras back costs them a shorter one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import yaml

from clients.cluster.command import FOR_RAY
from clients.errors import FleetError
from clients.types import Tier
from deploy.claim import scratch
from deploy.ports import free_port
from deploy.server import TritonServer
from loadtest.coded_clips import coded_clips
from loadtest.emulator.repository import Emulation, assemble_emulated, models_of
from loadtest.fifty import CLIP_S, PROFILES
from loadtest.profile import GpuProfile, read_profile
from loadtest.raw_clips import raw_clip

ROOT = Path(__file__).resolve().parents[1]
_SMALL = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
_LONG_S = 120.0  # nothing here takes so long; what waits for that which never comes ends
_SCALE = 10.0  # how much slower the card is
_DIFFERENT = 4  # clips; more cameras than that show the same ones
_STEADY_S = 5.0  # of usual work before and after each death
Times = dict[str, dict[str, list[float]]]


@contextmanager
def ray_cluster() -> Iterator[Any]:
    """A Ray cluster on this machine: its head, which has no card. Raises FleetError without Ray."""
    os.environ |= FOR_RAY
    try:
        from ray.cluster_utils import Cluster
    except ImportError as error:
        raise FleetError("Ray is not installed; pip install --group cluster") from error
    cluster = Cluster(initialize_head=True, head_node_args={**_SMALL, "node_name": "head", "include_dashboard": False})
    try:
        yield cluster
    finally:
        cluster.shutdown()


@contextmanager
def slow_card(folder: Path, profile: GpuProfile, scale: float = _SCALE) -> Iterator[TritonServer]:
    """A Triton on an emulated card, `scale` times slower, that all nodes of a test share."""
    assemble_emulated(folder, profile, [Tier.N], Emulation(time_scale=scale))
    with TritonServer(models_of(folder), log=folder / "triton.log") as server:
        yield server


class ClusterRun:
    """`python -m clients cluster` in a process of its own, on nodes that are added to a cluster; what it writes."""

    def __init__(self, cluster: Any, server: TritonServer, folder: Path, clips: Sequence[Path], fps: float) -> None:
        """Each camera shows one of the clips again and again, at `fps` inferences per second; all is in `folder`."""
        self._cluster, self._server, self._clips, self._fps = cluster, server, clips, fps
        self.folder, self.port = folder, free_port("127.0.0.1")
        self.config, self._errors = folder / "config.yaml", folder / "stderr"
        self.nodes: dict[str, Any] = {}
        self.process: subprocess.Popen[str] | None = None

    def start(self, cameras: Sequence[str], *arguments: str) -> None:
        """Begin, with these cameras."""
        self.write(cameras)
        command = [sys.executable, "-m", "clients", "cluster", "--config", str(self.config)]
        command += ["--address", self._cluster.address, *arguments]
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True)

    def write(self, cameras: Sequence[str]) -> None:
        """The configuration with these cameras, whole or not at all."""
        model, clips = "yolo12n", self._clips
        content = {
            "model": {"default": model, "fallback": model, "high_precision": model},
            "system": {"target_fps": self._fps},
            "optimization": {"enable_memory_optimization": False, "governor": "off"},
            "monitoring": {"metrics_port": self.port, "log_format": "json"},
            "triton": {"url": self._server.grpc_url, "timeout_ms": 2000 * _SCALE},
            "sinks": {"jsonl": str(self.folder / "results.jsonl")},
            "cameras": [
                {"id": name, "source": str(clips[number % len(clips)]), "loop": True, "max_age_ms": 500 * _SCALE}
                for number, name in enumerate(cameras)
            ],
        }
        fresh = self.config.with_suffix(".new")
        fresh.write_text(yaml.safe_dump(content), encoding="utf-8")
        fresh.replace(self.config)

    def add_node(self, name: str) -> None:
        """A machine with a card joins."""
        self.nodes[name] = self._cluster.add_node(**_SMALL, node_name=name, resources={"card": 1})

    def remove_node(self, name: str) -> None:
        """All its processes are killed."""
        self._cluster.remove_node(self.nodes.pop(name), allow_graceful=False)

    def process_of(self, name: str) -> psutil.Process:
        """The process of a node's fleet."""
        raylet = psutil.Process(self.nodes[name].all_processes["raylet"][0].process.pid)
        (fleet,) = [child for child in raylet.children() if "FleetOnNode" in " ".join(child.cmdline())]
        return fleet

    @property
    def log(self) -> str:
        """What was logged so far."""
        return self._errors.read_text(encoding="utf-8")

    def events(self, name: str) -> list[dict[str, Any]]:
        """What was logged under this name so far."""
        return [told for told in map(json.loads, self.log.splitlines()) if told["event"] == name]

    def results(self) -> Times:
        """When each camera's results were there, in Unix time, by the fleet: `a`, its second one is `a.2`."""
        found: Times = {}
        for path in self.folder.glob("results.*.jsonl"):
            for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
                told = json.loads(line)
                at_s = datetime.fromisoformat(told["time"]).timestamp() + told["age_ms"] / 1000
                found.setdefault(told["camera"], {}).setdefault(path.stem.partition(".")[2], []).append(at_s)
        return found

    def homes(self) -> dict[str, str]:
        """The fleet that each camera's newest result comes from."""
        return {name: max(fleets, key=lambda fleet: fleets[fleet][-1]) for name, fleets in self.results().items()}

    def until(self, holds: Callable[[], bool]) -> None:
        """Until it holds. Raises FleetError when the command ends before, or it takes too long."""
        deadline_s = time.monotonic() + _LONG_S
        while not holds():
            if self.process is not None and self.process.poll() is not None:
                raise FleetError(f"clients cluster has ended:\n{self.log}")
            if time.monotonic() > deadline_s:
                raise FleetError(f"it does not come to that: {self.homes()}\n{self.log}")
            time.sleep(0.1)

    def end(self) -> dict[str, Any]:
        """SIGTERM, and the summary. Raises FleetError when it does not end well."""
        if self.process is None:
            raise FleetError("the command was not started")
        self.process.terminate()
        output, _ = self.process.communicate(timeout=60)
        if self.process.returncode != 0:
            raise FleetError(f"clients cluster has ended with {self.process.returncode}:\n{self.log}")
        return dict(json.loads(output.splitlines()[-1]))

    def close(self) -> None:
        """Nothing of it is left."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        for name in list(self.nodes):
            self.remove_node(name)
        self._cluster.wait_for_nodes(timeout=_LONG_S)  # Ray knows that they are gone, and their names are free


@dataclass(frozen=True, slots=True)
class Asked:
    """Cameras, inferences per second of each, where clips and logs go."""

    cameras: int = 8
    fps: float = 4.0
    out: Path = Path("out/cluster")


def measure(asked: Asked, profile: GpuProfile) -> dict[str, Any]:
    """A process killed, one stopped, a node removed. Raises FleetError."""
    coded = coded_clips(_DIFFERENT, CLIP_S, Path("out/fifty/clips"), lambda _done, _of: None)
    clips = [raw_clip(clip, asked.out / f"{clip.stem}.nut").resolve() for clip in coded]
    names = [f"cam{number:03d}" for number in range(asked.cameras)]
    with scratch() as folder, slow_card(folder / "card", profile) as server, ray_cluster() as cluster:
        run = ClusterRun(cluster, server, folder, clips, asked.fps)
        try:
            for node in "ab":
                run.add_node(node)
            run.start(names)
            _both(run, names, "a", "b")
            deaths = {"process_killed": _death(run, names, "a", lambda: run.process_of("a").kill())}
            back = {"process_killed": _back(run, names, "a.2", "b")}
            deaths["process_stopped"] = _death(run, names, "b", lambda: run.process_of("b").suspend())
            back["process_stopped"] = _back(run, names, "a.2", "b.2")
            deaths["node_removed"] = _death(run, names, "b.2", lambda: run.remove_node("b"))
            summary = run.end()
        finally:
            run.close()
    worst_s = max(told["longest_silence_s"] for told in deaths.values())
    return {
        "kind": "emulated",
        "gpu": profile.gpu,
        "cameras": asked.cameras,
        "demand_fps": asked.fps,
        "nodes": 2,
        "deaths": deaths,
        "taken_back": back,
        "longest_silence_s": worst_s,
        "errors": summary["errors"] + len(summary["cameras_not_running"]),
    }


def _both(run: ClusterRun, names: Sequence[str], *fleets: str) -> None:
    """Until all cameras have results, and each fleet has some of them; then usual work for a while."""
    run.until(lambda: set(run.homes()) == set(names) and set(run.homes().values()) == set(fleets))
    time.sleep(_STEADY_S)


def _death(run: ClusterRun, names: Sequence[str], fleet: str, kill: Callable[[], object]) -> dict[str, Any]:
    """What the end of a fleet costs its cameras, and the others."""
    homes = run.homes()
    orphans = [name for name in names if homes[name] == fleet]
    killed_s = time.time()
    kill()
    run.until(lambda: all(run.homes()[name] != fleet for name in orphans))
    ended_s, results = time.time(), run.results()
    others = [moments for name in names if name not in orphans for moments in [results[name][homes[name]]]]
    gaps = [later - earlier for moments in others for earlier, later in pairwise(moments) if killed_s < later < ended_s]
    return {
        "cameras": len(orphans),
        "longest_silence_s": max(_silences(results, orphans, fleet)),
        "others_longest_silence_s": round(max(gaps, default=0.0), 3),
    }


def _back(run: ClusterRun, names: Sequence[str], *fleets: str) -> dict[str, Any]:
    """What it costs the cameras that a new fleet takes from the one that had them all."""
    before = run.homes()
    _both(run, names, *fleets)
    after, results = run.homes(), run.results()
    moved = [name for name in names if before[name] != after[name]]
    silences = [silence for name in moved for silence in _silences(results, [name], before[name])]
    return {"cameras": len(moved), "longest_silence_s": max(silences, default=0.0)}


def _silences(results: Times, names: Sequence[str], fleet: str) -> list[float]:
    """Seconds from each camera's last result of that fleet to its first one after it."""
    found = []
    for name in names:
        last_s = results[name][fleet][-1]
        found.append(round(min(t for times in results[name].values() for t in times if t > last_s) - last_s, 3))
    return found


def add_cluster(commands: Any) -> None:
    """The command `cluster`."""
    text = (
        "how long cameras are silent when a part of a Ray cluster dies: a process killed, one stopped, a node removed"
    )
    parser = commands.add_parser("cluster", help=text, description=text)
    parser.add_argument("--cameras", type=int, default=8, metavar="N", help="default %(default)s")
    parser.add_argument("--demand", type=float, default=4.0, metavar="FPS", help="of each camera (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/cluster"), metavar="DIR", help="default %(default)s")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    if options.cameras < 2:
        raise ValueError(f"two nodes need at least two cameras, got {options.cameras}")
    asked = Asked(options.cameras, options.demand, options.out)
    return measure(asked, read_profile(PROFILES / "t4.json"))

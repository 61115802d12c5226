"""Runs a profile of docker-compose.yml without an engine: the same commands, arguments, variables, paths and checks.

Each service gets what its container would: the files that its image copies, read-only, its volumes, a /tmp of its own,
no capability, the network of the stack or none, the variables of the file and no others. `bubblewrap` makes it; the
packages are those of this machine's environments instead of the images'. Run it inside `pod_command`, whose network has
a loopback of its own, on which the services' names stand for each other.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compose_file import ROOT, command, copied, health_command, in_order, services

NAMES = ("triton", "streams", "prometheus", "cameras")
_IMAGE_PATH = "/opt/venv/bin:/usr/local/bin:/usr/bin:/bin"
_PATIENCE_S = 240.0
_LOOK_S = 0.2


def pod_command(folder: Path, *arguments: str) -> list[str]:
    """What runs this file with `arguments` on a network of its own; `folder` holds volumes, logs and hosts."""
    hosts = folder / "hosts"
    hosts.write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", *NAMES)))
    inside = [sys.executable, str(Path(__file__).resolve()), str(folder), *arguments]
    box = ["bwrap", "--unshare-net", "--die-with-parent", "--dev-bind", "/", "/", "--tmpfs", "/dev/shm"]
    return [*box, "--ro-bind", str(hosts), "/etc/hosts", "--", *inside]


class Container:
    """One service."""

    def __init__(self, name: str, service: dict[str, Any], folder: Path) -> None:
        self.name = name
        self.service = service
        self.log = folder / f"{name}.log"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run the command of the service; its output goes to its log."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._boxed(self._command()), stdout=log, stderr=log)

    def has_ended(self) -> int | None:
        """Its exit code, None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def is_healthy(self) -> bool:
        """What the file's own health check says, run where the service runs."""
        asked = subprocess.run(self._boxed(health_command(self.service)), capture_output=True, check=False)
        return asked.returncode == 0

    def stop(self) -> float:
        """SIGTERM, and SIGKILL after the file's grace period; seconds that it took."""
        assert self._process is not None
        started_s = time.monotonic()
        grace_s = float(self.service.get("stop_grace_period", "10s").removesuffix("s"))
        for pid in children(self._process.pid):  # bubblewrap itself passes no signal on
            os.kill(pid, signal.SIGTERM)
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return float("inf")
        return time.monotonic() - started_s

    def _command(self) -> list[str]:
        words = command(self.service)
        return ["prometheus", *words] if self.service["image"].startswith("prom/") else words

    def _boxed(self, words: list[str]) -> list[str]:
        uid, gid = self.service["user"].split(":")
        box = ["bwrap", "--unshare-user", "--uid", uid, "--gid", gid, "--die-with-parent", "--clearenv"]
        box += ["--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc", "--proc", "/proc", "--dev", "/dev"]
        box += ["--ro-bind", "/dev/null", "/.dockerenv"]  # by which one knows a container
        if not sys.base_prefix.startswith("/usr"):
            box += ["--ro-bind", sys.base_prefix, sys.base_prefix]  # where this machine's Python is
        for place in ("bin", "sbin", "lib", "lib64"):
            box += ["--symlink", f"usr/{place}", f"/{place}"]
        box += ["--bind", "/dev/shm", "/dev/shm", "--tmpfs", "/tmp", *self._image(), *self._volumes()]
        if self.service.get("network_mode") == "none":
            box += ["--unshare-net"]
        for name, value in {"PATH": _IMAGE_PATH, **image_variables(), **self.service.get("environment", {})}.items():
            box += ["--setenv", name, str(value)]
        return [*box, "--remount-ro", "/", "--chdir", "/app", "--", *words]

    def _image(self) -> list[str]:
        """The files that the Dockerfile copies, and this machine's environments in place of the image's."""
        if "build" not in self.service:
            return ["--dir", "/app"]
        box = ["--ro-bind", str((ROOT / ".venv").resolve()), "/opt/venv"]
        if self.service["build"].get("target") == "cpu":
            box += ["--ro-bind", str((ROOT / ".venv-triton").resolve()), "/app/.venv-triton"]
        for source, place in copied(self.service["build"]):
            box += ["--ro-bind", str(ROOT / source), place]
        return box

    def _volumes(self) -> list[str]:
        box = []
        for volume in self.service.get("volumes", ()):
            source, target, *mode = volume.split(":")
            host = ROOT / source if source.startswith(".") else self._folder / "volumes" / source
            if source == "clips":
                host = ROOT / "demo" / "clips"  # rendered once for all tests
            if not host.exists():
                host.mkdir(parents=True)  # as an engine does
            box += ["--ro-bind" if mode == ["ro"] else "--bind", str(host), target]
        return box


def image_variables() -> dict[str, str]:
    """What our Dockerfiles set."""
    return {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def run(folder: Path, profile: str, left_out: tuple[str, ...]) -> dict[str, Any]:
    """Start in order, wait for the first detection and for what Prometheus sees, stop in reverse order."""
    found = {name: one for name, one in services(profile).items() if name not in left_out}
    containers: list[Container] = []
    told: dict[str, Any] = {"order": [], "ready_s": {}}
    started_s = time.monotonic()
    try:
        for name in in_order(profile):
            if name in left_out:
                continue
            container = Container(name, found[name], folder)
            containers.append(container)
            container.start()
            told["order"].append(name)
            wait_for(lambda container=container: is_ready(container), f"{name} is not ready", container.log)
            told["ready_s"][name] = round(time.monotonic() - started_s, 1)
        results = folder / "volumes" / "results" / "detections.jsonl"
        wait_for(lambda: b"\n" in results.read_bytes(), "no detection", results)
        told["first_detection_s"] = round(time.monotonic() - started_s, 1)
        told["first"] = json.loads(results.read_text().splitlines()[0])
        wait_for(lambda: targets_up() >= {"streams", "triton"}, "Prometheus sees too little", folder / "prometheus.log")
        told["targets"] = sorted(targets_up())
    finally:
        told["stopped_s"] = {one.name: round(one.stop(), 1) for one in reversed(containers) if one.has_ended() is None}
    told["left_in_shm"] = sorted(path.name for path in Path("/dev/shm").iterdir())
    return told


def is_ready(container: Container) -> bool:
    """A one-shot has ended well, a service is healthy by its own check. SystemExit: it has ended badly."""
    code, is_one_shot = container.has_ended(), container.service["restart"] == "no"
    if code is not None and (code != 0 or not is_one_shot):
        raise SystemExit(f"{container.name} ended with {code}:\n{container.log.read_text()[-3000:]}")
    return code == 0 if is_one_shot else container.is_healthy()


def targets_up() -> set[str]:
    """Jobs whose target Prometheus could scrape."""
    with urllib.request.urlopen("http://prometheus:9090/api/v1/query?query=up==1", timeout=5) as answer:
        return {one["metric"]["job"] for one in json.load(answer)["data"]["result"]}


def wait_for(happens: Callable[[], bool], otherwise: str, log: Path) -> None:
    """Until `happens`; SystemExit with the end of the log when it does not in time."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            if happens():
                return
        except OSError:
            pass  # a file or a port that is not there yet
        if time.monotonic() > deadline_s:
            raise SystemExit(f"{otherwise}:\n{log.read_text()[-3000:] if log.exists() else ''}")
        time.sleep(_LOOK_S)


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), sys.argv[2], tuple(sys.argv[3:]))))

"""Faults, injected one after the other into one running fleet: what each does, and what it says when it is over.

Each fault is a function that does harm, waits as long as the harm is to last, undoes it and returns a remark. Whether
all cameras came back, and after how long, is not its business (reliability.py).
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from clients.errors import FleetError
from deploy.ports import free_port
from deploy.server import TritonServer
from loadtest.bad_cameras import MJPEG_HEAD, bad_camera, picture_parts
from loadtest.watched_fleet import WatchedFleet

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
_AWAY_S, _HOLD_S = 2.0, 10.0
_REGION_TOO_LARGE = 20_000_000  # bytes; less than a region of shared memory, more than the files that are written


class CannotInject(FleetError):
    """What the fault needs is not on this machine."""


@dataclass(slots=True)
class Stack:
    """What runs: the server, the fleet, its configuration as a value, its metrics' port, and the file of its clock."""

    server: TritonServer
    fleet: WatchedFleet
    content: dict[str, Any]
    metrics_port: int
    clock: Path | None
    folder: Path

    def write_config(self, content: dict[str, Any] | str) -> None:
        """As editors do it: a new file in place of the old one."""
        draft = self.fleet.config.with_suffix(".new")
        draft.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        draft.replace(self.fleet.config)

    def until_said(self, words: str, times: int = 1) -> None:
        """Until the fleet's log has said so, so many times more than now."""
        before = self.fleet.said(words)
        self.fleet.wait_for(lambda: self.fleet.said(words) >= before + times)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that put the fleet's wall clock into a file, where libfaketime is there."""
        if self.clock is None:
            return {}
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_CACHE_DURATION": "1",  # reading the file at every look at the clock would starve the fleet
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


def server_killed(stack: Stack) -> str:
    """SIGKILL; it comes back after a few seconds."""
    os.kill(stack.server.pid, signal.SIGKILL)
    time.sleep(_AWAY_S)
    stack.server.restart()
    return f"away for {_AWAY_S:g} s and the time of its start"


def server_stopped(stack: Stack) -> str:
    """SIGSTOP: connected, and silent."""
    os.kill(stack.server.pid, signal.SIGSTOP)
    time.sleep(_AWAY_S)
    os.kill(stack.server.pid, signal.SIGCONT)
    return f"stopped for {_AWAY_S:g} s"


def client_killed(stack: Stack) -> str:
    """SIGKILL in the middle of its requests, and started again on the same server."""
    stack.fleet.kill()
    stack.fleet.start(stack.environment)
    stack.fleet.wait_for(lambda: stack.fleet.said("given back to the server") > 0)
    return "its region of shared memory was given back by the next one"


def prometheus_killed(stack: Stack) -> str:
    """SIGKILL of who scrapes it every second."""
    program = shutil.which("prometheus")
    if program is None:
        raise CannotInject("there is no prometheus here")
    jobs = [{"job_name": "streams", "static_configs": [{"targets": [f"127.0.0.1:{stack.metrics_port}"]}]}]
    config = stack.folder / "prometheus.yml"
    config.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
    port = free_port("127.0.0.1")
    command = [program, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}"]
    command.append(f"--storage.tsdb.path={stack.folder / 'prometheus'}")
    with (stack.folder / "prometheus.log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            stack.fleet.wait_for(lambda: b'"1"' in _asked(f"http://127.0.0.1:{port}/api/v1/query?query=sum(up)"))
        finally:
            process.kill()
    return "while it scraped"


def config_broken(stack: Stack) -> str:
    """The file cannot be used any more, and then it can again."""
    before = stack.fleet.said("nothing is changed")
    stack.write_config("cameras: [{id: a, sorce: x}]")
    stack.fleet.wait_for(lambda: stack.fleet.said("nothing is changed") > before)
    stack.write_config(stack.content)
    return "one line says what is wrong; nothing is changed"


def camera_flapping(stack: Stack) -> str:
    """One camera more that sends a second of pictures, hangs up and is there again at once."""
    times = 0

    def flap(connection: socket.socket, _stop: threading.Event) -> None:
        nonlocal times
        times += 1
        connection.sendall(MJPEG_HEAD)
        for picture in picture_parts():
            connection.sendall(picture)
            time.sleep(0.04)

    with bad_camera(flap) as url:
        flapping = {"id": "flapping", "source": url}
        stack.write_config(stack.content | {"cameras": [*stack.content["cameras"], flapping]})
        stack.fleet.wait_for(lambda: times >= 2)
        began_s, first = time.monotonic(), times
        time.sleep(_HOLD_S)
        rate = (times - first) / (time.monotonic() - began_s)
        before = stack.fleet.said("removed flapping")
        stack.write_config(stack.content)
        stack.fleet.wait_for(lambda: stack.fleet.said("removed flapping") > before)
    return f"connected {rate:.1f} times a second, which is what the pauses between two tries leave of once a second"


def clock_jumps(stack: Stack) -> str:
    """The machine's wall clock jumps an hour forward, three back, and home again."""
    if stack.clock is None:
        raise CannotInject("there is no libfaketime here")
    for offset, hours in (("+1h", 1), ("-2h", -2), ("+0h", 0)):
        stack.clock.write_text(f"{offset}\n")
        stack.fleet.wait_for(lambda hours=hours: round(_hours_ahead(stack.fleet.log), 1) == hours)  # type: ignore[misc]
        time.sleep(1)
    return "one hour forward, three back, two forward"


def shared_memory_full(stack: Stack) -> str:
    """The server is killed, and when it is back there is no room for a region of shared memory."""
    pid, words = stack.fleet.pid, "frames travel by gRPC until the next start"
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (_REGION_TOO_LARGE, hard))
    try:
        os.kill(stack.server.pid, signal.SIGKILL)
        stack.server.restart()
        stack.fleet.wait_for(lambda: stack.fleet.said(words) > 0)
        without = stack.fleet.lost()
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
    if without:
        raise FleetError(f"no results while /dev/shm has no room: {', '.join(without)}")
    return "when the server, killed, was back; frames travelled by gRPC then (refused by RLIMIT_FSIZE)"


FAULTS: dict[str, Callable[[Stack], str]] = {
    "server-killed": server_killed,
    "server-stopped": server_stopped,
    "prometheus-killed": prometheus_killed,
    "config-broken": config_broken,
    "camera-flapping": camera_flapping,
    "clock-jumps": clock_jumps,
    "client-killed": client_killed,
    "shm-full": shared_memory_full,
}


def _hours_ahead(log: Path) -> float:
    """How far the clock by which the fleet dates its newest log line is ahead of ours."""
    newest = json.loads(log.read_text(encoding="utf-8").rstrip("\n").splitlines()[-1])
    return (datetime.fromisoformat(newest["time"]).timestamp() - time.time()) / 3600


def _asked(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bytes(answer.read())
    except OSError:
        return b""

"""A real fleet that serves its API and wall: `python -m clients run` in a process of its own, on any free port."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from conftest import PATIENCE_S, ROOT

_URL = re.compile(r"the live wall: (https?://\S+)/")


@dataclass(frozen=True, slots=True)
class Served:
    """A running one: where it answers, its process, and a client that goes there."""

    url: str
    process: psutil.Process
    log: Path
    http: httpx.Client

    def add(self, stream_id: str, source: Path | str, **options: Any) -> httpx.Response:
        """Add a camera."""
        return self.http.post("/v1/streams", json={"id": stream_id, "source": str(source), **options})

    def until_inferred(self, stream_id: str) -> dict[str, Any]:
        """Wait for a camera's first result and return it."""
        while True:
            response = self.http.get(f"/v1/streams/{stream_id}/detections")
            assert response.status_code == 200, response.text
            if response.json()["results"]:
                newest: dict[str, Any] = response.json()["results"][-1]
                return newest
            time.sleep(0.05)


@contextmanager
def serving(
    config: Path, log: Path, token: str | None = None, *, verify: ssl.SSLContext | bool = True
) -> Iterator[Served]:
    """The fleet of this configuration while the test looks at it; its cameras run when it is given out."""
    command = [sys.executable, "-m", "clients", "run", "--config", str(config), "--no-watch"]
    environment = os.environ | ({"WALL_TOKEN": token} if token else {})
    with log.open("w") as file, subprocess.Popen(command, cwd=ROOT, stderr=file, stdout=file, env=environment) as run:
        try:
            url = _ready(log, run, verify)
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            with httpx.Client(base_url=url, headers=headers, timeout=20, verify=verify) as client:
                yield Served(url, psutil.Process(run.pid), log, client)
        finally:
            run.send_signal(signal.SIGTERM)
            code = run.wait(30)
    assert code in (0, 1), log.read_text()  # 1: nothing was inferred
    assert "Traceback" not in log.read_text(), log.read_text()


def _ready(log: Path, run: subprocess.Popen[bytes], verify: ssl.SSLContext | bool) -> str:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s and run.poll() is None:
        found = _URL.search(log.read_text())
        if found is not None and httpx.get(f"{found[1]}/readyz", verify=verify).status_code == 200:
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"it does not become ready: {log.read_text()}")

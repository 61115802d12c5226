"""`python -m clients run` as a process of its own, and its results as they are written: who is silent for how long.

A thread reads the results' file twenty times a second, so a silence is told to 0.05 s. What a camera answers is checked
too: with an emulated card every answer carries the number of the camera that asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from clients.errors import FleetError

ROOT = Path(__file__).resolve().parent.parent
_LOOK_S = 0.05
_PATIENCE_S = 60.0


@dataclass(slots=True)
class Seen:
    """One camera's results: how many, the newest's time, the longest silence since `mark`, and how many were wrong."""

    results: int = 0
    last_s: float = 0.0
    silence_s: float = 0.0
    wrong: int = 0


class WatchedFleet:
    """A fleet that may be killed and started again; `cameras` are those that must never be lost."""

    def __init__(self, config: Path, results: Path, cameras: Sequence[str], log: Path, *, coded: bool = True) -> None:
        """`coded`: each result must be one object whose class is the camera's own number."""
        self.config, self.results, self.log = config, results, log
        self.cameras = tuple(cameras)
        self._coded = coded
        self._seen = {name: Seen() for name in cameras}
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._follow, name="results", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._done.set()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._thread.join()

    @property
    def pid(self) -> int:
        """Of the fleet. Raises FleetError when it was not started."""
        if self._process is None:
            raise FleetError("the fleet was not started")
        return self._process.pid

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start it, with these variables too; returns at once."""
        command = [sys.executable, "-m", "clients", "run", "--config", str(self.config)]
        variables = os.environ | (environment or {})
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> tuple[float, dict[str, Any]]:
        """SIGTERM; how many seconds it took to end, and its summary. Raises FleetError when it did not end well."""
        if self._process is None:
            raise FleetError("the fleet was not started")
        began_s = time.monotonic()
        self._process.terminate()
        try:
            output, _ = self._process.communicate(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise FleetError(f"the fleet did not end within {_PATIENCE_S:g} s of SIGTERM") from None
        took_s = time.monotonic() - began_s
        if self._process.returncode != 0:
            raise FleetError(f"the fleet ended with code {self._process.returncode}; its log is {self.log}")
        summary: dict[str, Any] = json.loads(output.splitlines()[-1])
        return took_s, summary

    def mark(self) -> None:
        """Silences are counted from now on."""
        with self._lock:
            now_s = time.monotonic()
            for seen in self._seen.values():
                seen.silence_s, seen.last_s = 0.0, now_s

    def silence_s(self) -> float:
        """The longest silence of a camera since `mark`."""
        with self._lock:
            now_s = time.monotonic()
            return max(max(seen.silence_s, now_s - seen.last_s) for seen in self._seen.values())

    def wrong(self) -> int:
        """Answers so far that were another camera's."""
        with self._lock:
            return sum(seen.wrong for seen in self._seen.values())

    def lost(self, results: int = 3) -> list[str]:
        """Wait until each camera has so many results more; those that have not within a minute."""
        with self._lock:
            wanted = {name: seen.results + results for name, seen in self._seen.items()}
        self.wait_for(lambda: all(self._seen[name].results >= wanted[name] for name in wanted), must=False)
        with self._lock:
            return [name for name, number in wanted.items() if self._seen[name].results < number]

    def wait_for(self, condition: Callable[[], bool], *, must: bool = True) -> None:
        """Until it holds. Raises FleetError when the fleet has ended, or, if it `must`, after a minute."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while not condition():
            if self._process is not None and self._process.poll() is not None:
                raise FleetError(f"the fleet has ended with code {self._process.returncode}; its log is {self.log}")
            if time.monotonic() > deadline_s:
                if must:
                    raise FleetError(f"nothing happened for {_PATIENCE_S:g} s; the fleet's log is {self.log}")
                return
            time.sleep(_LOOK_S)

    def said(self, words: str) -> int:
        """How often the log says so."""
        return self.log.read_text(encoding="utf-8").count(words) if self.log.exists() else 0

    def _follow(self) -> None:
        at, rest = 0, b""
        while not self._done.wait(_LOOK_S):
            try:
                with self.results.open("rb") as file:
                    if os.fstat(file.fileno()).st_size < at:  # a new fleet has begun the file anew
                        at, rest = 0, b""
                    file.seek(at)
                    data = file.read()
            except FileNotFoundError:
                continue
            at += len(data)
            *lines, rest = (rest + data).split(b"\n")
            with self._lock:
                for line in filter(None, lines):
                    self._take(json.loads(line), time.monotonic())

    def _take(self, told: dict[str, Any], now_s: float) -> None:
        seen = self._seen.get(told["camera"])
        if seen is None:  # one that comes and goes
            return
        seen.silence_s = max(seen.silence_s, now_s - seen.last_s) if seen.results else 0.0
        seen.results, seen.last_s = seen.results + 1, now_s
        if self._coded:
            expected = [f"camera {int(told['camera'].removeprefix('cam'))}"]
            seen.wrong += [one["class"] for one in told["objects"]] != expected
